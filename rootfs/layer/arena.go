package layer

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A layer may have a million names. They are kept outside the garbage
// collector's heap, in values without pointers: it would let the heap grow to
// twice of what they take before it looks at them, and look at each of them.

// arena gives memory of a budget.
type arena struct{ budget Budget }

// pages gives zeroed memory.
func (a arena) pages(size int) ([]byte, error) {
	if err := a.budget.Memory(int64(size)); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		a.giveBack(int64(size))
		return nil, fmt.Errorf("memory for the file tree: %w", err)
	}
	return b, nil
}

func (a arena) free(b []byte) {
	if b != nil {
		_ = unix.Munmap(b) // fails only for what is not mapped
		a.giveBack(int64(len(b)))
	}
}

// giveBack is for memory that is taken elsewhere, too.
func (a arena) giveBack(n int64) { _ = a.budget.Memory(-n) }

// numbers gives an array of n zeros.
func numbers[T uint32 | uint64](a arena, n int) ([]T, []byte, error) {
	var zero T
	b, err := a.pages(max(1, n) * int(unsafe.Sizeof(zero)))
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), n), b, nil
}

const slabBits = 14

// slab is a growing array of values without pointers, which never move.
type slab[T any] struct {
	arena  arena
	chunks [][]byte
	n      int
}

// add appends a zero value and gives its index.
func (s *slab[T]) add() (uint32, *T, error) {
	if s.n&(1<<slabBits-1) == 0 {
		var zero T
		b, err := s.arena.pages(int(unsafe.Sizeof(zero)) << slabBits)
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
		s.arena.free(b)
	}
	s.chunks, s.n = nil, 0
}

const textBits = 20

// text keeps strings of up to 1 MiB.
type text struct {
	arena  arena
	chunks [][]byte
	used   int // of the last chunk
}

// put keeps strings, one behind the other, and gives their place.
func (t *text) put(parts ...string) (uint32, error) {
	size := 0
	for _, s := range parts {
		size += len(s)
	}
	if len(t.chunks) == 0 || t.used+size > 1<<textBits {
		b, err := t.arena.pages(1 << textBits)
		if err != nil {
			return 0, err
		}
		t.chunks = append(t.chunks, b)
		t.used = 0
	}
	last := len(t.chunks) - 1
	at := t.used
	for _, s := range parts {
		t.used += copy(t.chunks[last][t.used:], s)
	}
	return uint32(last<<textBits | at), nil
}

func (t *text) get(at uint32, n int) []byte {
	chunk := t.chunks[at>>textBits]
	at &= 1<<textBits - 1
	return chunk[at : int(at)+n : int(at)+n]
}

func (t *text) free() {
	for _, b := range t.chunks {
		t.arena.free(b)
	}
	t.chunks = nil
}
