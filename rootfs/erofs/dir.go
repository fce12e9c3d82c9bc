package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
)

// Tree is the directories of an image, for [Writer.Finish]. They are numbered;
// the root is 0. It is asked for every directory twice, and must answer the
// same.
type Tree interface {
	// Dirs is one more than the highest number. A parent's number is below those
	// of its children.
	Dirs() int
	// Dir gives a directory's attributes and its parent, the root's being
	// itself. There need not be a directory of each number.
	Dir(n int) (a Attr, parent int, ok bool)
	// Entries gives the directory's entries but "." and "..", in the order of
	// their names' bytes.
	Entries(n int) iter.Seq[Entry]
	// Links gives the inodes that have not one name but n.
	Links() iter.Seq2[NID, uint32]
}

// Entry is a name in a directory: of the directory numbered Dir if Mode says
// it is one, else of the inode NID. Of Mode only the type counts.
type Entry struct {
	Name []byte
	Mode uint16
	NID  NID
	Dir  int
}

// Image is what a finished image measures.
type Image struct {
	Size   int64
	Inodes int64
}

// finisher writes the directories.
type finisher struct {
	w    *Writer
	tree Tree
	nids []NID
	list listing
}

// Finish writes the directories and the super block. The file must then be
// truncated to Image.Size. It takes eight bytes of memory for a directory.
func (w *Writer) Finish(t Tree) (Image, error) {
	f := &finisher{w: w, tree: t, nids: make([]NID, t.Dirs())}
	// Twice the same walk: the first only finds out where each directory's
	// inode will be.
	plan := *w
	plan.planning = true
	f.w = &plan
	for n := range f.nids {
		nid, err := f.dir(n, nil)
		if err != nil {
			return Image{}, err
		}
		f.nids[n] = nid
	}
	f.w = w
	block := make([]byte, BlockSize)
	for n := range f.nids {
		nid, err := f.dir(n, block)
		if err != nil {
			return Image{}, err
		}
		if nid != f.nids[n] {
			return Image{}, fmt.Errorf("directory planned at inode %d written at %d", f.nids[n], nid)
		}
	}
	return w.seal(t, block)
}

// seal writes what is buffered, then block 0.
func (w *Writer) seal(t Tree, block []byte) (Image, error) {
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
	for nid, n := range t.Links() {
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
func (f *finisher) dir(n int, block0 []byte) (NID, error) {
	w := f.w
	attr, parent, ok := f.tree.Dir(n)
	if !ok {
		return 0, nil
	}
	xattrs, count, err := encodeXattrs(attr.Xattrs)
	if err != nil {
		return 0, err
	}
	start := uint32(w.pos / BlockSize)
	l := &f.list
	if err := f.fill(n, parent); err != nil {
		return 0, err
	}
	f.encode()
	layout, size, inline := uint16(layoutInline), l.size+int64(l.used), l.data[:l.used]
	if n == 0 || inodeSize+len(xattrs)+l.used > maxInline {
		layout, inline = layoutPlain, nil
		if err := w.append(l.data[:]); err != nil {
			return 0, err
		}
	}
	if n > 0 {
		return w.inode(&attr, layout, count, xattrs, uint64(size), start, l.nlink, inline)
	}
	if rootOffset+inodeSize+len(xattrs) > BlockSize {
		return 0, fmt.Errorf("%d bytes of extended attributes on the root: %w", len(xattrs), ErrUnrepresentable)
	}
	w.inodes++
	if !w.planning {
		b := block0[rootOffset:]
		putInode(b, &attr, layout, count, uint64(size), start, w.inodes, l.nlink)
		copy(b[inodeSize:], xattrs)
	}
	return rootOffset / slotSize, nil
}

// fill goes through a directory's entries, and writes all blocks but the last.
func (f *finisher) fill(n, parent int) error {
	l := &f.list
	l.entries, l.used, l.size, l.nlink, l.last = l.entries[:0], 0, 0, 1, nil
	add := func(e Entry) error {
		if err := l.check(e); err != nil {
			return err
		}
		if l.used+direntSize+len(e.Name) > BlockSize {
			f.encode()
			if err := f.w.append(l.data[:]); err != nil {
				return err
			}
			l.size += BlockSize
			l.entries, l.used = l.entries[:0], 0
		}
		l.used += direntSize + len(e.Name)
		l.entries = append(l.entries, e)
		return nil
	}
	// "." and ".." sort among the others by their bytes.
	own := []Entry{{Name: []byte("."), Mode: ModeDir, Dir: n}, {Name: []byte(".."), Mode: ModeDir, Dir: parent}}
	for e := range f.tree.Entries(n) {
		for len(own) > 0 && bytes.Compare(own[0].Name, e.Name) <= 0 {
			if err := add(own[0]); err != nil {
				return err
			}
			own = own[1:]
		}
		if err := add(e); err != nil {
			return err
		}
	}
	for _, e := range own {
		if err := add(e); err != nil {
			return err
		}
	}
	return nil
}

// listing is a directory's entries, with "." and "..", of which one block is kept.
type listing struct {
	entries []Entry // of the block
	used    int     // bytes of the block
	size    int64   // of the blocks before it
	nlink   uint32
	last    []byte
	data    [BlockSize]byte
}

// check refuses what must not be in a directory, or not after what is there.
func (l *listing) check(e Entry) error {
	if len(e.Name) == 0 || len(e.Name) > MaxName || bytes.ContainsAny(e.Name, "/\x00") {
		return fmt.Errorf("name %.300q: %w", e.Name, ErrUnrepresentable)
	}
	if bytes.Compare(l.last, e.Name) >= 0 {
		return fmt.Errorf("name %q after %q in one directory", e.Name, l.last)
	}
	l.last = e.Name
	// A directory's own names are two, and each below it has one of it.
	if e.Mode&ModeType == ModeDir && string(e.Name) != ".." {
		l.nlink++
	}
	return nil
}

// encode makes the block.
func (f *finisher) encode() {
	if f.w.planning {
		return
	}
	l := &f.list
	clear(l.data[:])
	le := binary.LittleEndian
	name := len(l.entries) * direntSize
	for i, e := range l.entries {
		nid := e.NID
		if e.Mode&ModeType == ModeDir {
			nid = f.nids[e.Dir]
		}
		b := l.data[i*direntSize:]
		le.PutUint64(b, uint64(nid))
		le.PutUint16(b[8:], uint16(name))
		b[10] = direntType(e.Mode)
		name += copy(l.data[name:], e.Name)
	}
}
