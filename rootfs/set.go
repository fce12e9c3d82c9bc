package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// Set is a tree of small files and of layers, each in a directory of its own with what
// overlayfs reads of it. Paths are relative; the directories above them are implied.
type Set struct {
	Files    map[string][]byte
	Symlinks map[string]string
	Layers   map[string]v1.Hash
}

// ErrLinked is matched where a layer has hard links to files of other layers.
var ErrLinked = errors.New("the layer has hard links to files of layers below it")

// WriteSet writes one file-system image of a set, and gives its size. The file must be
// empty; the same set and UUID make the same bytes. The caller has a [Store.Hold].
func (s *Store) WriteSet(ctx context.Context, file io.WriterAt, uuid [16]byte, set Set) (size int64, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write set of layers: %w", err)
		}
	}()
	view := &View{}
	defer func() { err = errors.Join(err, view.Close()) }()
	w := &setWriter{
		flattener: &flattener{View: view, w: erofs.NewWriter(file, uuid), inodes: map[inodeKey]*flatInode{}, overlay: true},
		store:     s, set: set, below: map[string][]string{},
	}
	for _, name := range set.paths() {
		w.imply(name)
	}
	if err := w.made(ctx, ".", 0); err != nil {
		return 0, err
	}
	image, err := w.w.Finish(w.flattener)
	return image.Size, err
}

func (s *Set) paths() []string {
	var all []string
	for name := range s.Files {
		all = append(all, name)
	}
	for name := range s.Symlinks {
		all = append(all, name)
	}
	for name := range s.Layers {
		all = append(all, name)
	}
	return all
}

// setWriter makes the directories that are around the layers.
type setWriter struct {
	*flattener
	store *Store
	set   Set
	below map[string][]string // names in directories that are implied
}

func (w *setWriter) imply(name string) {
	for name != "." {
		dir, base := path.Dir(name), path.Base(name)
		if slices.Contains(w.below[dir], base) {
			return
		}
		w.below[dir] = append(w.below[dir], base)
		name = dir
	}
}

// made writes a directory that is no layer's.
func (w *setWriter) made(ctx context.Context, dir string, parent int) error {
	number := len(w.dirs)
	w.dirs = append(w.dirs, flatDir{attr: erofs.Attr{Mode: erofs.ModeDir | 0o755}, parent: parent})
	names := slices.SortedFunc(slices.Values(w.below[dir]), strings.Compare)
	entries := make([]erofs.Entry, 0, len(names))
	for _, base := range names {
		name := path.Join(dir, base)
		e, err := w.entry(ctx, name, number)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.Name = []byte(base)
		entries = append(entries, e)
	}
	w.dirs[number].entries = entries
	return nil
}

func (w *setWriter) entry(ctx context.Context, name string, parent int) (e erofs.Entry, err error) {
	if data, ok := w.set.Files[name]; ok {
		e.Mode = erofs.ModeRegular
		e.NID, err = w.w.File(erofs.Attr{Mode: erofs.ModeRegular | 0o644}, int64(len(data)), bytes.NewReader(data))
		return e, err
	}
	if target, ok := w.set.Symlinks[name]; ok {
		e.Mode = erofs.ModeSymlink
		e.NID, err = w.w.Symlink(erofs.Attr{Mode: erofs.ModeSymlink | 0o777}, target)
		return e, err
	}
	e.Mode, e.Dir = erofs.ModeDir, len(w.dirs)
	diffID, ok := w.set.Layers[name]
	if !ok {
		return e, w.made(ctx, name, parent)
	}
	l, err := w.store.lookup(diffID)
	if err != nil {
		return e, err
	}
	if len(l.Links) > 0 {
		return e, ErrLinked
	}
	root, err := w.open(w.store.imagePath(diffID))
	if err != nil {
		return e, err
	}
	attr := root.Attr
	if l.RootImplied {
		attr = erofs.Attr{Mode: erofs.ModeDir | 0o755}
	}
	return e, w.dir(ctx, []place{{layer: len(w.readers) - 1, inode: root}}, attr, parent)
}

// overlaid drops what overlayfs does not read.
func overlaid(a erofs.Attr) erofs.Attr {
	a.Xattrs = slices.DeleteFunc(slices.Clone(a.Xattrs), func(x erofs.Xattr) bool { return x.Name == layer.ImpliedXattr })
	return a
}
