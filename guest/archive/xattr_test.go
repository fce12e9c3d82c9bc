package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// capability is cap_net_raw+ep, as the kernel keeps it.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

func xattr(t *testing.T, path, name string) string {
	t.Helper()
	b := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, b)
	if errors.Is(err, unix.ENODATA) {
		return ""
	}
	if err != nil {
		t.Fatalf("%s of %s: %v", name, path, err)
	}
	return string(b[:n])
}

// What an archive sets, and what gives rights only where owners are believed.
func TestAttributes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("capabilities are set: run as root")
	}
	src := filepath.Join(t.TempDir(), "tree")
	file, dir := filepath.Join(src, "dir/file"), filepath.Join(src, "dir")
	must(t, os.MkdirAll(dir, 0o755), os.WriteFile(file, []byte("x"), 0o644), os.Chown(file, 1000, 1000))
	must(t, unix.Setxattr(file, "user.note", []byte("a\x00=b\n"), 0), unix.Setxattr(dir, "user.empty", nil, 0),
		unix.Setxattr(file, "security.capability", []byte(capability), 0), unix.Setxattr(file, "trusted.mine", []byte("x"), 0),
		os.Chmod(file, os.ModeSetuid|0o755))
	var archive bytes.Buffer
	must(t, Write(t.Context(), openRoot(t, filepath.Dir(src)), "/tree", &archive))
	for _, owner := range []bool{true, false} {
		dst := t.TempDir()
		must(t, Extract(t.Context(), openRoot(t, dst), "/", bytes.NewReader(archive.Bytes()), Options{Owner: owner}))
		got := filepath.Join(dst, "tree/dir/file")
		if note := xattr(t, got, "user.note"); note != "a\x00=b\n" {
			t.Errorf("owner %v: user.note is %q", owner, note)
		}
		var b [1]byte
		if _, err := unix.Getxattr(filepath.Join(dst, "tree/dir"), "user.empty", b[:]); err != nil {
			t.Errorf("owner %v: user.empty: %v", owner, err)
		}
		if got := xattr(t, got, "trusted.mine"); got != "" {
			t.Errorf("owner %v: trusted.mine is %q", owner, got)
		}
		info, err := os.Stat(got)
		must(t, err)
		if owner != (xattr(t, got, "security.capability") == capability) || owner != (info.Mode()&os.ModeSetuid != 0) {
			t.Errorf("owner %v: capability %q, mode %v", owner, xattr(t, got, "security.capability"), info.Mode())
		}
	}
}

// Somebody swaps a directory for a link that leads out, all the time while trees
// are written from there and extracted to there.
func TestSwappedLinks(t *testing.T) {
	outside := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755), os.WriteFile(filepath.Join(outside, "sub/secret"), []byte("secret"), 0o600))
	inside := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(inside, "a/sub"), 0o755), os.WriteFile(filepath.Join(inside, "a/sub/file"), []byte("mine"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(inside, "b")))
	var done atomic.Bool
	swapped := make(chan int)
	go func() {
		n := 0
		for ; !done.Load(); n++ {
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(inside, "a"), unix.AT_FDCWD, filepath.Join(inside, "b"), unix.RENAME_EXCHANGE)
		}
		swapped <- n
	}()
	root := openRoot(t, inside)
	bomb := build(t, []entry{{"a/sub/file", '0', "", "mine"}, {"a/sub/new", '0', "", "new"}, {"a/sub/link", '2', outside, ""}})
	for range 2000 {
		var out bytes.Buffer
		_ = Write(t.Context(), root, "/a/sub", &out)
		_ = Write(t.Context(), root, "/a/sub/secret", &out)
		if bytes.Contains(out.Bytes(), []byte("secret\x00")) || bytes.Contains(out.Bytes(), []byte("\x00secret")) {
			t.Fatal("a file from outside was written")
		}
		_ = Extract(t.Context(), root, "/", bytes.NewReader(bomb), Options{})
		_ = Extract(t.Context(), root, "/a/sub", bytes.NewReader(bomb), Options{})
	}
	done.Store(true)
	if n := <-swapped; n < 100 {
		t.Errorf("only %d swaps", n)
	}
	left, err := os.ReadDir(filepath.Join(outside, "sub"))
	must(t, err)
	if len(left) != 1 {
		t.Errorf("outside: %v", left)
	}
	if data, err := os.ReadFile(filepath.Join(outside, "sub/secret")); string(data) != "secret" {
		t.Errorf("outside: %q, %v", data, err)
	}
}

// What takes the place of an entry that was just made does not get its attributes.
func TestReplacedEntry(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "victim"), nil, 0o600), os.Symlink("victim", filepath.Join(dir, "entry")))
	f, err := os.Open(dir)
	must(t, err)
	defer f.Close()
	for name, want := range map[string]error{"entry": ErrUnsafe, "victim": ErrUnsafe, "gone": unix.ENOENT} {
		err := new(extractor).attributes(int(f.Fd()), name, &tar.Header{Typeflag: tar.TypeFifo, Mode: 0o666})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "victim")); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestWriteFollowed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o755), os.WriteFile(filepath.Join(dir, "real/file"), []byte("x"), 0o644),
		os.Symlink("/real", filepath.Join(dir, "link")))
	root := openRoot(t, dir)
	for name, write := range map[string]func(io.Writer) error{
		"followed": func(w io.Writer) error { return WriteFollowed(t.Context(), root, "/link", w) },
		"slash":    func(w io.Writer) error { return Write(t.Context(), root, "/link/.", w) },
	} {
		var b bytes.Buffer
		must(t, write(&b))
		dst := t.TempDir()
		must(t, Extract(t.Context(), openRoot(t, dst), "/", &b, Options{}))
		if got, err := os.ReadFile(filepath.Join(dst, "link/file")); string(got) != "x" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
