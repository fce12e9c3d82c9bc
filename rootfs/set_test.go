package rootfs_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs"
)

// writeSet makes the image twice and gives its file.
func writeSet(t *testing.T, s *rootfs.Store, set rootfs.Set) string {
	t.Helper()
	var made [2][]byte
	name := filepath.Join(t.TempDir(), "set")
	for i := range made {
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		size, err := s.WriteSet(t.Context(), f, [16]byte{1}, set)
		if err == nil {
			err = errors.Join(f.Truncate(size), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if made[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("the second image differs from the first")
	}
	return name
}

// The layers of a set, stacked by overlayfs, show what the base shows.
func TestWriteSet(t *testing.T) {
	lower := []Entry{Dir("bin", 0o711), File("bin/tool", "tool"), Link("bin/same", "bin/tool"), Symlink("ln", "bin/tool"),
		File("gone", "x"), Dir("opaque", 0o700), File("opaque/gone", "x"), File("file", "x")}
	// A directory that is only implied has no attributes of the one below it here.
	upper := []Entry{File(".wh.gone", ""), Dir("opaque", 0o700), File("opaque/.wh..wh..opq", ""), File("opaque/new", "new"), Dir("bin", 0o755), Dir("file", 0o750), File("file/in", "y")}
	s := open(t, t.TempDir())
	b := unpack(t, s, Simple(t, lower, upper))
	dir := t.TempDir()
	image := writeSet(t, s, rootfs.Set{
		Files:    map[string][]byte{"about/empty": nil, "about/large": []byte(strings.Repeat("0123456789", 1000))},
		Symlinks: map[string]string{"about/link": "../layers/one"},
		Layers:   map[string]v1.Hash{"layers/zero/diff": b.DiffIDs[0], "layers/one/diff": b.DiffIDs[1], "again": b.DiffIDs[0]},
	})
	if out, err := exec.Command("fsck.erofs", "--extract", image).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
	set, stacked, base := filepath.Join(dir, "set"), filepath.Join(dir, "stacked"), filepath.Join(dir, "base")
	for _, name := range []string{set, stacked} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "loop,ro", image, set).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(set, 0) })
	for name, want := range map[string]string{"about/empty": "", "about/large": strings.Repeat("0123456789", 1000), "again/bin/same": "tool"} {
		if got, err := os.ReadFile(filepath.Join(set, name)); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if target, err := os.Readlink(filepath.Join(set, "about/link")); err != nil || target != "../layers/one" {
		t.Errorf("link to %q, %v", target, err)
	}
	if err := unix.Mount("overlay", stacked, "overlay", unix.MS_RDONLY, "lowerdir="+set+"/layers/one/diff:"+set+"/layers/zero/diff"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(stacked, 0) })
	o := clone(t, s, b)
	if err := o.MountBase(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	if got, want := archive(t, stacked), archive(t, base); !bytes.Equal(got, want) {
		t.Errorf("the trees differ:\n%s\nwant\n%s", listing(t, got), listing(t, want))
	}
}

func TestWriteSetRefuses(t *testing.T) {
	s := open(t, t.TempDir())
	b := unpack(t, s, Simple(t, []Entry{File("big", "x")}, []Entry{Link("link", "big")}))
	f, err := os.Create(filepath.Join(t.TempDir(), "set"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = s.WriteSet(t.Context(), f, [16]byte{}, rootfs.Set{Layers: map[string]v1.Hash{"x": b.DiffIDs[1]}})
	if !errors.Is(err, rootfs.ErrLinked) {
		t.Errorf("a layer with a link to another's file: %v", err)
	}
	_, err = s.WriteSet(t.Context(), f, [16]byte{}, rootfs.Set{Layers: map[string]v1.Hash{"x": {Algorithm: "sha256", Hex: strings.Repeat("0", 64)}}})
	if !errors.Is(err, rootfs.ErrNotFound) {
		t.Errorf("a layer that is not there: %v", err)
	}
}
