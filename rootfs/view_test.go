package rootfs_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A view shows what the layers show together, and no name leads out of it.
func TestView(t *testing.T) {
	tool := File("bin/tool", "tool")
	tool.Mode, tool.Uid = 0o4751, 12
	base := []Entry{tool, File("gone", "x"), File("dir/gone", "x"), File("dir/kept", "kept"), File("opaque/gone", "x"), Dir("usr/lib", 0o755), Symlink("lib", "usr/lib"),
		File("tree/a", "x"), Symlink("abs", "/bin/tool"), Symlink("up", "../../../../bin/tool"), Symlink("loop", "loop"), Symlink("dir/back", "../lib/../../bin"),
		File("huge", strings.Repeat("x", 5<<20))}
	over := []Entry{File(".wh.gone", ""), File("dir/.wh.gone", ""), File("opaque/.wh..wh..opq", ""), File("opaque/new", "new"), File("usr/lib/so", "so"), File("tree", "now a file")}
	v, err := unpack(t, open(t, t.TempDir()), Simple(t, base, over)).View()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, want := range map[string]string{
		"/bin/tool": "tool", "/abs": "tool", "/up": "tool", "/../../bin/tool": "tool", "/dir/back/tool": "tool", "/lib/so": "so", "/dir/./kept": "kept",
		"/opaque/new": "new", "/tree": "now a file",
	} {
		if data, err := v.ReadFile(name); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for name, want := range map[string]error{
		"/gone": unix.ENOENT, "/dir/gone": unix.ENOENT, "/opaque/gone": unix.ENOENT, "/tree/a": unix.ENOTDIR, "/bin/tool/": unix.ENOTDIR, "/tree/..": unix.ENOTDIR,
		"/loop": unix.ELOOP, "/no/such": unix.ENOENT,
	} {
		if _, err := v.Stat(name); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if st, err := v.Stat("/abs"); err != nil || st.Mode != unix.S_IFREG|0o4751 || st.Uid != 12 || st.Size != 4 {
		t.Errorf("%+v, %v", st, err)
	}
	for _, name := range []string{"/", "/lib"} {
		if st, err := v.Stat(name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
		if _, err := v.ReadFile(name); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	if _, err := v.ReadFile("/huge"); err == nil {
		t.Error("5 MiB were read")
	}
	empty, err := unpack(t, open(t, t.TempDir()), Simple(t)).View()
	if err != nil {
		t.Fatal(err)
	}
	if st, err := empty.Stat("/"); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		t.Errorf("no layers: %+v, %v", st, err)
	}
	if _, err := empty.Stat("/bin"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("no layers: %v", err)
	}
}
