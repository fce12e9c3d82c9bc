package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest/process"
)

func openRoot(t *testing.T, dir string) *process.Root {
	t.Helper()
	root, err := process.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// describe lists a tree with all that a copy keeps.
func describe(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d %d links=%d", rel, info.Mode(), st.Uid, st.Gid, info.ModTime().UnixNano(), st.Nlink)
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", data)
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			line += " -> " + target
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	src := filepath.Join(t.TempDir(), "tree")
	then := time.Unix(1500000000, 123456789)
	must(t,
		os.MkdirAll(filepath.Join(src, "deep/er"), 0o755),
		os.WriteFile(filepath.Join(src, "deep/er/file"), []byte("content\x00\xff"), 0o640),
		os.Link(filepath.Join(src, "deep/er/file"), filepath.Join(src, "hard")),
		os.Symlink("../../etc/passwd", filepath.Join(src, "soft")),
		os.WriteFile(filepath.Join(src, strings.Repeat("long", 50)), nil, 0o644),
		os.Chmod(filepath.Join(src, "deep/er/file"), os.ModeSetuid|0o755),
		os.Chmod(filepath.Join(src, "deep"), os.ModeSticky|0o777),
		syscall.Mkfifo(filepath.Join(src, "fifo"), 0o600),
	)
	if os.Getuid() == 0 {
		must(t, os.Lchown(filepath.Join(src, "soft"), 1000, 1001), os.Chown(filepath.Join(src, "deep"), 7, 8))
	}
	for _, name := range []string{"deep/er/file", "deep/er", "deep", "."} {
		must(t, os.Chtimes(filepath.Join(src, name), then, then))
	}
	var archive bytes.Buffer
	must(t, Write(t.Context(), openRoot(t, filepath.Dir(src)), "/tree", &archive))
	dst := t.TempDir()
	must(t, Extract(t.Context(), openRoot(t, dst), "/", bytes.NewReader(archive.Bytes()), Options{Owner: os.Getuid() == 0}))
	want, got := describe(t, src), describe(t, filepath.Join(dst, "tree"))
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	// Once more over what is there.
	must(t, Extract(t.Context(), openRoot(t, dst), "/", &archive, Options{Owner: os.Getuid() == 0}))
	if got := describe(t, filepath.Join(dst, "tree")); !slices.Equal(got, want) {
		t.Errorf("a second time: got\n%s", strings.Join(got, "\n"))
	}
}

func TestWriteOne(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o644), os.Symlink("/nowhere", filepath.Join(dir, "link")))
	root := openRoot(t, dir)
	for name, want := range map[string]string{"/file": "file 0", "link": "link 2", "/../../file": "file 0"} {
		var b bytes.Buffer
		must(t, Write(t.Context(), root, name, &b))
		h, err := tar.NewReader(&b).Next()
		if err != nil || h.Name+" "+string(h.Typeflag) != want {
			t.Errorf("%s: %+v, err %v", name, h, err)
		}
	}
	if err := Write(t.Context(), root, "/nothing", &bytes.Buffer{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

type entry struct {
	name string
	typ  byte
	link string
	data string
}

func build(t *testing.T, entries []entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		must(t, tw.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.typ, Linkname: e.link, Mode: 0o755, Size: int64(len(e.data))}))
		if _, err := tw.Write([]byte(e.data)); err != nil {
			t.Fatal(err)
		}
	}
	must(t, tw.Close())
	return b.Bytes()
}

