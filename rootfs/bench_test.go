package rootfs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-vm/slipway/rootfs"
)

// benchImage is the first image of the OCI layout that SLIPWAY_BENCH_LAYOUT
// names, or one made up: seven layers of 200 MB and 20,000 files in all.
func benchImage(b *testing.B) v1.Image {
	b.Helper()
	if dir := os.Getenv("SLIPWAY_BENCH_LAYOUT"); dir != "" {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			b.Fatal(err)
		}
		m, err := index.IndexManifest()
		if err != nil {
			b.Fatal(err)
		}
		img, err := index.Image(m.Manifests[0].Digest)
		if err != nil {
			b.Fatal(err)
		}
		return img
	}
	words := make([][]byte, 4000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x ", r.Uint64()>>(r.IntN(60)))
	}
	var layers [][]Entry
	for l := range 7 {
		var entries []Entry
		for f := range 20_000 / 7 {
			var body bytes.Buffer
			for size := int(r.ExpFloat64() * 10_000); body.Len() < size; {
				body.Write(words[r.IntN(len(words))])
			}
			entries = append(entries, File(fmt.Sprintf("%d/%d/%d", l, f/50, f), body.String()))
		}
		layers = append(layers, entries)
	}
	return Simple(b, layers...)
}

func uncompressedSize(b *testing.B, img v1.Image) int64 {
	b.Helper()
	n := int64(0)
	for _, l := range layersOf(b, img) {
		rc, err := rootfs.Decompress(l)
		if err != nil {
			b.Fatal(err)
		}
		m, err := io.Copy(io.Discard, rc)
		if err != nil {
			b.Fatal(err)
		}
		rc.Close()
		n += m
	}
	return n
}

func layersOf(b *testing.B, img v1.Image) []v1.Layer {
	b.Helper()
	layers, err := img.Layers()
	if err != nil {
		b.Fatal(err)
	}
	return layers
}

// BenchmarkUnpack is compared with its floor, decompressing the same layers to
// nothing, with and without computing the two digests of each.
func BenchmarkUnpack(b *testing.B) {
	img := benchImage(b)
	size := uncompressedSize(b, img)
	b.Run("image", func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			b.StopTimer()
			dir := b.TempDir()
			s := open(b, dir)
			b.StartTimer()
			unpack(b, s, img)
			b.StopTimer()
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	for _, digests := range []bool{false, true} {
		b.Run(fmt.Sprintf("floor/digests=%v", digests), func(b *testing.B) {
			b.SetBytes(size)
			for range b.N {
				var g errgroup.Group
				g.SetLimit(3)
				for _, l := range layersOf(b, img) {
					g.Go(func() error { return rootfs.Floor(l, digests) })
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	s := open(b, b.TempDir())
	base := unpack(b, s, Numbered(b, 1))
	if _, err := s.Create(b.Context(), b.TempDir(), base, 20<<30); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Create(b.Context(), b.TempDir(), base, 20<<30); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMount(b *testing.B) {
	s := open(b, b.TempDir())
	o := clone(b, s, unpack(b, s, Numbered(b, 7)))
	for b.Loop() {
		mount(b, o)
		if err := o.Unmount(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
