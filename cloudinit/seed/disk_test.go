package seed

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/slipway-vm/slipway/cloudinit"
)

func fullSeed() *cloudinit.Seed {
	return &cloudinit.Seed{
		MetaData:   cloudinit.MetaData{InstanceID: "4a1d", Name: "web", LocalHostname: "web", PublicKeys: []string{"ssh-ed25519 AAAA me"}},
		UserData:   []byte("#!/bin/sh\necho \x00\xff\n"),
		VendorData: []byte("#cloud-config\n{}\n"),
		Network: &cloudinit.NetworkConfig{Links: []cloudinit.Link{{
			Name: "eth0", MAC: "52:54:00:00:00:01", MTU: 1450, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/20")},
			Gateway4: netip.MustParseAddr("10.0.0.1"), Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		}}},
	}
}

// TestDisk writes and reads a seed's disk of each kind.
func TestDisk(t *testing.T) {
	for _, kind := range []FileSystem{ISO9660, FAT} {
		for _, label := range []string{cloudinit.NoCloudLabel, cloudinit.ConfigDriveLabel} {
			t.Run(string(kind)+" "+label, func(t *testing.T) {
				name := filepath.Join(t.TempDir(), "disk")
				for range 2 { // the second lies over the first
					if err := WriteDisk(name, kind, label, fullSeed()); err != nil {
						t.Fatal(err)
					}
				}
				disk, err := os.Open(name)
				if err != nil {
					t.Fatal(err)
				}
				defer disk.Close()
				got, err := ReadDisk(disk)
				if err != nil || !reflect.DeepEqual(got, fullSeed()) {
					t.Errorf("read %+v, err %v", got, err)
				}
				left, err := os.ReadDir(filepath.Dir(name))
				if err != nil || len(left) != 1 {
					t.Errorf("left %v, err %v", left, err)
				}
			})
		}
	}
}

// TestBareDisk reads a seed that has but an ID.
func TestBareDisk(t *testing.T) {
	for _, kind := range []FileSystem{ISO9660, FAT} {
		name := filepath.Join(t.TempDir(), "disk")
		if err := WriteDisk(name, kind, cloudinit.ConfigDriveLabel, &cloudinit.Seed{MetaData: cloudinit.MetaData{InstanceID: "x"}}); err != nil {
			t.Fatal(err)
		}
		disk, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		if s, err := ReadDisk(disk); err != nil || s.MetaData.InstanceID != "x" || s.UserData != nil || s.Network != nil {
			t.Errorf("%s: read %+v, err %v", kind, s, err)
		}
	}
}

func TestReadDiskInvalid(t *testing.T) {
	iso := filepath.Join(t.TempDir(), "iso")
	if err := WriteDisk(iso, ISO9660, cloudinit.NoCloudLabel, fullSeed()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		data []byte
		none bool
	}{
		"empty": {nil, true},
		"zero":  {make([]byte, 1<<20), true},
		"short": {whole[:0x8800], false},
		"other": {append(append(append([]byte(nil), whole[:0x8028]...), "other "...), whole[0x802e:]...), true},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			if err := os.WriteFile(file, tt.data, 0o600); err != nil {
				t.Fatal(err)
			}
			disk, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer disk.Close()
			if s, err := ReadDisk(disk); err == nil || errors.Is(err, ErrNoSeed) != tt.none {
				t.Errorf("read %+v, err %v", s, err)
			}
		})
	}
}

func FuzzReadDisk(f *testing.F) {
	for _, kind := range []FileSystem{ISO9660, FAT} {
		name := filepath.Join(f.TempDir(), "disk")
		if err := WriteDisk(name, kind, cloudinit.NoCloudLabel, fullSeed()); err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 1<<17)])
	}
	file := filepath.Join(f.TempDir(), "disk")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		disk, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		_, _ = ReadDisk(disk)
	})
}
