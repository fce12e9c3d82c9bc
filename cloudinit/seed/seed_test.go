package seed

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/slipway-vm/slipway/cloudinit"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 && e.Name() != "process.json" {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		list = append(list, e.Name())
	}
	return list
}

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "share", "seed")
	s := &cloudinit.Seed{
		MetaData: cloudinit.MetaData{InstanceID: "x"}, VendorData: []byte("v"), Network: &cloudinit.NetworkConfig{},
	}
	if err := Write(dir, s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "process.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"meta-data", "network-config", "process.json", "user-data", "vendor-data"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	s.VendorData, s.Network = nil, nil
	if err := Write(dir, s); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"meta-data", "process.json", "user-data"}) {
		t.Errorf("files after a second seed %v", got)
	}
	if err := Write(dir, &cloudinit.Seed{}); err == nil {
		t.Error("wrote an invalid seed")
	}
}
