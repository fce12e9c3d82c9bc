package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/rootfs/inflate"
)

// narrowWindow is what a stream is taken to want that does not say it.
const narrowWindow = 8 << 20

// decompress gives the tar stream of a layer's bytes.
func decompress(r io.Reader, m *draft) (io.ReadCloser, error) {
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
		return unzstd(b, m)
	}
	return io.NopCloser(b), nil
}

// unzstd reads frames whose windows, which their reader must keep in memory, are
// not larger than the first one's, or than usual.
func unzstd(b *bufio.Reader, m *draft) (io.ReadCloser, error) {
	start, err := b.Peek(b.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	window := max(windowOf(start), narrowWindow)
	if window > zstd.MaxWindowSize {
		return nil, fmt.Errorf("zstd: a window of %d MiB, more than can be", window>>20)
	}
	if err := m.Memory(int64(window)); err != nil {
		return nil, fmt.Errorf("zstd: a window of %d MiB: %w", window>>20, err)
	}
	z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	return z.IOReadCloser(), nil
}

// windowOf reads how much memory a stream's first frame wants. Before it there may be
// some to be skipped, as pzstd has them.
func windowOf(start []byte) uint64 {
	var h zstd.Header
	for {
		if err := h.Decode(start); err != nil {
			return 0
		}
		skip := h.HeaderSize + int(h.SkippableSize)
		if !h.Skippable || skip > len(start) {
			break
		}
		start = start[skip:]
	}
	if h.SingleSegment { // the window is the whole frame
		return h.FrameContentSize
	}
	return h.WindowSize
}
