package rootfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs"
)

func open(t testing.TB, dir string, change ...func(*rootfs.Config)) *rootfs.Store {
	t.Helper()
	c := rootfs.Config{Dir: dir}
	for _, f := range change {
		f(&c)
	}
	s, err := rootfs.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func unpack(t testing.TB, s *rootfs.Store, img v1.Image) *rootfs.Base {
	t.Helper()
	b, err := s.Unpack(t.Context(), img, rootfs.UnpackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const upperSize = 64 << 20

// clone makes an overlay and takes it down when the test ends.
func clone(t testing.TB, s *rootfs.Store, b *rootfs.Base) *rootfs.Overlay {
	t.Helper()
	o, err := s.Create(t.Context(), t.TempDir(), b, upperSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Unmount(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return o
}

func mount(t testing.TB, o *rootfs.Overlay) string {
	t.Helper()
	target := filepath.Join(o.Dir, "root")
	if err := o.Mount(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return target
}

func read(t testing.TB, elem ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func write(t testing.TB, body string, elem ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elem...), []byte(body), 0o644); err != nil {
		t.Error(err)
	}
}

// mounts counts the mounts and loop devices of anything below dir.
func mounts(t testing.TB, dir string) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	n := strings.Count(string(b), " "+dir+"/")
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(b), dir+"/") {
			n++
		}
	}
	return n
}

// left counts them until there are none. Tests of other packages, with mount namespaces
// of their own, may hold a loop device for as long as they run.
func left(t testing.TB, dirs ...string) int {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n := 0
		for _, dir := range dirs {
			n += mounts(t, dir)
		}
		if n == 0 || time.Now().After(deadline) {
			return n
		}
	}
}

func TestOverlay(t *testing.T) {
	for _, loops := range []bool{false, true} {
		t.Run(fmt.Sprintf("loops=%v", loops), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, func(c *rootfs.Config) { c.LoopLayers = loops })
			b := unpack(t, s, Simple(t,
				[]Entry{PAX(Dir("./", 0o750), map[string]string{"SCHILY.xattr.user.root": "yes"}), File("kept", "1"), File("deleted", "1"), Dir("old", 0o755), File("old/x", "1"), File("changed", "1")},
				[]Entry{File(".wh.deleted", ""), File("old/.wh..wh..opq", ""), File("old/y", "2"), File("changed", "2")},
			))
			one, two := clone(t, s, b), clone(t, s, b)
			r1, r2 := mount(t, one), mount(t, two)
			if err := one.Mount(t.Context(), r1); err != nil {
				t.Errorf("mounting again: %v", err)
			}
			if got := read(t, r1, "kept") + read(t, r1, "changed") + read(t, r1, "old/y"); got != "122" {
				t.Errorf("content %q", got)
			}
			for _, name := range []string{"deleted", "old/x"} {
				if _, err := os.Lstat(filepath.Join(r1, name)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s: %v", name, err)
				}
			}
			st, err := os.Stat(r1)
			if err != nil || st.Mode().Perm() != 0o750 || st.ModTime().Unix() != 1_000_000_000 {
				t.Errorf("root is %v of %v (%v)", st.Mode(), st.ModTime(), err)
			}
			value := make([]byte, 10)
			if n, err := unix.Getxattr(r1, "user.root", value); err != nil || string(value[:n]) != "yes" {
				t.Errorf("attribute of the root: %v", err)
			}

			write(t, "one", r1, "changed")
			write(t, "two", r2, "changed")
			if read(t, r1, "changed") != "one" || read(t, r2, "changed") != "two" {
				t.Error("two overlays see one another's writes")
			}
			if err := one.Unmount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if read(t, r2, "kept") != "1" {
				t.Error("unmounting one overlay disturbed the other")
			}
			r1 = mount(t, one)
			if read(t, r1, "changed") != "one" {
				t.Error("a write did not survive")
			}
			for _, o := range []*rootfs.Overlay{one, two, one} {
				if err := o.Unmount(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := left(t, dir, one.Dir, two.Dir); n != 0 {
				t.Errorf("%d mounts or loop devices left", n)
			}
		})
	}
}

// Another store on the same directory, as after a restart, knows what is
// mounted and takes it down.
func TestOverlayAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := unpack(t, s, Numbered(t, 3))
	one, two := clone(t, s, b), clone(t, s, b)
	mount(t, one)
	mount(t, two)
	before := mounts(t, dir)

	s = open(t, dir)
	if after := mounts(t, dir); after != before || before < 3 {
		t.Errorf("%d layer mounts before the restart, %d after", before, after)
	}
	again, err := s.Overlay(one.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if read(t, two.Dir, "root", "n") != "2" || mounts(t, dir) != before {
		t.Error("the other overlay was disturbed")
	}
	if again, err = s.Overlay(two.Dir); err != nil {
		t.Fatal(err)
	}
	if err := again.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := left(t, dir); n != 0 {
		t.Errorf("%d mounts left", n)
	}
}

// A layer mount that a killed process left is found and removed.
func TestOpenReleasesLayers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := unpack(t, s, Numbered(t, 1))
	target := filepath.Join(dir, "mounts", "sha256-"+b.DiffIDs[0].Hex)
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "ro,loop", b.Images()[0], target).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	open(t, dir)
	if n := left(t, dir); n != 0 {
		t.Errorf("%d mounts left", n)
	}
}

