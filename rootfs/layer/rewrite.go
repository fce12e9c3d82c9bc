package layer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// Borrowed is a file of another layer image, and the paths that it gets where there
// is nothing of that name.
type Borrowed struct {
	Reader *erofs.Reader
	Inode  *erofs.Inode
	Paths  []string
}

// Rewrite makes of a layer image another, in which everything is where move
// says its path goes, and what is borrowed besides. Of the budget only the memory
// counts: the rest has been paid for.
func Rewrite(r *erofs.Reader, move func(path string) string, borrowed []Borrowed, file io.WriterAt, uuid [16]byte, budget Budget) (Info, error) {
	t, err := newTree(erofs.NewWriter(file, uuid), paid{budget})
	if err != nil {
		return Info{}, err
	}
	defer t.free()
	root, err := r.Root()
	if err != nil {
		return Info{}, err
	}
	w := &rewriter{tree: t, r: r, move: move, inodes: map[erofs.NID]erofs.NID{}}
	defer func() { t.arena.giveBack(int64(len(w.inodes)) * mapped) }()
	if err := w.dir(root, ""); err != nil {
		return Info{}, err
	}
	for _, b := range borrowed {
		if err := w.borrow(b); err != nil {
			return Info{}, fmt.Errorf("%.300q: %w", b.Paths, err)
		}
	}
	return t.finish()
}

// paid is a budget in which files and inodes have been paid for.
type paid struct{ Budget }

func (paid) Bytes(int64) error  { return nil }
func (paid) Inodes(int64) error { return nil }

// mapped is about what an inode takes in a map of the heap.
const mapped = 64

// borrow copies a file, and names the copy.
func (w *rewriter) borrow(b Borrowed) error {
	t := w.tree
	n, err := w.copy(b.Reader, b.Inode)
	if err != nil {
		return err
	}
	n.flags |= inodeShared
	for _, path := range b.Paths {
		parts, err := split(path)
		if err != nil {
			return err
		}
		in, name, err := t.parent(parts)
		if err != nil {
			return err
		}
		if t.find(in, name) != nil {
			continue
		}
		if err := t.put(in, name, n); err != nil {
			return err
		}
	}
	return nil
}

type rewriter struct {
	tree   *tree
	r      *erofs.Reader
	move   func(string) string
	inodes map[erofs.NID]erofs.NID // old to new, of those with several names
}

