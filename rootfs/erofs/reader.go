package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"
)

// ErrCorrupt is wrapped by whatever in an image is not as the format has it.
var ErrCorrupt = errors.New("corrupt file system")

// ErrNotExist: a directory has no such name.
var ErrNotExist = errors.New("no such file")

// Reader reads an image that [Writer] made. It trusts nothing in it.
type Reader struct {
	file io.ReaderAt
	root NID
	size int64
}

// Inode is an inode as it is read.
type Inode struct {
	Attr
	NID   NID
	Size  int64
	Links uint32

	layout uint16
	data   int64 // offset of whole blocks
	tail   int64 // offset of inline data
}

// NewReader checks the super block of an image.
func NewReader(file io.ReaderAt) (*Reader, error) {
	block := make([]byte, BlockSize)
	if _, err := file.ReadAt(block, 0); err != nil {
		return nil, fmt.Errorf("super block: %w", corrupt(err))
	}
	b := block[superOffset:]
	le := binary.LittleEndian
	if le.Uint32(b) != superMagic || b[12] != 12 || le.Uint32(b[4:]) != checksum(block) {
		return nil, fmt.Errorf("super block: %w", ErrCorrupt)
	}
	return &Reader{file: file, root: NID(le.Uint16(b[14:])), size: int64(le.Uint32(b[36:])) * BlockSize}, nil
}

// corrupt makes of a read past the end what it means.
func corrupt(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: cut short", ErrCorrupt)
	}
	return err
}

func (r *Reader) read(off, n int64) ([]byte, error) {
	if off < 0 || n < 0 || off+n > r.size {
		return nil, fmt.Errorf("%w: %d bytes at %d of %d", ErrCorrupt, n, off, r.size)
	}
	b := make([]byte, n)
	if _, err := r.file.ReadAt(b, off); err != nil {
		return nil, corrupt(err)
	}
	return b, nil
}

// Root is the root directory.
func (r *Reader) Root() (*Inode, error) { return r.Inode(r.root) }

// Inode reads an inode.
func (r *Reader) Inode(nid NID) (*Inode, error) {
	if int64(nid) < 0 || int64(nid) > r.size/slotSize {
		return nil, fmt.Errorf("inode %d: %w", nid, ErrCorrupt)
	}
	off := int64(nid) * slotSize
	b, err := r.read(off, inodeSize)
	if err != nil {
		return nil, fmt.Errorf("inode %d: %w", nid, err)
	}
	le := binary.LittleEndian
	format := le.Uint16(b)
	i := &Inode{NID: nid, layout: format >> 1 & 7, Size: int64(le.Uint64(b[8:])), Links: le.Uint32(b[nlinkOffset:])}
	i.Mode, i.UID, i.GID = le.Uint16(b[4:]), le.Uint32(b[24:]), le.Uint32(b[28:])
	i.Sec, i.Nsec = int64(le.Uint64(b[32:])), le.Uint32(b[40:])
	if format&formatLong == 0 || i.layout != layoutPlain && i.layout != layoutInline || i.Size < 0 {
		return nil, fmt.Errorf("inode %d: %w: format %#x", nid, ErrCorrupt, format)
	}
	if t := i.Mode & ModeType; t == ModeChar || t == ModeBlock {
		i.Rdev = le.Uint32(b[16:])
	} else {
		i.data = int64(le.Uint32(b[16:])) * BlockSize
	}
	area := int64(0)
	if count := le.Uint16(b[2:]); count > 0 {
		area = xattrHeaderSize + 4*int64(count-1)
		if b, err = r.read(off+inodeSize, area); err == nil {
			i.Xattrs, err = DecodeXattrs(b)
		}
		if err != nil {
			return nil, fmt.Errorf("inode %d: extended attributes: %w", nid, err)
		}
	}
	i.tail = off + inodeSize + area
	return i, nil
}

// Data reads what an inode holds: a file's bytes, a link's target.
func (r *Reader) Data(i *Inode) io.Reader {
	if i.layout == layoutPlain {
		return io.NewSectionReader(r.file, i.data, i.Size)
	}
	whole := i.Size / BlockSize * BlockSize
	return io.MultiReader(io.NewSectionReader(r.file, i.data, whole), io.NewSectionReader(r.file, i.tail, i.Size-whole))
}