// No archive reaches outside of its destination.
func TestHostileArchives(t *testing.T) {
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "kept"), []byte("kept"), 0o600))
	for name, test := range map[string]struct {
		entries []entry
		fails   bool
	}{
		"dotdot":          {[]entry{{"../x", tar.TypeReg, "", "x"}}, true},
		"dotdot inside":   {[]entry{{"a/../../x", tar.TypeReg, "", "x"}}, true},
		"absolute":        {[]entry{{outside + "/x", tar.TypeReg, "", "x"}}, false},
		"through a link":  {[]entry{{"l", tar.TypeSymlink, outside, ""}, {"l/x", tar.TypeReg, "", "x"}}, true},
		"through dotdots": {[]entry{{"l", tar.TypeSymlink, "../../../../../../../..", ""}, {"l/x", tar.TypeReg, "", "x"}}, false},
		"over a link":     {[]entry{{"l", tar.TypeSymlink, outside + "/kept", ""}, {"l", tar.TypeReg, "", "x"}}, false},
		"dir over a link": {[]entry{{"l", tar.TypeSymlink, outside, ""}, {"l/", tar.TypeDir, "", ""}}, true},
		"hard link":       {[]entry{{"h", tar.TypeLink, outside + "/kept", ""}}, true},
		"hard dotdot":     {[]entry{{"h", tar.TypeLink, "../kept", ""}}, true},
		"hard over link":  {[]entry{{"l", tar.TypeSymlink, outside + "/kept", ""}, {"h", tar.TypeLink, "l", ""}, {"h", tar.TypeReg, "", "x"}}, false},
		"device":          {[]entry{{"d", tar.TypeChar, "", ""}}, true},
		"file over dir":   {[]entry{{"d/", tar.TypeDir, "", ""}, {"d", tar.TypeReg, "", "x"}}, true},
		"the destination": {[]entry{{".", tar.TypeSymlink, outside, ""}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "dst")
			must(t, os.Mkdir(dst, 0o755))
			err := Extract(t.Context(), openRoot(t, dst), "/", bytes.NewReader(build(t, test.entries)), Options{})
			if (err != nil) != test.fails {
				t.Errorf("err %v", err)
			}
			left, _ := os.ReadDir(outside)
			data, _ := os.ReadFile(filepath.Join(outside, "kept"))
			if len(left) != 1 || string(data) != "kept" {
				t.Errorf("outside: %v, %q", left, data)
			}
			if beside, _ := os.ReadDir(filepath.Dir(dst)); len(beside) != 1 {
				t.Errorf("beside the destination: %v", beside)
			}
		})
	}
}

func TestExtractInto(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.WriteFile(filepath.Join(dir, "file"), nil, 0o644))
	root := openRoot(t, dir)
	archive := build(t, []entry{{"x", tar.TypeReg, "", "data"}})
	must(t, Extract(t.Context(), root, "/sub", bytes.NewReader(archive), Options{}))
	if data, err := os.ReadFile(filepath.Join(dir, "sub/x")); string(data) != "data" {
		t.Errorf("got %q, err %v", data, err)
	}
	for _, name := range []string{"/file", "/missing"} {
		if err := Extract(t.Context(), root, name, bytes.NewReader(archive), Options{}); err == nil {
			t.Errorf("extracted into %s", name)
		}
	}
	if err := Extract(t.Context(), root, "/sub", bytes.NewReader(archive[:514]), Options{}); err == nil {
		t.Error("no error from an archive that ends early")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte{})
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	tw.WriteHeader(&tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: ".."})
	tw.WriteHeader(&tar.Header{Name: "a/b", Size: 1})
	tw.Write([]byte("x"))
	tw.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		dst := filepath.Join(top, "dst")
		must(t, os.Mkdir(dst, 0o755))
		root, err := process.OpenRoot(dst)
		must(t, err)
		defer root.Close()
		_ = Extract(t.Context(), root, "/", bytes.NewReader(data), Options{})
		if beside, _ := os.ReadDir(top); len(beside) != 1 {
			t.Errorf("beside the destination: %v", beside)
		}
	})
}

// A file that is mounted stays so, and gets what the archive holds.
func TestExtractMounted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test mounts: it needs root")
	}
	dir, host := t.TempDir(), t.TempDir()
	target, source := filepath.Join(dir, "file"), filepath.Join(host, "file")
	must(t, os.WriteFile(target, nil, 0o644), os.WriteFile(source, []byte("what was there"), 0o600))
	// The mount is another namespace's, as a container's is to the agent.
	sleep := exec.Command("unshare", "-m", "sh", "-c", `mount --bind "$0" "$1" && echo mounted && exec sleep 1000`, source, target)
	out, err := sleep.StdoutPipe()
	must(t, err, sleep.Start())
	t.Cleanup(func() { sleep.Process.Kill(); sleep.Wait() })
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	root := openRoot(t, fmt.Sprintf("/proc/%d/root%s", sleep.Process.Pid, dir))
	must(t, Extract(t.Context(), root, "/", bytes.NewReader(build(t, []entry{{"file", tar.TypeReg, "", "new"}})), Options{}))
	for name, want := range map[string]string{source: "new", target: ""} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, e := range []entry{{"file", tar.TypeSymlink, "x", ""}, {"file/", tar.TypeDir, "", ""}} {
		if err := Extract(t.Context(), root, "/", bytes.NewReader(build(t, []entry{e})), Options{}); err == nil {
			t.Errorf("replaced by type %c", e.typ)
		}
	}
}
