//go:build !race

package rootfs_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/rootfs"
)

// The race detector's own memory would be measured, too: not with that.
func init() {
	if name := os.Getenv("ROOTFS_TEST_HOSTILE"); name != "" {
		unpackHostile(name, os.Getenv("ROOTFS_TEST_DIR"))
	}
}

// maxPeak is what a process that unpacks may take, whatever the image.
const maxPeak = 150 << 20

// hostile is an image that wants as much memory as it can get.
type hostile struct {
	name   string
	layers []func(*headers)
	// verified: the layers have the digests that they say, and make a base.
	verified bool
	refused  bool // for its size
}

const many = 1_900_000

func each(n int, f func(h *headers, i int)) func(*headers) {
	return func(h *headers) {
		for i := range n {
			f(h, i)
		}
	}
}

func hostiles() []hostile {
	long := strings.Repeat("n", 240)
	deep := strings.Repeat("/a", 1989)
	value := strings.Repeat("v", 60<<10)
	capability := map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
	one := func(name string, refused bool, f func(*headers)) hostile {
		return hostile{name: name, layers: []func(*headers){f}, refused: refused}
	}
	files := each(many, func(h *headers, i int) { h.add(tar.TypeReg, strconv.Itoa(i), "", nil) })
	deeply := each(1000, func(h *headers, i int) { h.add(tar.TypeReg, strconv.Itoa(i)+deep, "", nil) })
	directories := each(many, func(h *headers, i int) { h.add(tar.TypeDir, strconv.Itoa(i), "", nil) })
	return []hostile{
		one("deep directories without entries", true, deeply),
		one("files in one directory", false, files),
		one("files in many directories", false, each(many/2, func(h *headers, i int) { h.add(tar.TypeReg, fmt.Sprintf("%d/%d", i%997, i), "", nil) })),
		one("files in disorder", false, each(300_000, func(h *headers, i int) { h.add(tar.TypeReg, strconv.Itoa(i*7919%300_000), "", nil) })),
		one("directories", true, directories),
		one("long names", true, each(many, func(h *headers, i int) { h.add(tar.TypeReg, long+strconv.Itoa(i), "", nil) })),
		one("attributes of directories", true, each(many, func(h *headers, i int) {
			h.add(tar.TypeDir, strconv.Itoa(i), "", map[string]string{"SCHILY.xattr.user.a": value})
		})),
		one("attributes of one file", false, func(h *headers) {
			all := map[string]string{}
			for i := range 30_000 {
				all["SCHILY.xattr.user."+strconv.Itoa(i)] = ""
			}
			h.add(tar.TypeReg, "f", "", all)
		}),
		one("symbolic links", false, each(many/2, func(h *headers, i int) { h.add(tar.TypeSymlink, strconv.Itoa(i), "some/where", nil) })),
		one("long symbolic links", true, each(many, func(h *headers, i int) { h.add(tar.TypeSymlink, strconv.Itoa(i), strings.Repeat("t", 4000), nil) })),
		one("pairs of hard links", false, each(many/4, func(h *headers, i int) {
			h.add(tar.TypeReg, strconv.Itoa(i), "", nil)
			h.add(tar.TypeLink, strconv.Itoa(i)+"h", strconv.Itoa(i), nil)
		})),
		one("hard links to nothing", true, each(many/4, func(h *headers, i int) { h.add(tar.TypeLink, strconv.Itoa(i), "nothing", nil) })),
		one("files with capabilities", true, each(100_000, func(h *headers, i int) { h.add(tar.TypeReg, strings.Repeat("c", 60)+strconv.Itoa(i), "", capability) })),
		one("replaced again and again", false, func(h *headers) {
			for i := range 8 {
				for k := range 50_000 {
					h.add(tar.TypeReg, fmt.Sprintf("d/%d/%d", k%10, k), "", nil)
				}
				h.add(tar.TypeReg, "d", strconv.Itoa(i), nil)
			}
		}),
		{name: "three layers at a time", layers: []func(*headers){deeply, directories, deeply}, refused: true},
		// What one layer says of directories, for another that says nothing of them.
		{name: "directories to mend", layers: []func(*headers){
			each(60_000, func(h *headers, i int) { h.add(tar.TypeDir, fmt.Sprintf("%d/%d", i/300, i), "", nil) }),
			each(60_000, func(h *headers, i int) { h.add(tar.TypeReg, fmt.Sprintf("%d/%d/f", i/300, i), "", nil) }),
		}, verified: true},
		{name: "deep directories to mend", layers: []func(*headers){
			each(1900, func(h *headers, i int) { h.add(tar.TypeDir, "d"+strings.Repeat("/a", i), "", nil) }),
			each(100, func(h *headers, i int) {
				h.add(tar.TypeReg, "d"+strings.Repeat("/a", 1899)+"/"+strconv.Itoa(i), "", nil)
			}),
		}, verified: true},
	}
}

// Unpacking takes no more memory than it may, whatever the image: either the image
// fits, or it is refused with the limit's name.
func TestHostileMemory(t *testing.T) {
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			out, peak := unpackInChild(t, h.name)
			t.Logf("%d MiB, %.200s", peak>>20, out)
			if peak > maxPeak {
				t.Errorf("unpacking took %d MiB", peak>>20)
			}
			want := "config says"
			switch {
			case h.refused:
				want = "exceeds the limit of"
			case h.verified:
				want = "done"
			case h.name == "attributes of one file":
				want = "extended attributes on one file"
			}
			if !strings.Contains(out, want) {
				t.Errorf("%.500s, want %q", out, want)
			}
		})
	}
}

