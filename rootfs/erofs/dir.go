package erofs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// Tree is the directories of an image, for [Writer.Finish]. They are numbered;
// the root is 0. It is asked for every directory twice, and must answer the
// same.
type Tree interface {
	// Dirs is the number of directories. A parent comes before its children.
	Dirs() int
	// Dir gives a directory's attributes and its parent, the root's being
	// itself.
	Dir(n int) (a Attr, parent int)
	// Entries appends the directory's entries but "." and ".." to buf, in any
	// order.
	Entries(n int, buf []Entry) []Entry
}

// Entry is a name in a directory: of the directory numbered Dir if Mode says
// it is one, else of the inode NID.
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
	data []byte
}

// Finish writes the directories and the super block. The file must then be
// truncated to Image.Size.
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
func (f *finisher) dir(n int, block0 []byte) (NID, error) {
	w := f.w
	attr, parent := f.tree.Dir(n)
	xattrs, count, err := encodeXattrs(attr.Xattrs)
	if err != nil {
		return 0, err
	}
	l := &f.list
	if err := l.fill(f.tree, n, parent); err != nil {
		return 0, err
	}
	start := uint32(w.pos / BlockSize)
	layout, size := uint16(layoutInline), l.size
	whole := size / BlockSize * BlockSize
	if tail := size - whole; n == 0 || tail == 0 || inodeSize+len(xattrs)+tail > maxInline {
		layout, whole = layoutPlain, int(align(int64(size), BlockSize))
	}
	if w.planning {
		w.pos += int64(whole)
	} else {
		f.data = l.encode(f.data, f.nids)
		if err := w.append(f.data[:whole]); err != nil {
			return 0, err
		}
	}
	inline := max(size-whole, 0)
	if n == 0 {
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
	if w.planning {
		off, _, err := w.place(int64(inodeSize + len(xattrs) + inline))
		return NID(off / slotSize), err
	}
	return w.inode(&attr, layout, count, xattrs, uint64(size), start, l.nlink, f.data[whole:whole+inline])
}

// listing is a directory's entries, with "." and "..", in the order and the
// blocks the format wants.
type listing struct {
	entries []Entry
	blocks  []int // number of entries in each block
	size    int
	nlink   uint32
}

func (l *listing) fill(t Tree, n, parent int) error {
	// "." and ".." sort among the others by their bytes.
	l.entries = append(l.entries[:0], Entry{Name: []byte("."), Mode: ModeDir, Dir: n}, Entry{Name: []byte(".."), Mode: ModeDir, Dir: parent})
	l.entries = t.Entries(n, l.entries)
	slices.SortFunc(l.entries, func(a, b Entry) int { return bytes.Compare(a.Name, b.Name) })
	l.blocks, l.size, l.nlink = l.blocks[:0], 0, 0
	used, count := 0, 0
	for i, e := range l.entries {
		if len(e.Name) == 0 || len(e.Name) > MaxName || bytes.ContainsAny(e.Name, "/\x00") {
			return fmt.Errorf("name %.300q: %w", e.Name, ErrUnrepresentable)
		}
		if i > 0 && bytes.Equal(l.entries[i-1].Name, e.Name) {
			return fmt.Errorf("name %q twice in one directory", e.Name)
		}
		// A directory's own names are two, and each below it has one of it.
		if e.Mode&ModeType == ModeDir && !bytes.Equal(e.Name, []byte("..")) {
			l.nlink++
		}
		if used+direntSize+len(e.Name) > BlockSize {
			l.blocks = append(l.blocks, count)
			l.size += BlockSize
			used, count = 0, 0
		}
		used += direntSize + len(e.Name)
		count++
	}
	l.nlink++
	l.blocks = append(l.blocks, count)
	l.size += used
	return nil
}

// encode gives the directory's data, padded to whole blocks, in buf if there
// is room.
func (l *listing) encode(buf []byte, nids []NID) []byte {
	size := int(align(int64(l.size), BlockSize))
	data := slices.Grow(buf[:0], size)[:size]
	clear(data)
	le := binary.LittleEndian
	entries := l.entries
	for i, n := range l.blocks {
		b := data[i*BlockSize : (i+1)*BlockSize]
		name := n * direntSize
		for j, e := range entries[:n] {
			nid := e.NID
			if e.Mode&ModeType == ModeDir {
				nid = nids[e.Dir]
			}
			le.PutUint64(b[j*direntSize:], uint64(nid))
			le.PutUint16(b[j*direntSize+8:], uint16(name))
			b[j*direntSize+10] = direntType(e.Mode)
			name += copy(b[name:], e.Name)
		}
		entries = entries[n:]
	}
	return data
}
