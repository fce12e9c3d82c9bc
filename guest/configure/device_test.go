package configure

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestIdentify has devices identified as the tools that made them say.
func TestIdentify(t *testing.T) {
	for _, tt := range []struct {
		want Device
		make []string
	}{
		{Device{FSType: "ext4", Label: "data", UUID: "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"},
			[]string{"mke2fs", "-q", "-t", "ext4", "-L", "data", "-U", "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"}},
		{Device{FSType: "ext4", UUID: "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"},
			[]string{"mke2fs", "-q", "-t", "ext2", "-U", "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"}},
		{Device{FSType: "vfat", Label: "BOOT", UUID: "1234-ABCD"}, []string{"mkfs.vfat", "-F", "16", "-n", "BOOT", "-i", "1234ABCD"}},
		{Device{FSType: "vfat", Label: "BOOT", UUID: "1234-ABCD"}, []string{"mkfs.vfat", "-F", "32", "-s", "1", "-n", "BOOT", "-i", "1234ABCD"}},
		{Device{FSType: "swap", Label: "s", UUID: "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"},
			[]string{"mkswap", "-L", "s", "-U", "0e8a2f6c-3b1d-4c55-9f0e-8f2a1d3c4b5a"}},
		{Device{}, []string{"true"}},
	} {
		name := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(64 << 20); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), tt.make[0], append(tt.make[1:], name)...)
		cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		var got Device
		if err := got.Identify(f); err != nil || got != tt.want {
			t.Errorf("%s: %+v, err %v", strings.Join(tt.make, " "), got, err)
		}
	}
}
