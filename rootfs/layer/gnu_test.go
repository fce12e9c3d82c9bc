package layer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestConvertSizes(t *testing.T) {
	var entries []tarEntry
	want := map[string]string{"": root}
	for _, n := range []int{0, 1, 2999, 3008, 3009, 4032, 4095, 4096, 4097, 8192, 10000, 1 << 20, 1<<20 + 1, 3<<20 + 17} {
		for _, attr := range []int{0, 5000} {
			e := file(fmt.Sprintf("f%d-%d", n, attr), strings.Repeat("0123456789abcde", n/15+1)[:n])
			if attr > 0 {
				e = pax(e, map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", attr)})
			}
			entries = append(entries, e)
			s := fmt.Sprintf("100644 0:0 %q", e.Body)
			if n > 100 {
				s = fmt.Sprintf("100644 0:0 %d bytes %x", n, sha256.Sum256([]byte(e.Body)))
			}
			if attr > 0 {
				s += fmt.Sprintf(" user.a=%q", strings.Repeat("v", attr))
			}
			want[e.Name] = s
		}
	}
	for i := range 3000 {
		name := fmt.Sprintf("many/%0*d", 1+i%200, i)
		entries = append(entries, file(name, ""))
		want[name] = `100644 0:0 ""`
	}
	want["many"] = implied
	stream := stream(t, entries)
	image, _, err := convert(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, describe(t, mounted(t, image)), want)

	again, _, err := convert(t, stream)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cmp", image, again).CombinedOutput(); err != nil {
		t.Errorf("the same layer gave another image: %s", out)
	}
}

// Zeros take no room in the image file.
func TestConvertSparse(t *testing.T) {
	body := make([]byte, 64<<20)
	copy(body[32<<20:], "middle")
	image, _, err := convert(t, stream(t, []tarEntry{file("f", string(body))}))
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(image, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes on disk", st.Blocks*512)
	}
	got, err := os.ReadFile(filepath.Join(mounted(t, image), "f"))
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("reads back differently: %v", err)
	}
}

// What GNU tar writes, in each of its formats and for sparse files.
func TestConvertGNU(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("directory-of-some-length/", 12)
	if err := os.MkdirAll(filepath.Join(dir, long), 0o755); err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	for _, at := range []int64{0, 1 << 20, 5<<20 + 1000, 8<<20 - 3} {
		if _, err := sparse.WriteAt([]byte("abc"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, long, strings.Repeat("f", 200)), []byte("x"), 0o640),
		os.Symlink(long+strings.Repeat("t", 150), filepath.Join(dir, "link")),
		os.Lchown(filepath.Join(dir, "link"), 3_000_000, 4_000_000),
		os.Chtimes(filepath.Join(dir, long), time.Time{}, time.Unix(-5, 0)),
		unix.Setxattr(dir, "user.a", []byte("\x00b\n"), 0),
		os.Link(filepath.Join(dir, "sparse"), filepath.Join(dir, long, "hard")),
	); err != nil {
		t.Fatal(err)
	}
	want := describe(t, dir)
	for _, args := range []string{"--format=gnu", "--format=gnu -S", "--format=posix --xattrs", "--format=posix -S --xattrs",
		"--format=posix -S --sparse-version=0.0", "--format=posix -S --sparse-version=0.1", "--format=oldgnu -S", "--format=posix --label=volume"} {
		t.Run(args, func(t *testing.T) {
			stream, err := exec.Command("sh", "-c", "tar -C "+dir+" --numeric-owner -c "+args+" .").Output()
			if err != nil {
				t.Fatal(err)
			}
			image, _, err := convert(t, stream)
			if err != nil {
				t.Fatal(err)
			}
			got, want := describe(t, mounted(t, image)), maps.Clone(want)
			if !strings.Contains(args, "posix") {
				for _, m := range []map[string]string{got, want} {
					for name, s := range m {
						m[name], _, _ = strings.Cut(s, " @") // whole seconds only
					}
				}
			}
			if !strings.Contains(args, "xattrs") {
				want[""] = strings.TrimSuffix(want[""], ` user.a="\x00b\n"`)
			}
			compare(t, got, want)
		})
	}
}

func TestConvertInfo(t *testing.T) {
	_, info, err := convert(t, stream(t, []tarEntry{file("a/b/f", "12345"), file("a/.wh..wh..opq", ""), directory("c", 0o755), file("c/g", "6")}))
	if err != nil {
		t.Fatal(err)
	}
	if info.Bytes != 6 || info.Inodes != 6 || !info.RootImplied || info.RootOpaque || info.Implied != 2 {
		t.Errorf("info %+v", info)
	}
	_, info, err = convert(t, stream(t, []tarEntry{directory("./", 0o700), file(".wh..wh..opq", "")}))
	if err != nil {
		t.Fatal(err)
	}
	if info.RootImplied || !info.RootOpaque || info.Root.Mode != 0o40700 {
		t.Errorf("info %+v", info)
	}
}