func (w *rewriter) dir(i *erofs.Inode, path string) error {
	if err := w.enter(i, path); err != nil {
		return fmt.Errorf("%.300q: %w", path, err)
	}
	for e, err := range w.r.Entries(i) {
		if err != nil {
			return err
		}
		child, err := w.r.Inode(e.NID)
		if err != nil {
			return err
		}
		name := path + "/" + string(e.Name)
		if child.Mode&erofs.ModeType == erofs.ModeDir {
			err = w.dir(child, name)
		} else {
			err = w.file(child, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// enter makes a directory that has an entry of its own; others come with
// what is in them.
func (w *rewriter) enter(i *erofs.Inode, path string) error {
	a := i.Attr
	a.Xattrs = Said(i)
	parts, err := split(w.move(path))
	if err != nil {
		return err
	}
	if !Implied(i) {
		if err := w.tree.directory(parts, a); err != nil {
			return err
		}
	}
	if Opaque(i) {
		d, err := w.tree.walk(parts, true)
		if err != nil {
			return err
		}
		w.tree.dirs.at(d).flags |= dirOpaque
	}
	return nil
}

// Implied says whether the layer had no entry for a directory of its image, and
// Opaque whether that hides what is below. Said are its other attributes.
func Implied(i *erofs.Inode) bool { return marked(i, ImpliedXattr) }
func Opaque(i *erofs.Inode) bool  { return marked(i, opaqueXattr) }

func Said(i *erofs.Inode) []erofs.Xattr {
	return slices.DeleteFunc(slices.Clone(i.Xattrs), func(x erofs.Xattr) bool { return x.Name == opaqueXattr || x.Name == ImpliedXattr })
}

func marked(i *erofs.Inode, name string) bool {
	return slices.ContainsFunc(i.Xattrs, func(x erofs.Xattr) bool { return x.Name == name })
}

func (w *rewriter) file(i *erofs.Inode, path string) error {
	t := w.tree
	parts, err := split(w.move(path))
	if err != nil {
		return err
	}
	in, name, err := t.parent(parts)
	if err != nil {
		return err
	}
	if i.Mode&erofs.ModeType == erofs.ModeChar && i.Rdev == 0 {
		return t.put(in, name, node{kind: kindWhiteout})
	}
	n, err := w.inode(i)
	if err != nil {
		return fmt.Errorf("%.300q: %w", path, err)
	}
	return t.put(in, name, n)
}

// inode copies what is no directory, once however many names it has.
func (w *rewriter) inode(i *erofs.Inode) (node, error) {
	nid, seen := w.inodes[i.NID]
	if seen {
		return w.describe(w.r, i, nid)
	}
	n, err := w.copy(w.r, i)
	if err == nil && i.Links > 1 {
		if err = w.tree.budget.Memory(mapped); err == nil {
			w.inodes[i.NID] = n.nid
		}
	}
	return n, err
}

// describe is what the copy of an inode is for the tree.
func (w *rewriter) describe(r *erofs.Reader, i *erofs.Inode, nid erofs.NID) (n node, err error) {
	n = node{kind: kindOf(i.Mode), nid: nid}
	if i.Links > 1 {
		n.flags |= inodeShared
	}
	if n.kind == kindRegular && capable(i.Xattrs) {
		n.flags |= inodeCapable
	}
	if n.kind == kindSymlink {
		n.target, err = Target(r, i)
	}
	return n, err
}

func (w *rewriter) copy(r *erofs.Reader, i *erofs.Inode) (n node, err error) {
	t := w.tree
	if n, err = w.describe(r, i, 0); err != nil {
		return n, err
	}
	switch n.kind {
	case kindRegular:
		t.bytes += i.Size
		n.nid, err = t.w.File(i.Attr, i.Size, r.Data(i))
	case kindSymlink:
		n.nid, err = t.w.Symlink(i.Attr, n.target)
	default:
		n.nid, err = t.w.Special(i.Attr)
	}
	return n, err
}

// Directories is an image of nothing but directories.
type Directories struct{ tree *tree }

// NewDirectories starts an image with its root. It must be closed.
func NewDirectories(root erofs.Attr, file io.WriterAt, uuid [16]byte, budget Budget) (*Directories, error) {
	t, err := newTree(erofs.NewWriter(file, uuid), paid{budget})
	if err != nil {
		return nil, err
	}
	return &Directories{t}, t.setAttr(t.dirs.at(0), root)
}

// Add makes a directory in one that is there; the root is 0. One that is there
// stays as it is.
func (d *Directories) Add(in uint32, name string, a erofs.Attr) (uint32, error) {
	if e := d.tree.find(in, name); e != nil {
		return e.low, nil
	}
	n, err := d.tree.putDir(in, name)
	if err != nil {
		return 0, err
	}
	return n, d.tree.setAttr(d.tree.dirs.at(n), a)
}

// Finish writes the image and gives its size.
func (d *Directories) Finish() (int64, error) {
	info, err := d.tree.finish()
	return info.Size, err
}

// Close frees what the image took of memory.
func (d *Directories) Close() { d.tree.free() }

// Target reads where a symbolic link in an image leads.
func Target(r *erofs.Reader, i *erofs.Inode) (string, error) {
	if i.Size > erofs.MaxTarget {
		return "", fmt.Errorf("symbolic link of %d bytes: %w", i.Size, erofs.ErrCorrupt)
	}
	var b strings.Builder
	if n, err := io.Copy(&b, r.Data(i)); err != nil || n < i.Size {
		return "", errors.Join(err, erofs.ErrCorrupt)
	}
	return b.String(), nil
}
