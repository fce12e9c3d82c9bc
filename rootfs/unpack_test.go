package rootfs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs"
)

// counting counts how often a layer is read.
type counting struct {
	v1.Layer
	n *atomic.Int32
}

func (c counting) Compressed() (io.ReadCloser, error) {
	c.n.Add(1)
	return c.Layer.Compressed()
}

func TestUnpackOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Two stores, as two processes would have.
	stores := []*rootfs.Store{open(t, dir), open(t, dir)}
	var n atomic.Int32
	body := strings.Repeat("0123456789", 200_000)
	img := Image(t, counting{Gzip(t, Tar(t, File("f", body))), &n}, counting{Zstd(t, Tar(t, File("g", body))), &n}, counting{Plain(t, Tar(t, File("h", body))), &n})
	n.Store(0)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if _, err := stores[i%2].Unpack(t.Context(), img, rootfs.UnpackOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n.Load() != 3 {
		t.Errorf("three layers were read %d times", n.Load())
	}
	r := mount(t, clone(t, stores[0], unpack(t, stores[1], img)))
	for _, name := range []string{"f", "g", "h"} {
		if read(t, r, name) != body {
			t.Errorf("%s differs", name)
		}
	}
}

func TestUnpackRefuses(t *testing.T) {
	good := Tar(t, File("f", strings.Repeat("x", 10000)))
	gz := stored(t, Gzip(t, good))
	id := func(b []byte) v1.Hash { h, _, _ := v1.SHA256(bytes.NewReader(b)); return h }
	other := id([]byte("other"))
	bomb := Tar(t, File("f", strings.Repeat("\x00", 3<<20)))
	var crowd []Entry
	for i := range 2000 {
		crowd = append(crowd, File(fmt.Sprint(i), ""))
	}
	tests := []struct {
		name  string
		layer Layer
		kind  error
		say   string
	}{
		{"wrong diff ID", Raw(gz, other), rootfs.ErrCorrupt, other.String()},
		{"truncated gzip", Raw(gz[:len(gz)-20], id(good)), rootfs.ErrMalformed, "unexpected EOF"},
		{"broken gzip", Raw(append(append([]byte{}, gz[:20]...), bytes.Repeat([]byte{0xff}, 100)...), id(good)), rootfs.ErrMalformed, ""},
		{"rubbish after gzip", Raw(append(append([]byte{}, gz...), "rubbish"...), id(good)), rootfs.ErrMalformed, ""},
		{"no archive", Raw(bytes.Repeat([]byte("no"), 1000), id(nil)), rootfs.ErrMalformed, "tar"},
		{"bytes", Gzip(t, bomb), rootfs.ErrTooLarge, "limit of 2097152 bytes"},
		{"padding", Gzip(t, append(Tar(t), make([]byte, 6<<20)...)), rootfs.ErrTooLarge, "limit"},
		{"files", Gzip(t, Tar(t, crowd...)), rootfs.ErrTooLarge, "limit of 1000 files"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, func(c *rootfs.Config) { c.Limits = rootfs.Limits{Bytes: 2 << 20, Inodes: 1000} })
			_, err := s.Unpack(t.Context(), Image(t, test.layer), rootfs.UnpackOptions{})
			if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.say) {
				t.Errorf("error %v, want %v: %s", err, test.kind, test.say)
			}
			digest, _ := test.layer.Digest()
			if err != nil && !strings.Contains(err.Error(), digest.String()) {
				t.Errorf("error does not name the layer: %v", err)
			}
			empty(t, dir, "layers")
			empty(t, dir, "tmp")
		})
	}
}

// A full disk is called that, and leaves the store as it was.
func TestUnpackDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := open(t, dir)
	random := make([]byte, 6<<20)
	for i := range random {
		random[i] = byte(i * i >> 7)
	}
	l := Gzip(t, Tar(t, File("f", string(random))))
	_, err := s.Unpack(t.Context(), Image(t, l), rootfs.UnpackOptions{})
	digest, _ := l.Digest()
	if !errors.Is(err, unix.ENOSPC) || errors.Is(err, rootfs.ErrMalformed) || !strings.Contains(err.Error(), digest.String()) {
		t.Errorf("error %v", err)
	}
	empty(t, dir, "layers")
	empty(t, dir, "tmp")
	unpack(t, s, Numbered(t, 1))
}

