package rootfs

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	blockBytes  = 256 << 10
	blocksAhead = 4
)

// ahead decompresses a block when its reader asks for it, who then finds it in the
// processor's cache. Once a processor is to spare it does so in a goroutine of its
// own, a few blocks in front of its reader: decompressing one layer and writing it
// take two processors then. It sums what it gives out, by whole blocks, and refuses
// more than limit bytes.
type ahead struct {
	r     io.Reader
	spare func() bool

	full  chan block // nil without the goroutine
	empty chan []byte
	stop  chan struct{}
	ended chan struct{}
	once  sync.Once

	rest  []byte
	whole []byte
	err   error

	sum   hash.Hash
	left  int64
	limit int64
}

type block struct {
	data []byte
	err  error
}

// newAhead asks spare before each block until that says yes.
func newAhead(r io.Reader, limit int64, spare func() bool) *ahead {
	return &ahead{r: r, spare: spare, whole: make([]byte, blockBytes), sum: sha256.New(), left: limit, limit: limit}
}

// start begins the goroutine.
func (a *ahead) start() {
	a.full = make(chan block, blocksAhead)
	a.empty = make(chan []byte, blocksAhead)
	a.stop = make(chan struct{})
	a.ended = make(chan struct{})
	for range blocksAhead - 1 {
		a.empty <- make([]byte, blockBytes)
	}
	go a.fill()
}

func (a *ahead) fill() {
	defer close(a.ended)
	for {
		var buf []byte
		select {
		case buf = <-a.empty:
		case <-a.stop:
			return
		}
		b := a.decompress(buf)
		select {
		case a.full <- b:
		case <-a.stop:
			return
		}
		if b.err != nil {
			return
		}
	}
}

// decompress fills a block.
func (a *ahead) decompress(buf []byte) block {
	n, err := 0, error(nil)
	for n < len(buf) && err == nil {
		var got int
		got, err = a.r.Read(buf[n:])
		n += got
	}
	return block{buf[:n], err}
}

// next gives the next block; the one before is no longer needed.
func (a *ahead) next() block {
	if a.full == nil && a.spare() {
		a.start()
	}
	used := a.whole[:cap(a.whole)]
	if a.full == nil {
		return a.decompress(used)
	}
	a.empty <- used
	return <-a.full
}

func (a *ahead) Read(p []byte) (int, error) {
	b, err := a.Next(len(p))
	return copy(p, b), err
}

// Next gives up to n bytes, which are good until the next call.
func (a *ahead) Next(n int) ([]byte, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return nil, a.err
		}
		b := a.next()
		a.whole, a.rest, a.err = b.data, b.data, b.err
		a.sum.Write(b.data)
		if a.left -= int64(len(b.data)); a.left < 0 {
			a.rest, a.err = nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, a.limit)
		}
	}
	b := a.rest[:min(n, len(a.rest))]
	a.rest = a.rest[len(b):]
	return b, nil
}

// Close stops the goroutine, if any, and waits for it, so for the read it may be in.
// Closing again does nothing.
func (a *ahead) Close() {
	if a.full == nil {
		return
	}
	a.once.Do(func() { close(a.stop) })
	<-a.ended
}

// Hash is the digest of what was read.
func (a *ahead) Hash() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(a.sum.Sum(nil))}
}

// opener is what a layer offers whose download can be cancelled.
type opener interface {
	Open(ctx context.Context) (io.ReadCloser, error)
}

// openLayer gives a layer's bytes as they are in the registry.
func openLayer(ctx context.Context, l v1.Layer) (io.ReadCloser, error) {
	if o, ok := l.(opener); ok {
		return o.Open(ctx)
	}
	return l.Compressed()
}

// counted reports how far the download is, and keeps what it ended with.
type counted struct {
	r   io.Reader
	f   func(n int)
	err error
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.f(n)
	if err != nil {
		c.err = err
	}
	return n, err
}

// peek tells a stream's compression by its first bytes: media types lie.
func peek(r io.Reader) (*bufio.Reader, string, error) {
	b := bufio.NewReaderSize(r, 128<<10)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case len(magic) >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		return b, "gzip", nil
	case string(magic) == "\x28\xb5\x2f\xfd", len(magic) == 4 && magic[0]&0xf0 == 0x50 && string(magic[1:]) == "\x2a\x4d\x18":
		return b, "zstd", nil
	}
	return b, "", nil
}