// So it is with the largest window that a zstd layer may have.
func TestHostileWindow(t *testing.T) {
	name := filepath.Join(t.TempDir(), "layer")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(f, zstd.WithWindowSize(64<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(z)
	h := &headers{w: w}
	each(400_000, func(h *headers, i int) { h.add(tar.TypeReg, fmt.Sprintf("%d/%d", i%997, i), "", nil) })(h)
	h.end()
	if err := errors.Join(w.Flush(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	out, peak := unpackInChild(t, name)
	t.Logf("%d MiB, %.200s", peak>>20, out)
	if peak > maxPeak || !strings.Contains(out, "exceeds the limit of") {
		t.Errorf("unpacking took %d MiB: %.500s", peak>>20, out)
	}
}

func unpackInChild(t *testing.T, name string) (out string, peak int64) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "ROOTFS_TEST_HOSTILE="+name, "ROOTFS_TEST_DIR="+t.TempDir())
	b, err := c.CombinedOutput()
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(b)
	if err != nil || m == nil {
		t.Fatalf("%v: %.2000s", err, b)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), kib << 10
}

// unpackHostile is what the child does.
func unpackHostile(name, dir string) {
	fail := func(err error) {
		fmt.Println(err)
		os.Exit(1)
	}
	t := &testing.B{}
	s, err := rootfs.Open(context.Background(), rootfs.Config{Dir: dir})
	if err != nil {
		fail(err)
	}
	var layers []v1.Layer
	for _, h := range hostiles() {
		for i, f := range h.layers {
			if h.name == name {
				l := generated{f, v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064d", i)}}
				if h.verified {
					if l.id, _, err = v1.SHA256(l.stream()); err != nil {
						fail(err)
					}
				}
				layers = append(layers, l)
			}
		}
	}
	if layers == nil {
		layers = append(layers, inFile(name))
	}
	if _, err := s.Unpack(context.Background(), Image(t, layers...), rootfs.UnpackOptions{}); err != nil {
		fmt.Println(err)
	} else {
		fmt.Println("done")
	}
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail(err)
	}
	fmt.Println(regexp.MustCompile(`VmHWM:.*`).FindString(string(b)))
	os.Exit(0)
}

// generated is a layer that is made while it is read.
type generated struct {
	write func(*headers)
	id    v1.Hash
}

func (g generated) Digest() (v1.Hash, error)             { return g.id, nil }
func (g generated) DiffID() (v1.Hash, error)             { return g.id, nil }
func (g generated) Size() (int64, error)                 { return 1 << 30, nil }
func (g generated) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (g generated) Uncompressed() (io.ReadCloser, error) { return g.stream(), nil }
func (g generated) Compressed() (io.ReadCloser, error)   { return g.stream(), nil }

func (g generated) stream() io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 256<<10)
		h := &headers{w: b}
		g.write(h)
		h.end()
		w.CloseWithError(errors.Join(h.err, b.Flush()))
	}()
	return r
}

// inFile is a layer in a file.
type inFile string

func (s inFile) id() v1.Hash                          { return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%064d", 1)} }
func (s inFile) Digest() (v1.Hash, error)             { return s.id(), nil }
func (s inFile) DiffID() (v1.Hash, error)             { return s.id(), nil }
func (s inFile) Size() (int64, error)                 { return 1 << 30, nil }
func (s inFile) MediaType() (types.MediaType, error)  { return types.OCILayerZStd, nil }
func (s inFile) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }
func (s inFile) Compressed() (io.ReadCloser, error)   { return os.Open(string(s)) }

// headers writes entries without data, much faster than archive/tar.
type headers struct {
	w     *bufio.Writer
	block [512]byte
	err   error
}

func (h *headers) add(kind byte, name, link string, records map[string]string) {
	if h.err != nil {
		return
	}
	if len(name) > 100 || len(link) > 100 || records != nil {
		var pax bytes.Buffer
		for key, value := range records {
			record(&pax, key, value)
		}
		if len(name) > 100 {
			record(&pax, "path", name)
		}
		if len(link) > 100 {
			record(&pax, "linkpath", link)
		}
		h.header(tar.TypeXHeader, "pax", "", pax.Len())
		h.write(pax.Bytes())
		h.write(make([]byte, -pax.Len()&511))
	}
	h.header(kind, name, link, 0)
}

func record(b *bytes.Buffer, key, value string) {
	size := len(key) + len(value) + 3
	for n := 0; n != size; {
		n = size
		size = len(strconv.Itoa(n)) + len(key) + len(value) + 3
	}
	fmt.Fprintf(b, "%d %s=%s\n", size, key, value)
}

func (h *headers) header(kind byte, name, link string, size int) {
	b := &h.block
	clear(b[:])
	copy(b[:100], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	octal(b[124:136], size)
	octal(b[136:148], 0)
	copy(b[148:], "        ")
	b[156] = kind
	copy(b[157:257], link)
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	octal(b[148:155], sum)
	h.write(b[:])
}

// octal fills a field with a number, and ends it with a zero byte.
func octal(b []byte, n int) {
	b[len(b)-1] = 0
	for i := len(b) - 2; i >= 0; i-- {
		b[i] = '0' + byte(n&7)
		n >>= 3
	}
}

func (h *headers) write(b []byte) {
	if h.err == nil {
		_, h.err = h.w.Write(b)
	}
}

func (h *headers) end() { h.write(make([]byte, 1024)) }
