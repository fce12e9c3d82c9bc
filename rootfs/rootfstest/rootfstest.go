// Package rootfstest makes layers and images for tests: tar entries in, a
// v1.Image out.
package rootfstest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Entry is a tar entry; the zero type is a regular file, the zero time
// 2001-09-09.
type Entry struct {
	tar.Header
	Body string
}

// File is a regular file, mode 0644.
func File(name, body string) Entry {
	return Entry{tar.Header{Name: name, Mode: 0o644}, body}
}

// Dir is a directory.
func Dir(name string, mode int64) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: mode}, ""}
}

// Symlink is a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

// Link is a hard link.
func Link(name, target string) Entry {
	return Entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

// PAX gives an entry records of that format, extended attributes among them.
func PAX(e Entry, records map[string]string) Entry {
	e.PAXRecords = records
	e.Format = tar.FormatPAX
	return e
}

// Tar is the stream of the entries.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.Body))
		if h.ModTime.IsZero() {
			h.ModTime = time.Unix(1_000_000_000, 0)
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.Body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Layer is a layer of bytes as a registry holds them and the diff ID it says
// it has.
type Layer struct {
	v1.Layer
	ID v1.Hash
}

// DiffID is what the test claims.
func (l Layer) DiffID() (v1.Hash, error) { return l.ID, nil }

// Gzip is a stream as a gzip layer, Zstd as a zstd one, Plain as it is.
func Gzip(t testing.TB, stream []byte) Layer {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	write(t, w, stream)
	return Layer{static.NewLayer(b.Bytes(), types.OCILayer), sum(t, stream)}
}

func Zstd(t testing.TB, stream []byte) Layer {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, stream)
	return Layer{static.NewLayer(b.Bytes(), types.OCILayerZStd), sum(t, stream)}
}

func Plain(t testing.TB, stream []byte) Layer {
	t.Helper()
	return Layer{static.NewLayer(stream, types.OCIUncompressedLayer), sum(t, stream)}
}

// Raw is any bytes with any diff ID.
func Raw(stored []byte, diffID v1.Hash) Layer {
	return Layer{static.NewLayer(stored, types.OCILayer), diffID}
}

func write(t testing.TB, w io.WriteCloser, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func sum(t testing.TB, b []byte) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Image is an image of layers, bottom first.
func Image(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

// Simple is an image with a gzip layer for each list of entries.
func Simple(t testing.TB, layers ...[]Entry) v1.Image {
	t.Helper()
	var all []v1.Layer
	for _, entries := range layers {
		all = append(all, Gzip(t, Tar(t, entries...)))
	}
	return Image(t, all...)
}

// Numbered is an image of n layers, each with the file "n" and one of its own.
func Numbered(t testing.TB, n int) v1.Image {
	t.Helper()
	var layers [][]Entry
	for i := range n {
		layers = append(layers, []Entry{File("n", fmt.Sprint(i)), File(fmt.Sprintf("own/%d", i), fmt.Sprint(i))})
	}
	return Simple(t, layers...)
}
