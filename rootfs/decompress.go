package rootfs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/rootfs/inflate"
)

// A zstd frame states the window its reader must keep in memory. What usual
// levels make is at most narrowWindow; up to wideWindow, what zstd --long makes,
// is taken, but of one layer at a time.
const (
	narrowWindow = 8 << 20
	wideWindow   = 128 << 20
)

// decompress gives the tar stream of a layer's bytes.
func (s *Store) decompress(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	b, kind, err := peek(r)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "gzip":
		z, err := inflate.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return z, nil
	case "zstd":
		return s.unzstd(ctx, b)
	}
	return io.NopCloser(b), nil
}

func (s *Store) unzstd(ctx context.Context, b *bufio.Reader) (io.ReadCloser, error) {
	window, done := uint64(narrowWindow), func() {}
	start, err := b.Peek(zstd.HeaderMaxSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if wanted := windowOf(start); wanted > wideWindow {
		return nil, fmt.Errorf("zstd: a window of %d MiB, more than the %d MiB that are supported; compress it with --long=27 at most",
			wanted>>20, wideWindow>>20)
	} else if wanted > narrowWindow {
		if err := enter(ctx, s.wide); err != nil {
			return nil, err
		}
		window, done = wideWindow, sync.OnceFunc(func() { leave(s.wide) })
	}
	z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		done()
		return nil, fmt.Errorf("zstd: %w", err)
	}
	rc := z.IOReadCloser()
	return &onClose{rc, done}, nil
}

// windowOf reads how much memory a stream's first frame wants. Where that is one of
// pzstd's, which say nothing of it, the next may want all that is allowed.
func windowOf(start []byte) uint64 {
	var h zstd.Header
	switch err := h.Decode(start); {
	case err != nil:
		return 0
	case h.Skippable:
		return wideWindow
	case h.SingleSegment: // the window is the whole frame
		return h.FrameContentSize
	}
	return h.WindowSize
}

// onClose does something more when it is closed.
type onClose struct {
	io.ReadCloser
	done func()
}

func (c *onClose) Close() error {
	defer c.done()
	return c.ReadCloser.Close()
}
