package launcher_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
)

// Whoever chooses what preloaded images do not go with, they are refused.
func TestPreloadRefused(t *testing.T) {
	b := newBench(t)
	disk := filepath.Join(t.TempDir(), "set.raw")
	if err := os.WriteFile(disk, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	flavor := func(name, value string) *launcher.Flavor {
		return &launcher.Flavor{ID: "1", Name: "one", VCPUs: 1, Memory: 1 << 30, Disk: 1 << 30, ExtraSpecs: map[string]string{name: value}}
	}
	for want, s := range map[string]launcher.Spec{
		"base VM image " + disk:  {BaseVMImage: disk},
		"with the base VM image": {Size: flavor(launcher.SpecBaseVM, disk)},
		"root mode 9p":           {RootMode: "9p"},
		"root mode virtiofs":     {Size: flavor(launcher.SpecRootMode, "virtiofs")},
		"not an absolute path":   {Preload: []string{"set.raw"}},
	} {
		s.Image, s.Preload = "oci:/x", append(s.Preload, disk)
		if _, err := b.m.Create(t.Context(), s, nil); !errors.Is(err, launcher.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
