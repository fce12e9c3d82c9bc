package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"io"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-vm/slipway/rootfs/inflate"
)

type decoder func(io.Reader) (io.ReadCloser, error)

const (
	goFloor   = "floor in Go: decompressing to nothing, both digests"
	isalFloor = "floor by ISA-L: decompressing to nothing, both digests"
)

// floors decompress the layers to nothing, as many at a time as there are
// processors and one more, out of files that are in memory.
func floors() []subject {
	inGo := func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(bufio.NewReaderSize(r, 128<<10)) }
	all := []subject{
		{name: goFloor, floor: true, run: inflating(inGo, true)},
		{name: "in Go, no digests", floor: true, run: inflating(inGo, false)},
	}
	if inflate.Native() {
		all = append(all,
			subject{name: isalFloor, floor: true, run: inflating(inflate.NewReader, true)},
			subject{name: "by ISA-L, no digests", floor: true, run: inflating(inflate.NewReader, false)})
	}
	return all
}

func inflating(open decoder, digests bool) func(context.Context, *imageBench, *pullImage) (sample, error) {
	return func(_ context.Context, _ *imageBench, img *pullImage) (sample, error) {
		start := time.Now()
		var group errgroup.Group
		group.SetLimit(runtime.NumCPU() + 1)
		for _, l := range img.layers {
			group.Go(func() error { return inflateLayer(l, open, digests) })
		}
		err := group.Wait()
		return sample{Elapsed: time.Since(start)}, err
	}
}

func inflateLayer(l v1.Layer, open decoder, digests bool) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	var in io.Reader = rc
	var out io.Writer = io.Discard
	if digests {
		in, out = io.TeeReader(rc, sha256.New()), sha256.New()
	}
	z, err := open(in)
	if err != nil {
		return err
	}
	defer z.Close()
	// Behind an interface, since the reader's and the discarding writer's own ways
	// of copying differ in the size of their buffers.
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{z}, make([]byte, 256<<10))
	return err
}
