package erofs

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Dir is a directory to be written by [Writer.Finish].
type Dir struct {
	Attr    Attr
	Entries []Entry

	nid NID
}

// Entry is a name in a directory: of another directory if Dir is set, else of
// the inode NID, whose type Mode tells.
type Entry struct {
	Name string
	Mode uint16
	NID  NID
	Dir  *Dir
}

// Image is what a finished image measures.
type Image struct {
	Size   int64
	Inodes int64
}

// Finish writes the directories below root, which it sorts, and the super
// block. The file must then be truncated to Image.Size.
func (w *Writer) Finish(root *Dir) (Image, error) {
	type member struct{ dir, parent *Dir }
	members := []member{{root, root}}
	for i := 0; i < len(members); i++ {
		d := members[i].dir
		slices.SortFunc(d.Entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		for _, e := range d.Entries {
			if e.Dir != nil {
				members = append(members, member{e.Dir, d})
			}
		}
	}

	// Twice the same walk: the first only finds out where each directory's
	// inode will be.
	plan := *w
	plan.planning = true
	for _, m := range members {
		if err := plan.dir(m.dir, m.parent, m.dir == root, nil); err != nil {
			return Image{}, err
		}
	}
	block := make([]byte, BlockSize)
	for _, m := range members {
		if err := w.dir(m.dir, m.parent, m.dir == root, block); err != nil {
			return Image{}, err
		}
	}
	return w.seal(block)
}

// seal writes what is buffered, then block 0.
func (w *Writer) seal(block []byte) (Image, error) {
	if err := w.flush(); err != nil {
		return Image{}, err
	}
	if err := w.flushChunk(); err != nil {
		return Image{}, err
	}
	if w.chunkStart != 0 && w.chunkStart+chunkSize == w.pos {
		for i := chunkBlocks - 1; i >= 0 && w.used[i] == 0; i-- {
			w.pos -= BlockSize
		}
	}
	for nid, n := range w.links {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], n)
		if _, err := w.file.WriteAt(b[:], int64(nid)*slotSize+nlinkOffset); err != nil {
			return Image{}, err
		}
	}
	super := superblock{root: rootOffset / slotSize, inodes: uint64(w.inodes), blocks: uint32(w.pos / BlockSize), uuid: w.uuid}
	super.put(block)
	if _, err := w.file.WriteAt(block, 0); err != nil {
		return Image{}, err
	}
	return Image{Size: w.pos, Inodes: int64(w.inodes)}, nil
}

// dir places and, unless planning, writes one directory. The root's inode
// goes into block0, its entries into blocks of their own.
func (w *Writer) dir(d, parent *Dir, root bool, block0 []byte) error {
	xattrs, count, err := encodeXattrs(d.Attr.Xattrs)
	if err != nil {
		return err
	}
	l, err := newListing(d, parent)
	if err != nil {
		return err
	}
	start := uint32(w.pos / BlockSize)
	layout, size := uint16(layoutInline), l.size
	whole := size / BlockSize * BlockSize
	if tail := size - whole; root || tail == 0 || inodeSize+len(xattrs)+tail > maxInline {
		layout, whole = layoutPlain, int(align(int64(size), BlockSize))
	}
	var data []byte
	if w.planning {
		w.pos += int64(whole)
	} else {
		data = l.encode()
		if err := w.append(data[:whole]); err != nil {
			return err
		}
	}
	inline := max(size-whole, 0)
	if root {
		if rootOffset+inodeSize+len(xattrs) > BlockSize {
			return fmt.Errorf("%d bytes of extended attributes on the root: %w", len(xattrs), ErrUnrepresentable)
		}
		w.inodes++
		d.nid = rootOffset / slotSize
		if !w.planning {
			b := block0[rootOffset:]
			putInode(b, &d.Attr, layout, count, uint64(size), start, w.inodes, l.nlink)
			copy(b[inodeSize:], xattrs)
		}
		return nil
	}
	if w.planning {
		off, _, err := w.place(int64(inodeSize + len(xattrs) + inline))
		d.nid = NID(off / slotSize)
		return err
	}
	nid, err := w.inode(&d.Attr, layout, count, xattrs, uint64(size), start, l.nlink, data[whole:whole+inline])
	if err == nil && nid != d.nid {
		err = fmt.Errorf("directory planned at inode %d written at %d", d.nid, nid)
	}
	return err
}

// listing is a directory's entries, with "." and "..", in the order and the
// blocks the format wants.
type listing struct {
	entries []Entry
	blocks  []int // number of entries in each block
	size    int
	nlink   uint32
}

func newListing(d, parent *Dir) (*listing, error) {
	l := &listing{nlink: 2, entries: make([]Entry, 0, len(d.Entries)+2)}
	self := Entry{Name: ".", Dir: d}
	up := Entry{Name: "..", Dir: parent}
	// Both sort among the others by their bytes.
	all := append(l.entries, self, up)
	all = append(all, d.Entries...)
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	l.entries = all
	used, n := 0, 0
	for i, e := range all {
		if e.Name == "" || len(e.Name) > MaxName || strings.ContainsAny(e.Name, "/\x00") {
			return nil, fmt.Errorf("name %.300q: %w", e.Name, ErrUnrepresentable)
		}
		if i > 0 && all[i-1].Name == e.Name {
			return nil, fmt.Errorf("name %q twice in one directory", e.Name)
		}
		if e.Dir != nil && e.Name != "." && e.Name != ".." {
			l.nlink++
		}
		if used+direntSize+len(e.Name) > BlockSize {
			l.blocks = append(l.blocks, n)
			l.size += BlockSize
			used, n = 0, 0
		}
		used += direntSize + len(e.Name)
		n++
	}
	l.blocks = append(l.blocks, n)
	l.size += used
	return l, nil
}

// encode gives the directory's data, padded to whole blocks.
func (l *listing) encode() []byte {
	data := make([]byte, align(int64(l.size), BlockSize))
	le := binary.LittleEndian
	entries := l.entries
	for i, n := range l.blocks {
		b := data[i*BlockSize:]
		name := n * direntSize
		for j, e := range entries[:n] {
			nid, kind := e.NID, direntType(e.Mode)
			if e.Dir != nil {
				nid, kind = e.Dir.nid, direntType(ModeDir)
			}
			le.PutUint64(b[j*direntSize:], uint64(nid))
			le.PutUint16(b[j*direntSize+8:], uint16(name))
			b[j*direntSize+10] = kind
			name += copy(b[name:BlockSize], e.Name)
		}
		entries = entries[n:]
	}
	return data
}
