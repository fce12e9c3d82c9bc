package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	bufferSize  = 1 << 20
	passBytes   = 64 << 10 // are worth a write of their own
	chunkBlocks = 32
	chunkSize   = chunkBlocks * BlockSize

	// A last partial block above this gets a block of its own: packing it
	// would leave more of a metadata block unused than padding does.
	maxInline = BlockSize * 3 / 4
)

// Writer makes one image. Its methods are not safe for concurrent use; after
// an error the image is lost.
type Writer struct {
	file io.WriterAt
	uuid [16]byte

	pos    int64  // end of what is allocated
	buf    []byte // data not yet written; it ends at bufEnd
	bufEnd int64

	chunk      []byte // the open metadata chunk, nil before the first
	chunkStart int64
	used       [chunkBlocks]int // bytes used of each of its blocks
	first      int              // the blocks before it are as good as full

	// planning makes the allocator only count: directories need one
	// another's places before any can be written.
	planning bool

	inodes uint32
	tail   [BlockSize]byte
}

// NewWriter starts an image in file, which must be empty and must read as
// zeros wherever nothing is written: blocks of zeros are left out.
func NewWriter(file io.WriterAt, uuid [16]byte) *Writer {
	return &Writer{file: file, uuid: uuid, pos: BlockSize, bufEnd: BlockSize,
		buf: make([]byte, 0, bufferSize)}
}

// Inodes is the number of inodes written so far.
func (w *Writer) Inodes() int64 { return int64(w.inodes) }

// Size is the size of the image so far.
func (w *Writer) Size() int64 { return w.pos }

// Viewer is a reader that may be read without copying: Next gives up to n of the
// next bytes, at least one, which are good until the next call.
type Viewer interface {
	io.Reader
	Next(n int) ([]byte, error)
}

// File writes a regular file of exactly size bytes from r, which may be a Viewer.
func (w *Writer) File(a Attr, size int64, r io.Reader) (NID, error) {
	xattrs, count, err := encodeXattrs(a.Xattrs)
	if err != nil {
		return 0, err
	}
	if size < 0 || w.pos+size > math.MaxUint32*BlockSize {
		return 0, fmt.Errorf("file of %d bytes: %w", size, ErrUnrepresentable)
	}
	whole, tail := size/BlockSize*BlockSize, size%BlockSize
	layout := uint16(layoutPlain)
	if tail > 0 && inodeSize+int64(len(xattrs))+tail <= maxInline {
		layout = layoutInline
	}
	var start uint32
	if whole > 0 || layout == layoutPlain && tail > 0 {
		start = uint32(w.pos / BlockSize)
	}
	if err := w.copyBlocks(r, whole); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(r, w.tail[:tail]); err != nil {
		return 0, short(err)
	}
	var inline []byte
	if layout == layoutInline {
		inline = w.tail[:tail]
	} else if tail > 0 {
		clear(w.tail[tail:])
		if err := w.append(w.tail[:]); err != nil {
			return 0, err
		}
	}
	return w.inode(&a, layout, count, xattrs, uint64(size), start, 1, inline)
}

// Symlink writes a symbolic link.
func (w *Writer) Symlink(a Attr, target string) (NID, error) {
	if target == "" || len(target) > MaxTarget {
		return 0, fmt.Errorf("symbolic link to %d bytes: %w", len(target), ErrUnrepresentable)
	}
	xattrs, count, err := encodeXattrs(a.Xattrs)
	if err != nil {
		return 0, err
	}
	if inodeSize+len(xattrs)+len(target) <= maxInline {
		return w.inode(&a, layoutInline, count, xattrs, uint64(len(target)), 0, 1, []byte(target))
	}
	start := uint32(w.pos / BlockSize)
	clear(w.tail[copy(w.tail[:], target):])
	if err := w.append(w.tail[:]); err != nil {
		return 0, err
	}
	return w.inode(&a, layoutPlain, count, xattrs, uint64(len(target)), start, 1, nil)
}

// Special writes a device, a fifo or a socket.
func (w *Writer) Special(a Attr) (NID, error) {
	xattrs, count, err := encodeXattrs(a.Xattrs)
	if err != nil {
		return 0, err
	}
	return w.inode(&a, layoutPlain, count, xattrs, 0, a.Rdev, 1, nil)
}

// inode packs an inode, its attributes and its inline data into the chunk.
func (w *Writer) inode(a *Attr, layout, count uint16, xattrs []byte, size uint64, u, nlink uint32, inline []byte) (NID, error) {
	off, b, err := w.place(int64(inodeSize + len(xattrs) + len(inline)))
	if err != nil {
		return 0, err
	}
	w.inodes++
	if b != nil {
		putInode(b, a, layout, count, size, u, w.inodes, nlink)
		n := copy(b[inodeSize:], xattrs)
		copy(b[inodeSize+n:], inline)
	}
	return NID(off / slotSize), nil
}

