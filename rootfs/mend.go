package rootfs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/erofs"
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
		implied = implied || len(l.Implied) > 0 || len(l.Links) > 0
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
	m, err := newMender(b)
	defer m.close()
	if err != nil {
		return made, err
	}
	if made.Moved, err = m.moveAll(); err != nil {
		return made, err
	}
	tree, err := m.top()
	if err != nil {
		return made, err
	}
	if tree != nil {
		made.Top = true
		err = m.image("top", func(f *os.File, uuid [16]byte) (int64, error) {
			image, err := erofs.NewWriter(f, uuid).Finish(tree)
			return image.Size, err
		})
		if err != nil {
			return made, err
		}
	}
	return made, content.WriteRecord(s.path("tmp"), name, made)
}

// mender reads a base's layers.
type mender struct {
	base    *Base
	files   []*os.File
	readers []*erofs.Reader
	roots   []*erofs.Inode
	implied []map[string]bool
	copied  int64 // bytes of files that layers have of those below
}

// newMender gives what is to be closed even with an error.
func newMender(b *Base) (*mender, error) {
	m := &mender{base: b}
	for _, l := range b.Layers {
		m.files = append(m.files, nil)
		m.readers = append(m.readers, nil)
		m.roots = append(m.roots, nil)
		implied := map[string]bool{}
		for _, p := range l.Implied {
			implied[string(p)] = true
		}
		m.implied = append(m.implied, implied)
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
	for _, f := range m.files {
		if f != nil {
			f.Close()
		}
	}
}

// image makes one mend.
func (m *mender) image(which string, write func(f *os.File, uuid [16]byte) (size int64, err error)) error {
	s := m.base.store
	f, err := content.Temporary(s.path("tmp"), "mend-*")
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("mend " + m.base.ID + " " + which))
	size, err := write(f, [16]byte(sum[:16]))
	if err == nil {
		if err = f.Truncate(size); err == nil {
			err = content.Commit(f, s.mendImage(m.base.ID, which))
		}
	}
	if err != nil {
		content.Discard(f)
		return err
	}
	return f.Close()
}

// stack is the root directories below a place of the stack, from the top.
func (m *mender) stack(below int) []place {
	var stack []place
	for i, root := range slices.Backward(m.roots[:below]) {
		stack = append(stack, place{layer: i, inode: root})
	}
	return stack
}

// top finds the directories to mend, and gives them with those above them; nil
// if there are none.
func (m *mender) top() (*mended, error) {
	if len(m.roots) == 0 {
		return newMended(&mendDir{attr: m.base.Root}), nil
	}
	wanted := &want{}
	for _, implied := range m.implied {
		for p := range implied {
			wanted.add(strings.Split(p, "/")[1:])
		}
	}
	root, needed, err := m.dir(m.stack(len(m.roots)), "", wanted)
	if err != nil || !needed {
		return nil, err
	}
	root.attr = m.base.Root
	return newMended(root), nil
}

// want is a tree of the names to look at.
type want map[string]*want

func (w *want) add(parts []string) {
	if len(parts) == 0 {
		return
	}
	if *w == nil {
		*w = want{}
	}
	next := (*w)[parts[0]]
	if next == nil {
		next = &want{}
		(*w)[parts[0]] = next
	}
	next.add(parts[1:])
}

// place is a directory in one layer. Of a hidden one the contents are, by an
// opaque mark above, but not the attributes.
type place struct {
	layer  int
	inode  *erofs.Inode
	hidden bool
}

// dir looks at a merged directory, whose layers are the stack from the top,
// and at those wanted below it. It gives what the mend must say of them,
// and whether it must say anything.
func (m *mender) dir(stack []place, path string, wanted *want) (*mendDir, bool, error) {
	d := &mendDir{attr: m.attr(stack, path)}
	needed := m.implied[stack[0].layer][path] && !m.implied[m.speaker(stack, path).layer][path]
	for _, name := range sortedKeys(*wanted) {
		below, _, err := m.merge(stack, path+"/"+name)
		if err != nil {
			return nil, false, err
		}
		if len(below) == 0 {
			continue
		}
		sub, subNeeded, err := m.dir(below, path+"/"+name, (*wanted)[name])
		if err != nil {
			return nil, false, err
		}
		if subNeeded {
			needed = true
			sub.name = name
			d.below = append(d.below, sub)
		}
	}
	return d, needed, nil
}

func sortedKeys(w want) []string {
	names := make([]string, 0, len(w))
	for name := range w {
		names = append(names, name)
	}
	slices.SortFunc(names, cmp.Compare)
	return names
}

// speaker is the uppermost layer that has an entry for the directory, or the
// uppermost of all if none has.
func (m *mender) speaker(stack []place, path string) place {
	for _, p := range stack {
		if !m.implied[p.layer][path] {
			return p
		}
	}
	return stack[0]
}

func (m *mender) attr(stack []place, path string) erofs.Attr {
	a := m.speaker(stack, path).inode.Attr
	a.Xattrs = slices.DeleteFunc(slices.Clone(a.Xattrs), func(x erofs.Xattr) bool { return x.Name == opaqueXattr })
	return a
}

// opaqueXattr is overlayfs' word for a directory that hides those below.
const opaqueXattr = "trusted.overlay.opaque"

// merge finds a path's last name in the layers of its parent as overlayfs would:
// from the top, until something hides what is below. It gives the directories
// that are merged, or else what is no directory.
func (m *mender) merge(stack []place, path string) (dirs []place, other *place, err error) {
	hidden := false
	for _, p := range stack {
		if p.hidden {
			break
		}
		i, err := m.readers[p.layer].Lookup(p.inode, path[strings.LastIndexByte(path, '/')+1:])
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
		if slices.ContainsFunc(i.Xattrs, func(x erofs.Xattr) bool { return x.Name == opaqueXattr }) {
			if !m.implied[p.layer][path] {
				break
			}
			hidden = true
		}
	}
	return dirs, other, nil
}

// mendDir is a directory of a mend.
type mendDir struct {
	name   string
	attr   erofs.Attr
	below  []*mendDir
	number int
	parent int
}

// mended is a mend's directories as erofs wants them.
type mended struct{ dirs []*mendDir }

func newMended(root *mendDir) *mended {
	m := &mended{dirs: []*mendDir{root}}
	for i := 0; i < len(m.dirs); i++ {
		for _, d := range m.dirs[i].below {
			d.number, d.parent = len(m.dirs), i
			m.dirs = append(m.dirs, d)
		}
	}
	return m
}

func (m *mended) Dirs() int { return len(m.dirs) }

func (m *mended) Dir(n int) (erofs.Attr, int) { return m.dirs[n].attr, m.dirs[n].parent }

func (m *mended) Entries(n int, buf []erofs.Entry) []erofs.Entry {
	for _, d := range m.dirs[n].below {
		buf = append(buf, erofs.Entry{Name: []byte(d.name), Mode: erofs.ModeDir, Dir: d.number})
	}
	return buf
}
