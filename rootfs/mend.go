package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// A layer may hold files without entries for their directories, which then
// are what the layers below say: directories with some attributes, or links to
// directories. overlayfs knows no such thing. It shows a directory with the
// attributes it has in the uppermost layer, where it had to be made up, and it
// hides a link below one. So a base with such layers is mended:
//
//   - A layer with files in what is a link below is replaced by one that has them
//     where the link leads.
//   - So is a layer with a hard link to a file that only a layer below has, by one
//     with a copy of that file, which has both names.
//   - On top of the stack comes a layer image of nothing but the directories
//     that were made up, with the attributes they should have.
//
// Both lie under mends, named by the base, with a record that is written last.

// mends is the record of a base's mends.
type mends struct {
	// Top says that there is a layer to go on top.
	Top bool `json:"top"`
	// Moved are the places in the stack of the layers that are replaced.
	Moved []int `json:"moved,omitempty"`
}

func (s *Store) mendRecord(id string) string { return s.path("mends", id+".json") }

// mendImage is the top layer of a base, or one that replaces another.
func (s *Store) mendImage(id, which string) string { return s.path("mends", id+"."+which+".erofs") }

// mend makes the base's mends if they are not there, and gives its stack.
func (b *Base) mend(ctx context.Context) ([]stacked, error) {
	s := b.store
	var stack []stacked
	implied := false
	for _, l := range b.Layers {
		stack = append(stack, stacked{layerName(l.DiffID), s.imagePath(l.DiffID)})
		implied = implied || l.Implied > 0 || len(l.Links) > 0
	}
	// Of an image without layers the mend is all there is: an empty root.
	if !implied && len(stack) > 0 {
		return stack, nil
	}
	made, err := b.mends(ctx)
	if err != nil {
		return nil, fmt.Errorf("mend base: %w", err)
	}
	for _, i := range made.Moved {
		which := strconv.Itoa(i)
		stack[i] = stacked{"mend-" + b.ID + "." + which, s.mendImage(b.ID, which)}
	}
	if made.Top {
		stack = append(stack, stacked{"mend-" + b.ID, s.mendImage(b.ID, "top")})
	}
	return stack, nil
}

func (b *Base) mends(ctx context.Context) (made mends, err error) {
	s := b.store
	name := s.mendRecord(b.ID)
	missing := func(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, content.ErrCorrupt) }
	if err := content.ReadRecord(name, &made); !missing(err) {
		return made, err
	}
	release, err := s.locks.Acquire(ctx, lockMends)
	if err != nil {
		return made, err
	}
	defer release()
	if err := content.ReadRecord(name, &made); !missing(err) {
		return made, err
	}
	made = mends{}
	m, err := newMender(ctx, b)
	defer m.close()
	if err != nil {
		return made, err
	}
	if made.Moved, err = m.moveAll(); err != nil {
		return made, err
	}
	if made.Top, err = m.image("top", m.top); err != nil {
		return made, err
	}
	return made, content.WriteRecord(s.path("tmp"), name, made)
}

// mender reads a base's layers.
type mender struct {
	base    *Base
	files   []*os.File
	readers []*erofs.Reader
	roots   []*erofs.Inode
	implied []int64 // how many directories that is
	memory  *draft
	copied  int64 // bytes of files that layers have of those below
}

// newMender gives what is to be closed even with an error.
func newMender(ctx context.Context, b *Base) (*mender, error) {
	m := &mender{base: b, memory: b.store.memory.draft(ctx)}
	for _, l := range b.Layers {
		m.files = append(m.files, nil)
		m.readers = append(m.readers, nil)
		m.roots = append(m.roots, nil)
		m.implied = append(m.implied, l.Implied)
		if err := m.open(len(m.files)-1, b.store.imagePath(l.DiffID)); err != nil {
			return m, fmt.Errorf("layer image %s: %w", l.DiffID, err)
		}
	}
	return m, nil
}

// open reads the layer at a place of the stack from an image.
func (m *mender) open(i int, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	if m.files[i] != nil {
		m.files[i].Close()
	}
	m.files[i] = f
	if m.readers[i], err = erofs.NewReader(f); err != nil {
		return err
	}
	m.roots[i], err = m.readers[i].Root()
	return err
}

func (m *mender) close() {
	m.memory.close()
	for _, f := range m.files {
		if f != nil {
			f.Close()
		}
	}
}

