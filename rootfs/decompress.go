package rootfs

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/slipway-vm/slipway/rootfs/inflate"
)

// A zstd frame states the window its reader must keep; more than this is
// refused, as zstd's own tool does.
const zstdWindow = 128 << 20

// decompress gives the tar stream of a layer's bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
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
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}
