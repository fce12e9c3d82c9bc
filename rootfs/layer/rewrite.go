package layer

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// unbounded is the budget of what has been paid for.
type unbounded struct{}

func (unbounded) Bytes(int64) error  { return nil }
func (unbounded) Inodes(int64) error { return nil }

// Borrowed is a file of another layer image, and the paths that it gets where there
// is nothing of that name.
type Borrowed struct {
	Reader *erofs.Reader
	Inode  *erofs.Inode
	Paths  []string
}

// Rewrite makes of a layer image another, in which everything is where move
// says its path goes, and what is borrowed besides. implied are the paths of
// directories that the layer had no entry for.
func Rewrite(r *erofs.Reader, implied map[string]bool, move func(path string) string, borrowed []Borrowed, file io.WriterAt, uuid [16]byte) (Info, error) {
	t, err := newTree(erofs.NewWriter(file, uuid), unbounded{})
	if err != nil {
		return Info{}, err
	}
	defer t.free()
	root, err := r.Root()
	if err != nil {
		return Info{}, err
	}
	w := &rewriter{tree: t, r: r, implied: implied, move: move, inodes: map[erofs.NID]erofs.NID{}}
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

// borrow copies a file, and names the copy.
func (w *rewriter) borrow(b Borrowed) error {
	t := w.tree
	nid, err := w.copy(b.Reader, b.Inode)
	if err != nil {
		return err
	}
	t.links[nid] = 0
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
		t.links[nid]++
		if err := t.put(in, name, kindOf(b.Inode.Mode), nid); err != nil {
			return err
		}
	}
	return nil
}

type rewriter struct {
	tree    *tree
	r       *erofs.Reader
	implied map[string]bool
	move    func(string) string
	inodes  map[erofs.NID]erofs.NID // old to new, of those with several names
}

func (w *rewriter) dir(i *erofs.Inode, path string) error {
	if err := w.enter(i, path); err != nil {
		return fmt.Errorf("%.300q: %w", path, err)
	}
	entries, err := w.r.ReadDir(i)
	if err != nil {
		return err
	}
	for _, e := range entries {
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
	if w.implied[path] && path == "" {
		return nil
	}
	a := i.Attr
	plain := slices.DeleteFunc(slices.Clone(a.Xattrs), func(x erofs.Xattr) bool { return x.Name == opaqueXattr })
	opaque := len(plain) < len(a.Xattrs)
	a.Xattrs = plain
	parts, err := split(w.move(path))
	if err != nil {
		return err
	}
	if !w.implied[path] {
		if err := w.tree.directory(parts, a); err != nil {
			return err
		}
	}
	if opaque {
		d, err := w.tree.walk(parts, true)
		if err != nil {
			return err
		}
		w.tree.dirs.at(d).opaque = true
	}
	return nil
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
		return t.put(in, name, kindWhiteout, 0)
	}
	nid, seen := w.inodes[i.NID]
	if !seen {
		if nid, err = w.copy(w.r, i); err != nil {
			return fmt.Errorf("%.300q: %w", path, err)
		}
	}
	if i.Links > 1 {
		w.inodes[i.NID] = nid
		t.links[nid]++
	}
	return t.put(in, name, kindOf(i.Mode), nid)
}

func (w *rewriter) copy(r *erofs.Reader, i *erofs.Inode) (erofs.NID, error) {
	t := w.tree
	switch i.Mode & erofs.ModeType {
	case erofs.ModeRegular:
		t.bytes += i.Size
		return t.w.File(i.Attr, i.Size, r.Data(i))
	case erofs.ModeSymlink:
		target, err := Target(r, i)
		if err != nil {
			return 0, err
		}
		nid, err := t.w.Symlink(i.Attr, target)
		if err != nil {
			return 0, err
		}
		at, err := t.text.put(target)
		t.targets[nid] = span{at, uint16(len(target))}
		return nid, err
	}
	return t.w.Special(i.Attr)
}

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
