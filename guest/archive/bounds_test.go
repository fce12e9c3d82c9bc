package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A tree that is too deep is refused before it takes all memory and descriptors.
func TestDepth(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for range maxDepth + 2 {
		must(t, err, unix.Mkdirat(fd, "d", 0o700))
		next, err := unix.Openat(fd, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	err = Write(t.Context(), openRoot(t, dir), "/d", io.Discard)
	if err == nil || !strings.Contains(err.Error(), "directories deep") {
		t.Errorf("error %v", err)
	}
}

// Directories are read in pieces, and all of them.
func TestLargeDirectory(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "many"), 0o700))
	const files = namesAtOnce + 100
	for n := range files {
		must(t, os.WriteFile(filepath.Join(dir, "many", fmt.Sprint(n)), nil, 0o600))
	}
	var b bytes.Buffer
	must(t, Write(t.Context(), openRoot(t, dir), "/many", &b))
	found := map[string]bool{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		found[h.Name] = true
	}
	if len(found) != files+1 {
		t.Errorf("%d entries of %d", len(found), files+1)
	}
}
