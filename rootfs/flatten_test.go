package rootfs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// One flat image shows what overlayfs shows of the layers, and nothing is in it
// that they hide.
func TestFlatten(t *testing.T) {
	capable := PAX(File("bin/tool", "tool"), map[string]string{"SCHILY.xattr.user.a": "kept", "SCHILY.xattr.trusted.b": "too"})
	capable.Mode, capable.Uid = 0o4751, 12
	base := []Entry{Dir("./", 0o711), Dir("bin", 0o711), capable, File("big", strings.Repeat("0123456789", 1000)), Symlink("ln", "bin/tool"),
		File("gone", "secret1"), File("dir/gone", "secret2"), Dir("opaque", 0o700), File("opaque/gone", "secret3"), Link("big2", "big"),
		Dir("usr/lib", 0o755), Symlink("lib", "usr/lib"), File("file", "x"), Dir("tree", 0o755), File("tree/a/b", "secret4")}
	over := []Entry{File(".wh.gone", ""), File("dir/.wh.gone", ""), File("dir/new", "new"), File("opaque/.wh..wh..opq", ""), File("opaque/new", "new"),
		File("lib/through", "a link"), Link("bin/again", "bin/tool"), Dir("file", 0o750), File("file/in", "y"), File("tree", "now a file")}
	top := []Entry{File("opaque/top", "top"), Link("third", "big"), Dir("bin", 0o755)}
	for name, img := range map[string][][]Entry{"three layers": {base, over, top}, "one layer": {base}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := unpack(t, s, Simple(t, img...))
			dir := t.TempDir()
			var flat [2][]byte
			for i := range flat {
				f, err := os.Create(filepath.Join(dir, "flat"))
				if err != nil {
					t.Fatal(err)
				}
				size, err := b.Flatten(t.Context(), f, [16]byte{1})
				if err == nil {
					err = f.Truncate(size)
				}
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
				if flat[i], err = os.ReadFile(f.Name()); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(flat[0], flat[1]) {
				t.Error("the second image differs from the first")
			}
			if name == "three layers" && bytes.Contains(flat[0], []byte("secret")) {
				t.Error("it holds what the layers hide")
			}
			image := filepath.Join(dir, "flat")
			if out, err := exec.Command("fsck.erofs", "--extract", image).CombinedOutput(); err != nil {
				t.Errorf("fsck.erofs: %v\n%s", err, out)
			}
			o := clone(t, s, b)
			layers := filepath.Join(dir, "layers")
			if err := o.MountBase(t.Context(), layers); err != nil {
				t.Fatal(err)
			}
			alone := filepath.Join(dir, "alone")
			if err := os.Mkdir(alone, 0o755); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("mount", "-t", "erofs", "-o", "loop,ro", image, alone).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			defer func() {
				if err := unix.Unmount(alone, 0); err != nil {
					t.Error(err)
				}
			}()
			if got, want := archive(t, alone), archive(t, layers); !bytes.Equal(got, want) {
				t.Errorf("the trees differ:\n%s\nwant\n%s", listing(t, got), listing(t, want))
			}
		})
	}
}

// archive is all that can be seen of a tree.
func archive(t *testing.T, dir string) []byte {
	t.Helper()
	c := exec.Command("tar", "--create", "--directory", dir, "--format=pax", "--pax-option=exthdr.name=%f,delete=atime,delete=ctime",
		"--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=*", ".")
	var out, stderr bytes.Buffer
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("tar: %v: %s", err, &stderr)
	}
	return out.Bytes()
}

func listing(t *testing.T, archive []byte) []byte {
	t.Helper()
	c := exec.Command("tar", "--list", "--verbose", "--xattrs", "--xattrs-include=*")
	c.Stdin = bytes.NewReader(archive)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
