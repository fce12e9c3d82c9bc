package erofs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
			i.Xattrs, err = decodeXattrs(b)
		}
		if err != nil {
			return nil, fmt.Errorf("inode %d: extended attributes: %w", nid, err)
		}
	}
	i.tail = off + inodeSize + area
	return i, nil
}

func decodeXattrs(b []byte) ([]Xattr, error) {
	var all []Xattr
	for b = b[xattrHeaderSize:]; len(b) >= 4; {
		nameLen, index, valueLen := int(b[0]), b[1], int(binary.LittleEndian.Uint16(b[2:]))
		n := 4 + nameLen + valueLen
		if n > len(b) {
			return nil, ErrCorrupt
		}
		prefix := ""
		for _, p := range xattrPrefixes {
			if p.index == index {
				prefix = p.prefix
			}
		}
		if prefix == "" {
			return nil, ErrCorrupt
		}
		all = append(all, Xattr{prefix + string(b[4:4+nameLen]), bytes.Clone(b[4+nameLen : n])})
		b = b[min(int(align(int64(n), 4)), len(b)):]
	}
	return all, nil
}

// Data reads what an inode holds: a file's bytes, a link's target.
func (r *Reader) Data(i *Inode) io.Reader {
	if i.layout == layoutPlain {
		return io.NewSectionReader(r.file, i.data, i.Size)
	}
	whole := i.Size / BlockSize * BlockSize
	return io.MultiReader(io.NewSectionReader(r.file, i.data, whole), io.NewSectionReader(r.file, i.tail, i.Size-whole))
}

// A directory's size is bounded by what inodes and names a layer may have; this
// only keeps a broken image from asking for all memory.
const maxDir = 1 << 30

// ReadDir gives a directory's entries but "." and "..", sorted. Of an entry it
// knows the name and the inode.
func (r *Reader) ReadDir(i *Inode) ([]Entry, error) {
	if i.Mode&ModeType != ModeDir || i.Size > maxDir || i.Size > r.size {
		return nil, fmt.Errorf("directory %d: %w", i.NID, ErrCorrupt)
	}
	data := make([]byte, i.Size)
	if _, err := io.ReadFull(r.Data(i), data); err != nil {
		return nil, fmt.Errorf("directory %d: %w", i.NID, corrupt(err))
	}
	var all []Entry
	for len(data) > 0 {
		block := data[:min(BlockSize, len(data))]
		data = data[len(block):]
		entries, err := direntBlock(block)
		if err != nil {
			return nil, fmt.Errorf("directory %d: %w", i.NID, err)
		}
		all = append(all, entries...)
	}
	if !sort.SliceIsSorted(all, func(a, b int) bool { return bytes.Compare(all[a].Name, all[b].Name) < 0 }) {
		return nil, fmt.Errorf("directory %d: %w: not sorted", i.NID, ErrCorrupt)
	}
	return all, nil
}

func direntBlock(block []byte) ([]Entry, error) {
	le := binary.LittleEndian
	if len(block) < direntSize {
		return nil, ErrCorrupt
	}
	first := int(le.Uint16(block[8:]))
	if first%direntSize != 0 || first < direntSize || first > len(block) {
		return nil, ErrCorrupt
	}
	entries := make([]Entry, 0, first/direntSize)
	for at := 0; at < first; at += direntSize {
		start, end := int(le.Uint16(block[at+8:])), len(block)
		if at+direntSize < first {
			end = int(le.Uint16(block[at+direntSize+8:]))
		}
		if start < first || start > end || end > len(block) {
			return nil, ErrCorrupt
		}
		name := block[start:end]
		if at+direntSize == first {
			name, _, _ = bytes.Cut(name, []byte{0})
		}
		if string(name) == "." || string(name) == ".." {
			continue
		}
		entries = append(entries, Entry{Name: name, NID: NID(le.Uint64(block[at:]))})
	}
	return entries, nil
}

// Lookup finds a name in a directory.
func (r *Reader) Lookup(dir *Inode, name string) (*Inode, error) {
	entries, err := r.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	n := sort.Search(len(entries), func(i int) bool { return string(entries[i].Name) >= name })
	if n == len(entries) || string(entries[n].Name) != name {
		return nil, fmt.Errorf("%q: %w", name, ErrNotExist)
	}
	return r.Inode(entries[n].NID)
}
