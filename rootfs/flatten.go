package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// Flatten writes one file-system image of what the base's layers show together,
// and gives its size. What upper layers hide is not in it. The file must be empty;
// the same base and UUID make the same bytes. The caller has a [Store.Hold].
func (b *Base) Flatten(ctx context.Context, file io.WriterAt, uuid [16]byte) (size int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("flatten base: %w", err)
		}
	}()
	view, err := b.View()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	f := &flattener{View: view, w: erofs.NewWriter(file, uuid), inodes: map[inodeKey]*flatInode{}}
	if err := f.dir(ctx, view.root, b.Root, 0); err != nil {
		return 0, err
	}
	image, err := f.w.Finish(f)
	return image.Size, err
}

// flattener copies the merged tree. It is the directories of the new image, as
// package erofs wants them.
type flattener struct {
	*View
	w      *erofs.Writer
	dirs   []flatDir
	inodes map[inodeKey]*flatInode // those with several names
	// overlay keeps what overlayfs reads: whiteouts and opaque directories.
	overlay bool
}

type flatDir struct {
	attr    erofs.Attr
	parent  int
	entries []erofs.Entry
}

// inodeKey is an inode of a layer.
type inodeKey struct {
	layer int
	nid   erofs.NID
}

type flatInode struct {
	nid   erofs.NID
	links uint32
}

// dir copies a directory, which the stack's, the uppermost first, are merged into.
func (f *flattener) dir(ctx context.Context, stack []place, attr erofs.Attr, parent int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	number := len(f.dirs)
	if f.overlay {
		attr = overlaid(attr)
	} else {
		attr = withoutOverlay(attr)
	}
	f.dirs = append(f.dirs, flatDir{attr: attr, parent: parent})
	names, err := f.merge(stack)
	if err != nil {
		return err
	}
	var entries []erofs.Entry
	for _, n := range names {
		top := n.found[0]
		mode := top.inode.Mode & erofs.ModeType
		e := erofs.Entry{Name: n.name, Mode: mode}
		if mode == erofs.ModeDir {
			e.Dir = len(f.dirs)
			err = f.dir(ctx, n.found, top.inode.Attr, number)
		} else {
			e.NID, err = f.file(top)
		}
		if err != nil {
			return fmt.Errorf("%.255q: %w", n.name, err)
		}
		entries = append(entries, e)
	}
	f.dirs[number].entries = entries
	return nil
}

// flatName is a name in a merged directory and what the layers have there, the
// uppermost first: directories that are merged, or one thing of another kind.
type flatName struct {
	name  []byte
	found []place
	done  bool // what is below does not count
}

// merge lists a merged directory as overlayfs would, by name.
func (f *flattener) merge(stack []place) ([]*flatName, error) {
	byName := map[string]*flatName{}
	for _, p := range stack {
		for e, err := range f.readers[p.layer].Entries(p.inode) {
			if err != nil {
				return nil, err
			}
			n := byName[string(e.Name)]
			if n == nil {
				n = &flatName{name: e.Name}
				byName[string(e.Name)] = n
			}
			if n.done {
				continue
			}
			i, err := f.readers[p.layer].Inode(e.NID)
			if err != nil {
				return nil, err
			}
			n.add(place{layer: p.layer, inode: i}, f.overlay)
		}
	}
	var names []*flatName
	for _, n := range byName {
		if len(n.found) > 0 {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b *flatName) int { return bytes.Compare(a.name, b.name) })
	return names, nil
}

func (n *flatName) add(p place, whiteouts bool) {
	a := &p.inode.Attr
	switch {
	case a.Mode&erofs.ModeType == erofs.ModeDir:
		n.found = append(n.found, p)
		n.done = layer.Opaque(p.inode)
		return
	case len(n.found) == 0 && (whiteouts || !isWhiteout(a)):
		n.found = []place{p}
	}
	n.done = true
}

func isWhiteout(a *erofs.Attr) bool { return a.Mode&erofs.ModeType == erofs.ModeChar && a.Rdev == 0 }

// withoutOverlay drops what only overlayfs reads.
func withoutOverlay(a erofs.Attr) erofs.Attr {
	a.Xattrs = slices.DeleteFunc(slices.Clone(a.Xattrs), func(x erofs.Xattr) bool {
		return strings.HasPrefix(x.Name, "trusted.overlay.")
	})
	return a
}

// file copies what is no directory, once however many names it has.
func (f *flattener) file(p place) (erofs.NID, error) {
	key := inodeKey{p.layer, p.inode.NID}
	if known := f.inodes[key]; known != nil {
		known.links++
		return known.nid, nil
	}
	nid, err := f.copy(f.readers[p.layer], p.inode)
	if err == nil && p.inode.Links > 1 {
		f.inodes[key] = &flatInode{nid, 1}
	}
	return nid, err
}

func (f *flattener) copy(r *erofs.Reader, i *erofs.Inode) (erofs.NID, error) {
	switch i.Mode & erofs.ModeType {
	case erofs.ModeRegular:
		return f.w.File(i.Attr, i.Size, r.Data(i))
	case erofs.ModeSymlink:
		target, err := layer.Target(r, i)
		if err != nil {
			return 0, err
		}
		return f.w.Symlink(i.Attr, target)
	}
	return f.w.Special(i.Attr)
}

// Dirs, Dir, Entries and Links implement erofs.Tree.
func (f *flattener) Dirs() int { return len(f.dirs) }

func (f *flattener) Dir(n int) (erofs.Attr, int, bool) { return f.dirs[n].attr, f.dirs[n].parent, true }

func (f *flattener) Entries(n int) iter.Seq[erofs.Entry] { return slices.Values(f.dirs[n].entries) }

func (f *flattener) Links() iter.Seq2[erofs.NID, uint32] {
	return func(yield func(erofs.NID, uint32) bool) {
		for _, i := range f.inodes {
			if !yield(i.nid, i.links) {
				return
			}
		}
	}
}

// FlatDisks is what a guest that has the base as one image, and an empty upper.img,
// is to make of them; its Layers and Upper are the caller's.
func (b *Base) FlatDisks() Disks {
	return Disks{Root: withoutOverlay(b.Root), Options: overlayOptions, UpperOptions: upperOptions}
}
