//go:build guest

package vmtest

import (
	"debug/elf"
	"os"
	"testing"
)

// slipway-init needs nothing beside it, and is small: each boot reads all of it.
func TestInitSize(t *testing.T) {
	name := os.Getenv("SLIPWAY_TEST_INIT")
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= 6e6 {
		t.Errorf("%d bytes", info.Size())
	}
	f, err := elf.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it is not static")
		}
	}
}