func stored(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	rc, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	b, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stuck is a layer whose download never ends.
type stuck struct {
	Layer
	reading chan struct{}
}

func (s stuck) Open(ctx context.Context) (io.ReadCloser, error) {
	r, w := io.Pipe()
	close(s.reading)
	return struct {
		io.Reader
		io.Closer
	}{r, w}, nil
}

// A zstd layer may ask for a window of what a layer may take of memory, not for more.
func TestUnpackWindows(t *testing.T) {
	stream := Tar(t, File("f", strings.Repeat("0123456789", 100)))
	for size, kind := range map[int]error{8 << 20: nil, 128 << 20: nil, 256 << 20: rootfs.ErrTooLarge} {
		layer := windowed(t, stream, size)
		s := open(t, t.TempDir(), func(c *rootfs.Config) { c.Limits.Memory = 192 << 20 })
		for range 2 { // the place for wide ones is given back
			_, err := s.Unpack(t.Context(), Image(t, layer), rootfs.UnpackOptions{})
			if !errors.Is(err, kind) || kind != nil && !strings.Contains(err.Error(), "window of 256 MiB") {
				t.Errorf("window of %d: %v", size, err)
			}
			if _, err := s.Prune(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// windowed compresses a stream by zstd with a window, and does not state a smaller
// one.
func windowed(t *testing.T, stream []byte, window int) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	// In two parts, so that the size of the whole is not known.
	for _, part := range [][]byte{stream[:1000], stream[1000:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return Raw(b.Bytes(), Plain(t, stream).ID)
}

// A frame may be its own window, and what pzstd writes begins with one of no data.
func TestUnpackFrames(t *testing.T) {
	stream := Tar(t, File("f", strings.Repeat("0123456789", 2<<20)))
	w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	single := w.EncodeAll(stream, nil)
	skippable := append([]byte("\x50\x2a\x4d\x18\x04\x00\x00\x00size"), single...)
	for name, stored := range map[string][]byte{"one segment": single, "skippable": skippable} {
		s := open(t, t.TempDir())
		if _, err := s.Unpack(t.Context(), Image(t, Raw(stored, Plain(t, stream).ID)), rootfs.UnpackOptions{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An image without layers is an empty root.
func TestUnpackNothing(t *testing.T) {
	s := open(t, t.TempDir())
	b := unpack(t, s, Image(t))
	if len(b.Images()) != 1 || len(b.Layers) != 0 {
		t.Fatalf("images %v, layers %v", b.Images(), b.Layers)
	}
	root := mount(t, clone(t, s, b))
	empty(t, root)
	write(t, "x", root, "f")
	if again := unpack(t, s, Image(t)); again.ID != b.ID {
		t.Errorf("base %s, then %s", b.ID, again.ID)
	}
}

func TestUnpackCancelled(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	l := stuck{Gzip(t, Tar(t)), make(chan struct{})}
	go func() { <-l.reading; cancel() }()
	if _, err := s.Unpack(ctx, Image(t, l), rootfs.UnpackOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	empty(t, dir, "layers")
	empty(t, dir, "tmp")
}

func TestUnpackProgress(t *testing.T) {
	s := open(t, t.TempDir())
	a, b := Gzip(t, Tar(t, File("f", "x"))), Gzip(t, Tar(t, File("g", "x")))
	unpack(t, s, Image(t, a))
	var phases [2][]rootfs.Phase
	_, err := s.Unpack(t.Context(), Image(t, a, b), rootfs.UnpackOptions{Progress: func(p rootfs.Progress) {
		phases[p.Index] = append(phases[p.Index], p.Phase)
		if p.Layers != 2 || p.Total == 0 || p.Phase == rootfs.PhaseDone && p.Complete != p.Total {
			t.Errorf("progress %+v", p)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(phases); got != "[[exists] [waiting fetching done]]" {
		t.Errorf("phases %s", got)
	}
}