func TestManyLayers(t *testing.T) {
	t.Parallel()
	for _, n := range []int{420} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir)
			o := clone(t, s, unpack(t, s, Numbered(t, n)))
			r := mount(t, o)
			if got := read(t, r, "n"); got != fmt.Sprint(n-1) {
				t.Errorf("the uppermost layer is not on top: %s", got)
			}
			names, err := os.ReadDir(filepath.Join(r, "own"))
			if err != nil || len(names) != n {
				t.Errorf("%d layers show (%v)", len(names), err)
			}
			if err := o.Unmount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := left(t, dir); n != 0 {
				t.Errorf("%d mounts left", n)
			}
		})
	}
}

// A state directory may have any name.
func TestOddDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), `a,b:c\d "e`+"\n"+strings.Repeat("x", 200))
	if err := os.MkdirAll(filepath.Join(dir, "server"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	o, err := s.Create(t.Context(), filepath.Join(dir, "server"), unpack(t, s, Numbered(t, 2)), upperSize)
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, mount(t, o), "n"); got != "1" {
		t.Errorf("read %q", got)
	}
	if err := o.Unmount(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(b), "a,b:c") {
		t.Errorf("mounts left (%v)", err)
	}
}

// A directory that a layer has files in but no entry for keeps what the layers
// below say of it.
func TestImpliedDirectories(t *testing.T) {
	owned := func(name string, mode int64, uid int) Entry {
		e := PAX(Dir(name, mode), map[string]string{"SCHILY.xattr.user.a": name})
		e.Uid = uid
		return e
	}
	tests := []struct {
		name   string
		layers [][]Entry
		want   map[string]string // mode and owner
	}{
		{"below", [][]Entry{{owned("tmp", 0o1777, 7), owned("tmp/in", 0o700, 8)}, {File("tmp/in/f", "")}, {File("tmp/g", "")}},
			map[string]string{"tmp": "dtrwxrwxrwx 7 tmp", "tmp/in": "drwx------ 8 tmp/in"}},
		{"above", [][]Entry{{File("d/f", "")}, {owned("d", 0o711, 1)}, {File("d/g", "")}}, map[string]string{"d": "drwx--x--x 1 d"}},
		{"nowhere", [][]Entry{{File("d/f", "")}, {File("d/g", "")}}, map[string]string{"d": "drwxr-xr-x 0 "}},
		{"hidden", [][]Entry{{owned("d", 0o700, 1), owned("e", 0o700, 1), owned("l", 0o700, 1)}, {File(".wh.d", ""), File("e/.wh..wh..opq", ""), Symlink("l", "e")}, {File("d/f", ""), File("e/f", "")}},
			map[string]string{"d": "drwxr-xr-x 0 ", "e": "drwx------ 1 e"}},
		{"a file between", [][]Entry{{owned("d", 0o700, 1)}, {File("d", "")}, {File("d/f", "")}}, map[string]string{"d": "drwxr-xr-x 0 "}},
		{"replaced by a file", [][]Entry{{owned("d", 0o700, 1)}, {File("d/x/f", "")}, {File("d/x", "")}}, map[string]string{"d": "drwx------ 1 d"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			r := mount(t, clone(t, s, unpack(t, s, Simple(t, test.layers...))))
			for name, want := range test.want {
				var st unix.Stat_t
				if err := unix.Lstat(filepath.Join(r, name), &st); err != nil {
					t.Fatal(err)
				}
				fi, err := os.Lstat(filepath.Join(r, name))
				if err != nil {
					t.Fatal(err)
				}
				value := make([]byte, 100)
				n, _ := unix.Lgetxattr(filepath.Join(r, name), "user.a", value)
				if got := fmt.Sprintf("%v %d %s", fi.Mode(), st.Uid, value[:max(n, 0)]); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// A hard link may be to a file of a layer below.
func TestLinksBelow(t *testing.T) {
	capable := PAX(File("bin/tool", "tool"), map[string]string{"SCHILY.xattr.user.a": "kept"})
	capable.Mode, capable.Uid = 0o4751, 12
	base := []Entry{Dir("bin", 0o711), capable, File("big", strings.Repeat("0123456789", 1000)), Symlink("ln", "bin/tool"),
		File("sub/f", "sub"), Symlink("dir", "sub"), File("gone", "x"), File("over", "below"), Dir("d", 0o750)}
	over := []Entry{Link("bin/again", "bin/tool"), Link("other", "bin/tool"), Link("d/big", "big"), Link("ln2", "ln"), Link("dir/g", "dir/f"),
		Link("kept", "gone"), File(".wh.gone", ""), Link("over", "big"), File("over", "above")}
	top := []Entry{Link("third", "other"), File(".wh.other", ""), Link("bin/tool2", "third")}
	s := open(t, t.TempDir())
	r := mount(t, clone(t, s, unpack(t, s, Simple(t, base, over, top))))
	same := func(names ...string) {
		t.Helper()
		var first unix.Stat_t
		for i, name := range names {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(r, name), &st); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				first = st
			}
			if st.Ino != first.Ino || int(st.Nlink) != len(names) {
				t.Errorf("%s: inode %d with %d links, want %d with %d", name, st.Ino, st.Nlink, first.Ino, len(names))
			}
		}
	}
	same("big", "d/big")
	same("sub/f", "sub/g")
	same("ln", "ln2")
	same("third", "bin/tool2")
	for name, want := range map[string]string{"bin/tool": "tool", "bin/again": "tool", "third": "tool", "bin/tool2": "tool", "kept": "x", "over": "above",
		"sub/g": "sub", "dir/g": "sub"} {
		if got := read(t, r, name); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	if len(read(t, r, "d/big")) != 10_000 {
		t.Error("d/big is cut short")
	}
	for _, name := range []string{"bin/again", "bin/tool2", "third"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(r, name), &st); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, 10)
		n, _ := unix.Lgetxattr(filepath.Join(r, name), "user.a", value)
		if st.Mode&0o7777 != 0o4751 || st.Uid != 12 || string(value[:max(n, 0)]) != "kept" {
			t.Errorf("%s: mode %o, owner %d, attribute %q", name, st.Mode, st.Uid, value[:max(n, 0)])
		}
	}
	for _, name := range []string{"gone", "other"} {
		if _, err := os.Lstat(filepath.Join(r, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, mode := range map[string]os.FileMode{"bin": 0o711, "d": 0o750} {
		if fi, err := os.Stat(filepath.Join(r, name)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%s: %v (%v)", name, fi.Mode(), err)
		}
	}
}

func TestLinksToNothing(t *testing.T) {
	s := open(t, t.TempDir(), func(c *rootfs.Config) { c.Limits.Bytes = 4 << 20 })
	big := File("big", strings.Repeat("x", 1<<20))
	copies := [][]Entry{{big}}
	for n := range 5 {
		copies = append(copies, []Entry{Link(fmt.Sprint(n), "big")})
	}
	for name, test := range map[string]struct {
		layers [][]Entry
		kind   error
	}{
		"nothing":     {[][]Entry{{File("f", "")}, {Link("a", "b")}}, rootfs.ErrMalformed},
		"itself":      {[][]Entry{{Link("a", "a")}}, rootfs.ErrMalformed},
		"a directory": {[][]Entry{{Dir("d", 0o755)}, {Link("a", "d")}}, rootfs.ErrMalformed},
		"a whiteout":  {[][]Entry{{File("f", "")}, {File(".wh.f", "")}, {Link("a", "f")}}, rootfs.ErrMalformed},
		"above":       {[][]Entry{{Link("a", "f")}, {File("f", "")}}, rootfs.ErrMalformed},
		"too much":    {copies, rootfs.ErrTooLarge},
	} {
		_, err := s.Unpack(t.Context(), Simple(t, test.layers...), rootfs.UnpackOptions{})
		if !errors.Is(err, test.kind) || errors.Is(test.kind, rootfs.ErrMalformed) && !strings.Contains(err.Error(), "hard link") {
			t.Errorf("%s: %v, want %v", name, err, test.kind)
		}
	}
}

// A file in what is a link below goes where the link leads.
func TestThroughLinks(t *testing.T) {
	base := []Entry{Dir("usr", 0o755), Dir("usr/lib", 0o711), File("usr/lib/a", "1"), File("usr/lib/gone", "1"), Dir("usr/bin", 0o700),
		Symlink("lib", "usr/lib"), Symlink("bin", "/usr/sbin/../bin"), Symlink("deep", "lib/new/deeper"), Symlink("x", "y"), Symlink("y", "x"), Symlink("explicit", "usr")}
	over := []Entry{File("lib/b", "2"), Link("lib/hard", "lib/b"), File("lib/sub/c", "2"), Symlink("lib/ln", "b"), File("lib/.wh.gone", ""), File("bin/tool", "2"),
		File("deep/f", "2"), File("x/f", "2"), Dir("explicit", 0o750), File("explicit/f", "2"), File("usr/lib/own", "2")}
	top := []Entry{File("lib/a", "3"), File("lib/sub/d", "3")}
	dir := t.TempDir()
	s := open(t, dir)
	b := unpack(t, s, Simple(t, base, over, top))
	r := mount(t, clone(t, s, b))
	for name, want := range map[string]string{"lib": "usr/lib", "bin": "/usr/sbin/../bin", "deep": "lib/new/deeper", "y": "x", "usr/lib/ln": "b"} {
		if got, err := os.Readlink(filepath.Join(r, name)); err != nil || got != want {
			t.Errorf("%s leads to %q (%v), want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{"usr/lib/a": "3", "usr/lib/b": "2", "usr/lib/hard": "2", "usr/lib/sub/c": "2", "usr/lib/sub/d": "3", "usr/bin/tool": "2",
		"usr/lib/new/deeper/f": "2", "x/f": "2", "explicit/f": "2", "usr/lib/own": "2"} {
		if got := read(t, r, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]string{"usr/lib": "drwx--x--x", "usr/bin": "drwx------", "usr/lib/sub": "drwxr-xr-x", "explicit": "drwxr-x---", "usr/lib/hard": "-rw-r--r--"} {
		fi, err := os.Lstat(filepath.Join(r, name))
		if err != nil || fi.Mode().String() != want {
			t.Errorf("%s is %v (%v), want %s", name, fi.Mode(), err, want)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(r, "usr/lib/hard"), &st); err != nil || st.Nlink != 2 {
		t.Errorf("a hard link has %d names (%v)", st.Nlink, err)
	}
	if _, err := os.Lstat(filepath.Join(r, "usr/lib/gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a removed file: %v", err)
	}
	if again, err := s.Base(b.DiffIDs); err != nil || strings.Join(again.Images(), " ") != strings.Join(b.Images(), " ") {
		t.Errorf("another base the second time: %v", err)
	}
	for _, image := range b.Images() {
		if out, err := exec.Command("fsck.erofs", "--extract", image).CombinedOutput(); err != nil {
			t.Errorf("fsck.erofs: %v\n%s", err, out)
		}
	}
}

func TestStacks(t *testing.T) {
	base := []Entry{Dir("./", 0o711), File("a", "base"), File("b", "base")}
	over := []Entry{File("a", "over")}
	hide := []Entry{File(".wh..wh..opq", ""), File("c", "hide")}
	tests := []struct {
		name   string
		layers [][]Entry
		stack  int
		want   map[string]string
	}{
		{"a layer twice", [][]Entry{base, over, base}, 2, map[string]string{"a": "base", "b": "base"}},
		{"an empty layer", [][]Entry{base, nil, over, nil}, 3, map[string]string{"a": "over", "b": "base"}},
		{"an opaque root", [][]Entry{base, hide, over}, 2, map[string]string{"a": "over", "c": "hide"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := unpack(t, s, Simple(t, test.layers...))
			if len(b.Layers) != test.stack {
				t.Errorf("%d layers in the stack, want %d", len(b.Layers), test.stack)
			}
			r := mount(t, clone(t, s, b))
			names, err := os.ReadDir(r)
			if err != nil || len(names) != len(test.want) {
				t.Errorf("%d names (%v), want %d", len(names), err, len(test.want))
			}
			for name, want := range test.want {
				if got := read(t, r, name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

func empty(t testing.TB, elem ...string) {
	t.Helper()
	names, err := os.ReadDir(filepath.Join(elem...))
	if err != nil || len(names) != 0 {
		t.Errorf("%s holds %v (%v)", filepath.Join(elem...), names, err)
	}
}

func TestBaseMissing(t *testing.T) {
	s := open(t, t.TempDir())
	h := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("a", 64)}
	if _, err := s.Base([]v1.Hash{h}); !errors.Is(err, rootfs.ErrNotFound) || !strings.Contains(err.Error(), h.String()) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Base([]v1.Hash{{Algorithm: "sha256", Hex: "../../../etc/passwd"}}); err == nil {
		t.Error("a path passed for a diff ID")
	}
	if _, err := s.Overlay(t.TempDir()); !errors.Is(err, rootfs.ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// The clone is bounded, and small.
func TestCreate(t *testing.T) {
	s := open(t, t.TempDir())
	b := unpack(t, s, Numbered(t, 1))
	o := clone(t, s, b)
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(o.Dir, "upper.img"), &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 400<<10 || st.Size != upperSize {
		t.Errorf("%d of %d bytes on disk", st.Blocks*512, st.Size)
	}
	r := mount(t, o)
	err := os.WriteFile(filepath.Join(r, "big"), make([]byte, upperSize), 0o644)
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("writing more than the disk holds: %v", err)
	}
	if _, err := s.Create(t.Context(), o.Dir, b, upperSize); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second overlay in one directory: %v", err)
	}
	if _, err := s.Create(t.Context(), t.TempDir(), b, 1<<20); err == nil {
		t.Error("a size no file system fits in is taken")
	}
	if _, err := s.Create(t.Context(), filepath.Join(t.TempDir(), "missing"), b, upperSize); err == nil {
		t.Error("a missing directory is taken")
	}
}