// Entries gives a directory's entries but "." and "..", sorted: of each the name,
// the type and the inode. It keeps a block at a time; an error ends it.
func (r *Reader) Entries(i *Inode) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if i.Mode&ModeType != ModeDir {
			yield(Entry{}, fmt.Errorf("directory %d: %w", i.NID, ErrCorrupt))
			return
		}
		var last []byte
		for n := range r.blocks(i) {
			d, err := r.dirBlock(i, n)
			for k := 0; err == nil && k < d.count(); k++ {
				e := d.entry(k)
				if bytes.Compare(last, e.Name) >= 0 {
					err = fmt.Errorf("directory %d: %w: not sorted", i.NID, ErrCorrupt)
					break
				}
				last = e.Name
				if string(e.Name) != "." && string(e.Name) != ".." && !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(Entry{}, err)
				return
			}
		}
	}
}

// Lookup finds a name in a directory.
func (r *Reader) Lookup(dir *Inode, name string) (*Inode, error) {
	missing := func() error { return fmt.Errorf("%q: %w", name, ErrNotExist) }
	var block dirents
	var failed error
	// The block that has the name is the last that does not begin behind it.
	n := sort.Search(int(r.blocks(dir)), func(n int) bool {
		if failed != nil {
			return true
		}
		var d dirents
		if d, failed = r.dirBlock(dir, int64(n)); failed != nil || string(d.entry(0).Name) > name {
			return true
		}
		block = d
		return false
	})
	if failed != nil {
		return nil, failed
	}
	if n == 0 {
		if dir.Mode&ModeType != ModeDir {
			return nil, fmt.Errorf("directory %d: %w", dir.NID, ErrCorrupt)
		}
		return nil, missing()
	}
	k := sort.Search(block.count(), func(k int) bool { return string(block.entry(k).Name) >= name })
	if k == block.count() || string(block.entry(k).Name) != name {
		return nil, missing()
	}
	return r.Inode(block.entry(k).NID)
}

// blocks is how many a directory has.
func (r *Reader) blocks(i *Inode) int64 {
	if i.Mode&ModeType != ModeDir {
		return 0
	}
	return (i.Size + BlockSize - 1) / BlockSize
}

// dirBlock reads a directory's block and checks it.
func (r *Reader) dirBlock(i *Inode, n int64) (dirents, error) {
	off, size := i.data+n*BlockSize, min(BlockSize, i.Size-n*BlockSize)
	if i.layout == layoutInline && size < BlockSize {
		off = i.tail
	}
	b, err := r.read(off, size)
	if err != nil {
		return nil, fmt.Errorf("directory %d: %w", i.NID, err)
	}
	if d := dirents(b); d.valid() {
		return d, nil
	}
	return nil, fmt.Errorf("directory %d: %w", i.NID, ErrCorrupt)
}

// dirents is a block of a directory.
type dirents []byte

func (d dirents) count() int { return d.start(0) / direntSize }

// start is where the name of entry k is.
func (d dirents) start(k int) int {
	return int(binary.LittleEndian.Uint16(d[k*direntSize+8:]))
}

// valid says whether the names lie one behind the other in the block.
func (d dirents) valid() bool {
	if len(d) < direntSize {
		return false
	}
	first := d.start(0)
	if first%direntSize != 0 || first < direntSize || first > len(d) {
		return false
	}
	for k := 1; k < d.count(); k++ {
		if d.start(k) < d.start(k-1) || d.start(k) > len(d) {
			return false
		}
	}
	return true
}

func (d dirents) entry(k int) Entry {
	b := d[k*direntSize:]
	e := Entry{NID: NID(binary.LittleEndian.Uint64(b)), Mode: direntMode(b[10])}
	if k+1 < d.count() {
		e.Name = d[d.start(k):d.start(k+1)]
	} else {
		e.Name, _, _ = bytes.Cut(d[d.start(k):], []byte{0})
	}
	return e
}
