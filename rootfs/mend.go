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
	"strings"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// A layer may hold files without entries for their directories, which then
// are what the layers below say. overlayfs knows no such thing: it shows a
// directory with the attributes it has in the uppermost layer, where it had to
// be made up. So a base with such layers gets a mend on top of its stack: a
// layer image of nothing but those directories, with the attributes they
// should have.

// mendPath is where a base's mend is, if it needs one.
func (s *Store) mendPath(id string) string { return s.path("mends", id+".erofs") }

// mend makes the base's mend if it needs one and has none, and says whether
// it needs one.
func (b *Base) mend(ctx context.Context) (bool, error) {
	if !slices.ContainsFunc(b.Layers, func(l *Layer) bool { return len(l.Implied) > 0 }) {
		return false, nil
	}
	s := b.store
	for _, name := range []string{s.mendPath(b.ID), s.mendPath(b.ID) + ".none"} {
		if _, err := os.Lstat(name); err == nil {
			return name == s.mendPath(b.ID), nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	release, err := s.locks.Acquire(ctx, lockMends)
	if err != nil {
		return false, err
	}
	defer release()
	tree, err := b.mendTree()
	if err != nil {
		return false, err
	}
	f, err := content.Temporary(s.path("tmp"), "mend-*")
	if err != nil {
		return false, err
	}
	name := s.mendPath(b.ID) + ".none"
	if tree != nil {
		name = s.mendPath(b.ID)
		err = writeMend(f, tree, b.ID)
	}
	if err == nil {
		err = content.Commit(f, name)
	}
	if err != nil {
		content.Discard(f)
		return false, err
	}
	return tree != nil, f.Close()
}

func writeMend(f *os.File, tree *mended, id string) error {
	sum := sha256.Sum256([]byte("mend " + id))
	image, err := erofs.NewWriter(f, [16]byte(sum[:16])).Finish(tree)
	if err != nil {
		return err
	}
	return f.Truncate(image.Size)
}

// mendTree finds the directories to mend, and gives them with those above
// them; nil if there are none.
func (b *Base) mendTree() (*mended, error) {
	m := &mender{implied: make([]map[string]bool, len(b.Layers))}
	defer m.close()
	paths := map[string]bool{}
	var roots []*erofs.Inode
	for i, l := range b.Layers {
		m.implied[i] = map[string]bool{}
		for _, p := range l.Implied {
			m.implied[i][string(p)] = true
			paths[string(p)] = true
		}
		f, err := os.Open(b.store.imagePath(l.DiffID))
		if err != nil {
			return nil, err
		}
		m.files = append(m.files, f)
		r, err := erofs.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("layer image %s: %w", l.DiffID, err)
		}
		m.readers = append(m.readers, r)
		root, err := r.Root()
		if err != nil {
			return nil, fmt.Errorf("layer image %s: %w", l.DiffID, err)
		}
		roots = append(roots, root)
	}
	var stack []place
	for i, root := range slices.Backward(roots) {
		stack = append(stack, place{layer: i, inode: root})
	}
	wanted := &want{}
	for p := range paths {
		wanted.add(strings.Split(p, "/")[1:])
	}
	root, needed, err := m.dir(stack, "", wanted)
	if err != nil || !needed {
		return nil, err
	}
	root.attr = b.Root
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

type mender struct {
	files   []*os.File
	readers []*erofs.Reader
	implied []map[string]bool
}

func (m *mender) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// dir looks at a merged directory, whose layers are the stack from the top,
// and at those wanted below it. It gives what the mend must say of them,
// and whether it must say anything.
func (m *mender) dir(stack []place, path string, wanted *want) (*mendDir, bool, error) {
	d := &mendDir{attr: m.attr(stack, path)}
	needed := m.implied[stack[0].layer][path] && !m.implied[m.speaker(stack, path).layer][path]
	for _, name := range sortedKeys(*wanted) {
		below, err := m.merge(stack, path+"/"+name)
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

// merge finds a directory in the layers of its parent as overlayfs would:
// from the top, until something hides what is below. It gives nothing where
// the path is no directory.
func (m *mender) merge(stack []place, path string) ([]place, error) {
	var found []place
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
			return nil, err
		}
		if i.Mode&erofs.ModeType != erofs.ModeDir {
			break
		}
		found = append(found, place{p.layer, i, hidden})
		if slices.ContainsFunc(i.Xattrs, func(x erofs.Xattr) bool { return x.Name == opaqueXattr }) {
			if !m.implied[p.layer][path] {
				break
			}
			hidden = true
		}
	}
	return found, nil
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
