package cloudinit

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func fullSeed() Seed {
	return Seed{
		MetaData: MetaData{
			InstanceID: "4a1d", LocalHostname: "web.example", Name: "my web", AvailabilityZone: "nova", ProjectID: "p",
			PublicKeys: []string{"ssh-ed25519 AAAA me", "ssh-rsa BBBB you"}, KeyName: "mine", LaunchIndex: 3, Meta: map[string]string{"role": "front"}, RandomSeed: []byte{1, 2, 255},
			TaggedNICs: []TaggedNIC{{"fa:16:3e:00:00:01", "lan"}},
		},
		UserData: []byte("#!/bin/sh\necho \x00\xff\n"), VendorData: []byte("#cloud-config\nhostname: x\n"),
		Network: &NetworkConfig{Links: []Link{
			{Name: "eth0", MAC: "52:54:00:00:00:01", MTU: 1450,
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/20"), netip.MustParsePrefix("fd00::5/64")},
				Gateway4:  netip.MustParseAddr("10.0.0.1"), Gateway6: netip.MustParseAddr("fd00::1"),
				Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
			{Name: "eth1", MAC: "52:54:00:00:00:02", DHCP4: true},
		}},
	}
}

func drive(t *testing.T, s *Seed) fstest.MapFS {
	t.Helper()
	files, err := s.ConfigDrive()
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for name, data := range files {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	return fsys
}

func TestConfigDrive(t *testing.T) {
	want := fullSeed()
	files := drive(t, &want)
	for _, name := range []string{"meta_data.json", "network_data.json", "vendor_data.json"} {
		golden(t, name+".golden", files["openstack/latest/"+name].Data)
	}
	got, err := ParseConfigDrive(files)
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v\nwant %+v\nerr %v", got, want, err)
	}
	bare := Seed{MetaData: MetaData{InstanceID: "x"}}
	if got, err := ParseConfigDrive(drive(t, &bare)); err != nil || !reflect.DeepEqual(got.MetaData, bare.MetaData) || got.Network != nil {
		t.Errorf("bare: %+v, err %v", got, err)
	}
	if _, err := (&Seed{}).ConfigDrive(); !errors.Is(err, ErrInvalid) {
		t.Errorf("empty seed: %v", err)
	}
}

func TestParseConfigDriveInvalid(t *testing.T) {
	const meta = `{"uuid": "x"}`
	for name, files := range map[string]map[string]string{
		"nothing":     {},
		"no JSON":     {"meta_data.json": "{"},
		"no uuid":     {"meta_data.json": "{}"},
		"hostname":    {"meta_data.json": `{"uuid": "x", "hostname": "a b"}`},
		"random seed": {"meta_data.json": `{"uuid": "x", "random_seed": "!"}`},
		"vendor":      {"meta_data.json": meta, "vendor_data.json": "x"},
		"large":       {"meta_data.json": meta, "user_data": strings.Repeat("x", maxUserData+1)},
		"link":        {"meta_data.json": meta, "network_data.json": `{"networks": [{"link": "a"}]}`},
		"mask":        {"meta_data.json": meta, "network_data.json": `{"links": [{"id": "a"}], "networks": [{"link": "a", "ip_address": "1.2.3.4", "netmask": "255.0.255.0"}]}`},
	} {
		fsys := fstest.MapFS{}
		for f, data := range files {
			fsys["openstack/latest/"+f] = &fstest.MapFile{Data: []byte(data)}
		}
		if s, err := ParseConfigDrive(fsys); err == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestVendorDataList(t *testing.T) {
	data, err := decodeVendorData([]byte(`{"cloud-init": ["#!/bin/sh\na", "#cloud-config\nhostname: b"]}`))
	if err != nil {
		t.Fatal(err)
	}
	u := ParseUserData(nil, data)
	if len(u.Scripts) != 1 || u.Config.Hostname != "b" || len(u.Warnings) > 0 {
		t.Errorf("%+v", u)
	}
}

func FuzzParseConfigDrive(f *testing.F) {
	f.Add([]byte(`{"uuid": "x"}`), []byte(`"a"`), []byte(`{"links": [{"id": "a"}], "networks": [{"link": "a", "ip_address": "::1/64"}]}`))
	f.Fuzz(func(_ *testing.T, meta, vendor, network []byte) {
		_, _ = ParseConfigDrive(fstest.MapFS{
			"openstack/latest/meta_data.json":    &fstest.MapFile{Data: meta},
			"openstack/latest/vendor_data.json":  &fstest.MapFile{Data: vendor},
			"openstack/latest/network_data.json": &fstest.MapFile{Data: network},
		})
	})
}
