//go:build guest

package traces

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func TestOf(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "servers", "one")
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", target, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(target, 0) }()
	found, err := Of(dir)
	if want := []string{"mount " + target, "file servers/one"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("traces: %q, %v, want %q", found, err, want)
	}
}