// image makes one mend, unless there is nothing to write.
func (m *mender) image(which string, write func(f *os.File, uuid [16]byte) (size int64, err error)) (made bool, err error) {
	s := m.base.store
	f, err := content.Temporary(s.path("tmp"), "mend-*")
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256([]byte("mend " + m.base.ID + " " + which))
	size, err := write(f, [16]byte(sum[:16]))
	if err == nil && size > 0 {
		if err = f.Truncate(size); err == nil {
			err = content.Commit(f, s.mendImage(m.base.ID, which))
		}
	}
	if err != nil || size == 0 {
		content.Discard(f)
		return false, err
	}
	return true, f.Close()
}

// budget is what mends draw on: their bytes and inodes are those of layers.
type mendBudget struct{ *draft }

func (mendBudget) Bytes(int64) error  { return nil }
func (mendBudget) Inodes(int64) error { return nil }

// stack is the root directories below a place of the stack, from the top.
func (m *mender) stack(below int) []place {
	var stack []place
	for i, root := range slices.Backward(m.roots[:below]) {
		stack = append(stack, place{layer: i, inode: root})
	}
	return stack
}

// top writes the directories to mend, with those above them, and gives the image's
// size: none if there are none.
func (m *mender) top(f *os.File, uuid [16]byte) (int64, error) {
	image, err := layer.NewDirectories(m.base.Root, f, uuid, mendBudget{m.memory})
	if err != nil {
		return 0, err
	}
	defer image.Close()
	t := &topmost{mender: m, image: image, needed: len(m.roots) == 0}
	root := &spot{stack: m.stack(len(m.roots)), made: true}
	for i, n := range m.implied {
		if n == 0 {
			continue
		}
		if err := t.look(i, root); err != nil {
			return 0, err
		}
	}
	if !t.needed {
		return 0, nil
	}
	return image.Finish()
}

// topmost makes the layer on top.
type topmost struct {
	*mender
	image  *layer.Directories
	needed bool
}

// spot is a merged directory, whose layers are the stack from the top.
type spot struct {
	parent *spot
	name   string
	stack  []place
	made   bool // in the image on top
	number uint32
}

// place is a directory in one layer. Of a hidden one the contents are, by an
// opaque mark above, but not the attributes.
type place struct {
	layer  int
	inode  *erofs.Inode
	hidden bool
}

// look finds the directories that a layer is the uppermost to have, and which it
// has no entry for but one below has.
func (t *topmost) look(i int, at *spot) error {
	own := slices.IndexFunc(at.stack, func(p place) bool { return p.layer == i })
	if own < 0 || at.stack[own].hidden {
		return nil
	}
	for e, err := range t.readers[i].Entries(at.stack[own].inode) {
		if err != nil {
			return err
		}
		if e.Mode != erofs.ModeDir {
			continue
		}
		below := &spot{parent: at, name: string(e.Name)}
		if below.stack, _, err = t.merge(at.stack, below.name); err != nil {
			return err
		}
		if len(below.stack) == 0 {
			continue
		}
		if below.stack[0].layer == i && layer.Implied(below.stack[0].inode) && !layer.Implied(speaker(below.stack)) {
			if err := t.make(below); err != nil {
				return err
			}
		}
		if err := t.look(i, below); err != nil {
			return err
		}
	}
	return nil
}

// make puts a directory into the image, and those above it.
func (t *topmost) make(at *spot) error {
	if at.made {
		return nil
	}
	if err := t.make(at.parent); err != nil {
		return err
	}
	says := speaker(at.stack)
	a := says.Attr
	a.Xattrs = layer.Said(says)
	var err error
	at.number, err = t.image.Add(at.parent.number, at.name, a)
	at.made, t.needed = true, true
	return err
}

// speaker is the directory of the uppermost layer that has an entry for it, or of
// the uppermost of all if none has.
func speaker(stack []place) *erofs.Inode {
	for _, p := range stack {
		if !layer.Implied(p.inode) {
			return p.inode
		}
	}
	return stack[0].inode
}

// merge finds a name in the layers of a directory as overlayfs would: from the top,
// until something hides what is below. It gives the directories that are merged,
// or else what is no directory.
func (m *mender) merge(stack []place, name string) (dirs []place, other *place, err error) {
	hidden := false
	for _, p := range stack {
		if p.hidden {
			break
		}
		i, err := m.readers[p.layer].Lookup(p.inode, name)
		if errors.Is(err, erofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if i.Mode&erofs.ModeType != erofs.ModeDir {
			if dirs == nil {
				other = &place{layer: p.layer, inode: i}
			}
			break
		}
		dirs = append(dirs, place{p.layer, i, hidden})
		if layer.Opaque(i) {
			if !layer.Implied(i) {
				break
			}
			hidden = true
		}
	}
	return dirs, other, nil
}