// place allocates n bytes of metadata, inside one block where n allows that,
// and gives their offset and, unless planning, the bytes.
func (w *Writer) place(n int64) (int64, []byte, error) {
	if n > BlockSize {
		// Only attributes are that large: whole blocks, in a chunk of their own
		// if the open one has not enough untouched ones left.
		return w.placeLarge(int(align(n, BlockSize) / BlockSize))
	}
	for {
		for i := w.first; i < w.openBlocks(); i++ {
			at := int(align(int64(w.used[i]), slotSize))
			if at+int(n) > BlockSize {
				if i == w.first && BlockSize-at < 2*slotSize {
					w.first++
				}
				continue
			}
			w.used[i] = at + int(n)
			return w.slot(i*BlockSize+at, int(n))
		}
		if err := w.openChunk(); err != nil {
			return 0, nil, err
		}
	}
}

func (w *Writer) placeLarge(blocks int) (int64, []byte, error) {
	if blocks > chunkBlocks {
		return 0, nil, fmt.Errorf("%d bytes of extended attributes on one file: %w", blocks*BlockSize, ErrUnrepresentable)
	}
	for {
		for i := w.first; i+blocks <= w.openBlocks(); i++ {
			free := true
			for j := i; j < i+blocks; j++ {
				free = free && w.used[j] == 0
			}
			if free {
				for j := i; j < i+blocks; j++ {
					w.used[j] = BlockSize
				}
				return w.slot(i*BlockSize, blocks*BlockSize)
			}
		}
		if err := w.openChunk(); err != nil {
			return 0, nil, err
		}
	}
}

func (w *Writer) openBlocks() int {
	if w.chunkStart == 0 {
		return 0
	}
	return chunkBlocks
}

func (w *Writer) slot(at, n int) (int64, []byte, error) {
	if w.planning {
		return w.chunkStart + int64(at), nil, nil
	}
	return w.chunkStart + int64(at), w.chunk[at : at+n], nil
}

// openChunk writes the open chunk and reserves the next one at the end.
func (w *Writer) openChunk() error {
	if !w.planning {
		if err := w.flushChunk(); err != nil {
			return err
		}
		if err := w.flush(); err != nil {
			return err
		}
		w.bufEnd = w.pos + chunkSize
		if w.chunk == nil {
			w.chunk = make([]byte, chunkSize)
		}
	}
	w.chunkStart = w.pos
	w.pos += chunkSize
	w.used = [chunkBlocks]int{}
	w.first = 0
	return nil
}

func (w *Writer) flushChunk() error {
	if w.chunkStart == 0 {
		return nil
	}
	if err := w.writeAt(w.chunk, w.chunkStart); err != nil {
		return err
	}
	clear(w.chunk)
	return nil
}

// copyBlocks appends n bytes, a multiple of the block size, from r.
func (w *Writer) copyBlocks(r io.Reader, n int64) error {
	v, views := r.(Viewer)
	for n > 0 {
		if views {
			b, err := v.Next(int(min(n, bufferSize)))
			if err == nil {
				err = w.pass(b)
			}
			if err != nil {
				return short(err)
			}
			n -= int64(len(b))
			continue
		}
		if len(w.buf) == cap(w.buf) {
			if err := w.flush(); err != nil {
				return err
			}
		}
		room := min(int64(cap(w.buf)-len(w.buf)), n)
		got, err := r.Read(w.buf[len(w.buf) : len(w.buf)+int(room)])
		w.buf = w.buf[:len(w.buf)+got]
		w.bufEnd += int64(got)
		w.pos += int64(got)
		n -= int64(got)
		if err != nil && n > 0 {
			return short(err)
		}
	}
	return nil
}

// pass appends bytes, those that are many without copying them.
func (w *Writer) pass(b []byte) error {
	if len(b) < passBytes {
		return w.append(b)
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.writeAt(b, w.pos); err != nil {
		return err
	}
	w.pos += int64(len(b))
	w.bufEnd = w.pos
	return nil
}

// append adds whole blocks; planning, it only allocates them.
func (w *Writer) append(b []byte) error {
	w.pos += int64(len(b))
	if w.planning {
		return nil
	}
	w.bufEnd += int64(len(b))
	for len(b) > 0 {
		if len(w.buf) == cap(w.buf) {
			// bufEnd already counts what is still to come.
			w.bufEnd -= int64(len(b))
			err := w.flush()
			w.bufEnd += int64(len(b))
			if err != nil {
				return err
			}
		}
		n := min(cap(w.buf)-len(w.buf), len(b))
		w.buf = append(w.buf, b[:n]...)
		b = b[n:]
	}
	return nil
}

func (w *Writer) flush() error {
	b := w.buf
	w.buf = w.buf[:0]
	return w.writeAt(b, w.bufEnd-int64(len(b)))
}

// writeAt leaves out runs of zero blocks, which makes the image as sparse as
// its files.
func (w *Writer) writeAt(b []byte, off int64) error {
	for len(b) > 0 {
		n, zero := run(b)
		if !zero {
			if _, err := w.file.WriteAt(b[:n], off); err != nil {
				return err
			}
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

// run gives the length of the run of equally empty or full blocks b starts with.
func run(b []byte) (n int, zero bool) {
	zero = isZero(b[:min(BlockSize, len(b))])
	for n < len(b) {
		next := b[n:min(n+BlockSize, len(b))]
		if isZero(next) != zero {
			break
		}
		n += len(next)
	}
	return n, zero
}

func isZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
