package layer

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A layer may have a million names. They are kept outside the garbage
// collector's heap, in values without pointers: it would let the heap grow to
// twice of what they take before it looks at them, and look at each of them.

// pages gives zeroed memory.
func pages(size int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for the file tree: %w", err)
	}
	return b, nil
}

func freePages(b []byte) {
	if b != nil {
		_ = unix.Munmap(b) // fails only for what is not mapped
	}
}

const slabBits = 14

// slab is a growing array of values without pointers, which never move.
type slab[T any] struct {
	chunks [][]byte
	n      int
}

// add appends a zero value and gives its index.
func (s *slab[T]) add() (uint32, *T, error) {
	if s.n&(1<<slabBits-1) == 0 {
		var zero T
		b, err := pages(int(unsafe.Sizeof(zero)) << slabBits)
		if err != nil {
			return 0, nil, err
		}
		s.chunks = append(s.chunks, b)
	}
	s.n++
	i := uint32(s.n - 1)
	return i, s.at(i), nil
}

func (s *slab[T]) at(i uint32) *T {
	chunk := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s.chunks[i>>slabBits]))), 1<<slabBits)
	return &chunk[i&(1<<slabBits-1)]
}

func (s *slab[T]) free() {
	for _, b := range s.chunks {
		freePages(b)
	}
	s.chunks, s.n = nil, 0
}

const (
	textBits = 20
	// maxText bounds what is kept of names, link targets and directories'
	// attributes, which inodes alone do not bound.
	maxText = 96 << 20
)

// text keeps strings of up to 64 KiB.
type text struct {
	chunks [][]byte
	used   int // of the last chunk
	total  int
}

// put keeps a string and gives its place.
func (t *text) put(s string) (uint32, error) {
	if err := t.count(len(s)); err != nil {
		return 0, err
	}
	if len(t.chunks) == 0 || t.used+len(s) > 1<<textBits {
		b, err := pages(1 << textBits)
		if err != nil {
			return 0, err
		}
		t.chunks = append(t.chunks, b)
		t.used = 0
	}
	last := len(t.chunks) - 1
	at := t.used
	t.used += copy(t.chunks[last][at:], s)
	return uint32(last<<textBits | at), nil
}

// count counts what is kept elsewhere.
func (t *text) count(n int) error {
	if t.total += n; t.total > maxText {
		return fmt.Errorf("%w of %d bytes of names, links and attributes in one layer", ErrTooLarge, maxText)
	}
	return nil
}

func (t *text) get(at uint32, n int) []byte {
	chunk := t.chunks[at>>textBits]
	at &= 1<<textBits - 1
	return chunk[at : int(at)+n : int(at)+n]
}

func (t *text) free() {
	for _, b := range t.chunks {
		freePages(b)
	}
	t.chunks = nil
}
