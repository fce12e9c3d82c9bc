package cloudinit

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", name, got, want)
	}
}

func TestFiles(t *testing.T) {
	s := Seed{
		MetaData: MetaData{
			InstanceID: "4a1d", LocalHostname: "web.example", PublicKeys: []string{"ssh-ed25519 AAAA me"},
			Meta: map[string]string{"role": "front: \"end\""},
		},
		UserData:   []byte("#!/bin/sh\necho \x00\xff\n"),
		VendorData: []byte("#cloud-config\n"),
		Network: &NetworkConfig{Links: []Link{
			{
				Name: "eth0", MAC: "52:54:00:00:00:01", MTU: 1450,
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24"), netip.MustParsePrefix("fd00::5/64")},
				Gateway4:  netip.MustParseAddr("10.0.0.1"), Gateway6: netip.MustParseAddr("fd00::1"),
				Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Search: []string{"example"},
			},
			{Name: "eth1", MAC: "52:54:00:00:00:02", DHCP4: true},
		}},
	}
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "meta-data.golden", files[MetaDataFile])
	golden(t, "network-config.golden", files[NetworkConfigFile])
	if string(files[UserDataFile]) != string(s.UserData) || string(files[VendorDataFile]) != string(s.VendorData) {
		t.Errorf("user data %q, vendor data %q", files[UserDataFile], files[VendorDataFile])
	}
	meta, err := ParseMetaData(files[MetaDataFile])
	if err != nil || !reflect.DeepEqual(meta, s.MetaData) {
		t.Errorf("read back %+v, err %v", meta, err)
	}
	bare, err := (&Seed{MetaData: MetaData{InstanceID: "x"}}).Files()
	if err != nil || len(bare) != 2 || !strings.HasPrefix(string(bare[UserDataFile]), "#cloud-config") {
		t.Errorf("bare seed %q, err %v", bare, err)
	}
}

func TestInvalid(t *testing.T) {
	for name, s := range map[string]Seed{
		"no instance":   {},
		"bad hostname":  {MetaData: MetaData{InstanceID: "x", LocalHostname: "-web"}},
		"long hostname": {MetaData: MetaData{InstanceID: "x", LocalHostname: strings.Repeat("a", 65)}},
		"newline":       {MetaData: MetaData{InstanceID: "x", LocalHostname: "web\nroot"}},
		"no MAC":        {MetaData: MetaData{InstanceID: "x"}, Network: &NetworkConfig{Links: []Link{{Name: "eth0"}}}},
		"same name": {MetaData: MetaData{InstanceID: "x"}, Network: &NetworkConfig{Links: []Link{
			{Name: "eth0", MAC: "a"}, {Name: "eth0", MAC: "b"}}}},
	} {
		if files, err := s.Files(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, err %v", name, files, err)
		}
	}
}

func FuzzParseMetaData(f *testing.F) {
	f.Add([]byte("instance-id: x\nlocal-hostname: web\n"))
	f.Add([]byte(`{"instance-id": "x", "other": [1, {"a": null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseMetaData(data)
		if err != nil {
			return
		}
		if m.LocalHostname != "" && !validHostname(m.LocalHostname) {
			t.Errorf("hostname %q", m.LocalHostname)
		}
	})
}
