package rootfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/rootfs"
)

// FuzzDecompress feeds what layers are compressed by. Whatever is taken for zstd or
// gzip, its reader ends, and within its memory.
func FuzzDecompress(f *testing.F) {
	f.Fuzz(func(t *testing.T, stored []byte) {
		z, err := rootfs.Decompress(Raw(stored, v1.Hash{}))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(z, 4<<20))
		if err := z.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzUnpack feeds two layers, one upon the other. What is not refused can be shown
// as one file system.
func FuzzUnpack(f *testing.F) {
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		lower, upper = bytes.Clone(lower), bytes.Clone(upper)
		mendHeaders(lower)
		mendHeaders(upper)
		s := open(t, t.TempDir(), func(c *rootfs.Config) { c.Limits = rootfs.Limits{Bytes: 1 << 20, Inodes: 1000} })
		base, err := s.Unpack(t.Context(), Image(t, Plain(t, lower), Plain(t, upper)), rootfs.UnpackOptions{})
		if err == nil {
			var flat memory
			_, err = base.Flatten(t.Context(), &flat, [16]byte{})
		}
		if err != nil && !errors.Is(err, rootfs.ErrMalformed) && !errors.Is(err, rootfs.ErrTooLarge) {
			t.Errorf("error of no kind: %v", err)
		}
	})
}

// mendHeaders makes the checksums of changed headers right, without which no change
// would get past them.
func mendHeaders(stream []byte) {
	for ; len(stream) >= 512; stream = stream[512:] {
		h := stream[:512]
		if string(h[257:262]) != "ustar" {
			continue
		}
		copy(h[148:156], "        ")
		n := 0
		for _, c := range h {
			n += int(c)
		}
		copy(h[148:156], fmt.Sprintf("%06o\x00 ", n))
	}
}

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if end := int(off) + len(p); end > len(m.b) {
		m.b = append(m.b, make([]byte, end-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}
