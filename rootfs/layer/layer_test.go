package layer

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs/rootfstest"
)

// free is a budget without end.
type free struct{}

func (free) Bytes(int64) error  { return nil }
func (free) Inodes(int64) error { return nil }
func (free) Memory(int64) error { return nil }

type tarEntry = rootfstest.Entry

var (
	file      = rootfstest.File
	directory = rootfstest.Dir
	symlink   = rootfstest.Symlink
	hardlink  = rootfstest.Link
	pax       = rootfstest.PAX
)

func stream(t testing.TB, entries []tarEntry) []byte {
	t.Helper()
	return rootfstest.Tar(t, entries...)
}

// convert makes an image file and has the format's own checker look at it.
func convert(t testing.TB, stream []byte) (string, Info, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := Convert(bytes.NewReader(stream), f, sha256Half(stream), free{})
	if err != nil {
		return "", info, err
	}
	if err := f.Truncate(info.Size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("fsck.erofs", "--extract", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, out)
	}
	return f.Name(), info, nil
}

func sha256Half(b []byte) (id [16]byte) {
	sum := sha256.Sum256(b)
	copy(id[:], sum[:])
	return id
}

// mounted mounts an image until the test ends.
func mounted(t testing.TB, image string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "ro,loop", image, dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// describe tells all there is below dir, a line for each name.
func describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(name, dir), "/")
		all[rel] = describeFile(t, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func describeFile(t testing.TB, name string) string {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 100 {
			s += fmt.Sprintf(" %d bytes %x", len(b), sha256.Sum256(b))
		} else {
			s += fmt.Sprintf(" %q", b)
		}
		if st.Nlink > 1 {
			s += fmt.Sprintf(" links=%d", st.Nlink)
		}
	case unix.S_IFLNK:
		to, err := os.Readlink(name)
		if err != nil {
			t.Fatal(err)
		}
		s += " -> " + to
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Mtim.Sec != 1_000_000_000 || st.Mtim.Nsec != 0 {
		s += fmt.Sprintf(" @%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	return s + xattrs(t, name)
}

func xattrs(t testing.TB, name string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(name, attr, value)
		if err != nil {
			t.Fatalf("%s: %s: %v", name, attr, err)
		}
		all = append(all, fmt.Sprintf(" %s=%q", attr, value[:n]))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

const (
	root     = "40755 0:0 @0.000000000"
	implied  = root + ` trusted.overlay.implied=""`
	whiteout = "20000 0:0 0:0 @0.000000000"
	opaque   = ` trusted.overlay.opaque="y"`
)

func TestConvert(t *testing.T) {
	long := strings.Repeat("n", 255)
	deep := strings.Repeat("deep/", 50) + "end"
	tests := []struct {
		name    string
		entries []tarEntry
		want    map[string]string // beside the root
	}{
		{"nothing", nil, map[string]string{}},
		{"root", []tarEntry{{Header: tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o1750, Uid: 5, Gid: 6}}},
			map[string]string{"": "41750 5:6"}},
		{"kinds", []tarEntry{
			directory("d", 0o2775), file("d/f", "hello"), symlink("d/s", "f"), hardlink("d/h", "d/f"),
			{Header: tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}},
			{Header: tar.Header{Name: "loop", Typeflag: tar.TypeBlock, Mode: 0o600, Devmajor: 7, Devminor: 300}},
			{Header: tar.Header{Name: "fifo", Typeflag: tar.TypeFifo, Mode: 0o622}},
		}, map[string]string{
			"d": "42775 0:0", "d/f": `100644 0:0 "hello" links=2`, "d/h": `100644 0:0 "hello" links=2`, "d/s": "120777 0:0 -> f",
			"null": "20666 0:0 1:3", "loop": "60600 0:0 7:300", "fifo": "10622 0:0",
		}},
		{"modes and owners", []tarEntry{
			{Header: tar.Header{Name: "a", Mode: 0o7777, Uid: 65536, Gid: 4294967294, Format: tar.FormatPAX}},
			{Header: tar.Header{Name: "b", Mode: 0, Uid: 3000000, Gid: 70000}},
		}, map[string]string{"a": `107777 65536:4294967294 ""`, "b": `100000 3000000:70000 ""`}},
		{"times", []tarEntry{
			{Header: tar.Header{Name: "old", Mode: 0o600, ModTime: time.Unix(-2, 500_000_000), Format: tar.FormatPAX}},
			{Header: tar.Header{Name: "far", Mode: 0o600, ModTime: time.Unix(1<<35, 123456789), Format: tar.FormatPAX}},
			{Header: tar.Header{Name: "gnu", Mode: 0o600, ModTime: time.Unix(4102444800, 0), Format: tar.FormatGNU}},
		}, map[string]string{"old": `100600 0:0 "" @-2.500000000`, "far": `100600 0:0 "" @34359738368.123456789`, "gnu": `100600 0:0 "" @4102444800.000000000`}},
		{"names", []tarEntry{
			file("latin-\xe9\xff", "1"), file("new\nline", "2"), file(`back\slash`, "3"), file(long, "4"), file("x.wh.y", "5"), file(deep, "6"),
			pax(symlink("s", "/"+strings.Repeat("t", 4094)), nil),
		}, func() map[string]string {
			m := map[string]string{"latin-\xe9\xff": `100644 0:0 "1"`, "new\nline": `100644 0:0 "2"`, `back\slash`: `100644 0:0 "3"`,
				long: `100644 0:0 "4"`, "x.wh.y": `100644 0:0 "5"`, deep: `100644 0:0 "6"`, "s": "120777 0:0 -> /" + strings.Repeat("t", 4094)}
			for d := filepath.Dir(deep); d != "."; d = filepath.Dir(d) {
				m[d] = implied
			}
			return m
		}()},
		{"attributes", []tarEntry{
			pax(file("f", "x"), map[string]string{"SCHILY.xattr.user.a": "1\x00\n", "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "SCHILY.xattr.trusted.t": ""}),
			pax(directory("d", 0o755), map[string]string{"SCHILY.xattr.user.d": "directory"}),
			pax(file("odd", ""), map[string]string{"SCHILY.xattr.com.apple.x": "1", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.trusted.overlay.opaque": "y"}),
		}, map[string]string{
			"f":   `100644 0:0 "x" security.capability="\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" trusted.t="" user.a="1\x00\n"`,
			"d":   `40755 0:0 user.d="directory"`,
			"odd": `100644 0:0 ""`,
		}},
		{"missing parents", []tarEntry{file("a/b/c", "x"), directory("a", 0o700)},
			map[string]string{"a": "40700 0:0", "a/b": implied, "a/b/c": `100644 0:0 "x"`}},
		{"duplicates", []tarEntry{file("f", "1"), directory("d", 0o700), file("d/x", "1"), file("f", "2"), directory("d", 0o755)},
			map[string]string{"f": `100644 0:0 "2"`, "d": "40755 0:0", "d/x": `100644 0:0 "1"`}},
		{"replacements", []tarEntry{
			file("a", "1"), directory("a", 0o755), file("a/x", "in"),
			directory("b", 0o755), file("b/x", "1"), hardlink("kept", "b/x"), file("b", "2"),
			symlink("c", "a"), directory("c", 0o700),
		}, map[string]string{"a": "40755 0:0", "a/x": `100644 0:0 "in"`, "b": `100644 0:0 "2"`, "kept": `100644 0:0 "1"`, "c": "40700 0:0"}},
		{"hard links", []tarEntry{
			hardlink("early", "a/f"), directory("a", 0o755), file("a/f", "x"), directory("b", 0o755), hardlink("b/g", "/a/f"), hardlink("b/g", "b/g"),
			symlink("s", "nowhere"), hardlink("b/s", "./s"),
		}, map[string]string{"a": "40755 0:0", "b": "40755 0:0", "early": `100644 0:0 "x" links=3`, "a/f": `100644 0:0 "x" links=3`, "b/g": `100644 0:0 "x" links=3`,
			"s": "120777 0:0 -> nowhere", "b/s": "120777 0:0 -> nowhere"}},
		{"whiteouts", []tarEntry{
			file("gone/.wh.x", ""), file(".wh.y", ""), file(".wh.z", ""),
			file(".wh.file", ""), file("file", "anew"), file("late", "anew"), file(".wh.late", ""),
			file(".wh.dir", ""), directory("dir", 0o700), directory("dir2", 0o700), file(".wh.dir2", ""),
			file(".wh.implied", ""), file("implied/f", ""),
		}, map[string]string{
			"gone": implied, "gone/x": whiteout, "y": whiteout, "z": whiteout, "file": `100644 0:0 "anew"`, "late": `100644 0:0 "anew"`,
			"dir": "40700 0:0" + opaque, "dir2": "40700 0:0" + opaque, "implied": root + opaque, "implied/f": `100644 0:0 ""`,
		}},
		{"opaque", []tarEntry{
			directory("a", 0o700), file("a/kept", "1"), file("a/.wh..wh..opq", ""), file("b/.wh..wh..opq", ""), file("b/kept", "2"),
			file(".wh..wh.plnk/x", ""), file(".wh..wh.aufs", ""),
		}, map[string]string{"a": "40700 0:0" + opaque, "a/kept": `100644 0:0 "1"`, "b": root + ` trusted.overlay.implied=""` + opaque, "b/kept": `100644 0:0 "2"`,
			".wh..wh.plnk": implied, ".wh..wh.plnk/x": `100644 0:0 ""`}},
		{"no way out", []tarEntry{
			file("../../etc/passwd", "1"), file("/abs/f", "2"), file("a/../b", "3"),
			symlink("up", "../../.."), file("up/f", "4"), symlink("l", "/abs"), file("l/g", "5"), hardlink("h", "../../abs/f"),
			symlink("d", "made/here"), file("d/x", "6"),
		}, map[string]string{
			"etc": implied, "etc/passwd": `100644 0:0 "1"`, "abs": implied, "abs/f": `100644 0:0 "2" links=2`, "h": `100644 0:0 "2" links=2`, "b": `100644 0:0 "3"`,
			"up": "120777 0:0 -> ../../..", "f": `100644 0:0 "4"`, "l": "120777 0:0 -> /abs", "abs/g": `100644 0:0 "5"`,
			"d": "120777 0:0 -> made/here", "made": implied, "made/here": implied, "made/here/x": `100644 0:0 "6"`,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			image, _, err := convert(t, stream(t, test.entries))
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := test.want[""]; !ok {
				test.want[""] = root
			}
			compare(t, describe(t, mounted(t, image)), test.want)
		})
	}
}

func compare(t testing.TB, got, want map[string]string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] != want[name] {
			t.Errorf("%.100q:\n got %.300s\nwant %.300s", name, got[name], want[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			t.Errorf("%.100q is there: %.300s", name, got[name])
		}
	}
}

func TestConvertRefuses(t *testing.T) {
	whole := stream(t, []tarEntry{file("f", strings.Repeat("x", 10000))})
	loop := []tarEntry{symlink("a", "b"), symlink("b", "a"), file("a/f", "")}
	tests := []struct {
		name   string
		stream []byte
		say    string
	}{
		{"hard link to directory", stream(t, []tarEntry{directory("d", 0o755), hardlink("a", "d")}), "hard link to directory"},
		{"hard link to the root", stream(t, []tarEntry{hardlink("a", ".")}), "hard link to directory"},
		{"symbolic links in a circle", stream(t, loop), "too many levels"},
		{"long name", stream(t, []tarEntry{file(strings.Repeat("n", 256), "")}), "name of 256 bytes"},
		{"long path", stream(t, []tarEntry{file(strings.Repeat("n/", 3000)+"n", "")}), "name of 6001 bytes"},
		{"long target", stream(t, []tarEntry{symlink("s", strings.Repeat("n", 5000))}), "link to 5000 bytes"},
		{"empty target", stream(t, []tarEntry{symlink("s", "")}), "link to 0 bytes"},
		{"whiteout of nothing", stream(t, []tarEntry{file("d/.wh.", "")}), "whiteout without a name"},
		{"whiteout of the parent", stream(t, []tarEntry{file("d/.wh...", "")}), "whiteout without a name"},
		{"file for root", stream(t, []tarEntry{symlink(".", "x")}), "root is not a directory"},
		{"device numbers", stream(t, []tarEntry{{Header: tar.Header{Name: "d", Typeflag: tar.TypeChar, Devmajor: 1 << 20}}}), "device 1048576:0"},
		{"attribute too long", stream(t, []tarEntry{pax(file("f", ""), map[string]string{"SCHILY.xattr.user." + strings.Repeat("a", 256): "x"})}), "extended attribute"},
		{"attribute too large", stream(t, []tarEntry{pax(file("f", ""), map[string]string{"SCHILY.xattr.user.a": strings.Repeat("a", 65536)})}), "extended attribute"},
		{"truncated in a file", whole[:5000], "unexpected EOF"},
		{"truncated in a header", whole[:300], "unexpected EOF"},
		{"garbage", bytes.Repeat([]byte("garbage "), 1000), "invalid tar header"},
		{"data after the end", append(slices.Clone(whole), "more"...), "data after the end"},
		{"an archive after the end", append(slices.Clone(whole), whole...), "data after the end"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := convert(t, test.stream)
			if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("error %v, want a malformed layer: %s", err, test.say)
			}
		})
	}
}

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests mount file systems: they need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// What is left of files with capabilities is listed, under all its names.
func TestCapable(t *testing.T) {
	capable := func(name string) tarEntry {
		return pax(file(name, "#!"), map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"})
	}
	_, info, err := convert(t, stream(t, []tarEntry{capable("bin/one"), hardlink("two", "bin/one"), capable("replaced"), file("replaced", ""),
		capable("gone/three"), file("gone", ""), file("plain", "")}))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(info.Capable)
	if want := []string{"/bin/one", "/two"}; !slices.Equal(info.Capable, want) {
		t.Errorf("%q, want %q", info.Capable, want)
	}
}
