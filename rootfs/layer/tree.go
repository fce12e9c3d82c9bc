package layer

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"path"
	"strings"
	"unsafe"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// tree is the layer's names. Directories and entries are numbered; directory
// 0 is the root. An entry is found by its directory's number and its name.
type tree struct {
	w      *erofs.Writer
	budget Budget

	dirs    slab[dir]
	entries slab[entry]
	text    text
	xattrs  [][]erofs.Xattr // of directories

	// table is a hash table of entry numbers plus one, at most half full.
	table []uint32
	pages []byte // what it is made of
	seed  maphash.Seed

	// links counts the names of inodes that have had more than one, targets
	// finds symbolic links' targets.
	links   map[erofs.NID]uint32
	targets map[erofs.NID]span
	capable map[erofs.NID]bool // files with capabilities

	bytes   int64
	pending []Link // hard links that came before their targets
}

type span struct {
	at uint32
	n  uint16
}

// dir is a directory.
type dir struct {
	sec      int64
	nsec     uint32
	uid, gid uint32
	parent   uint32
	name     uint32 // number of its entry; the root has none
	first    uint32 // number of its newest entry plus one
	xattrs   uint32 // place in tree.xattrs plus one
	mode     uint16
	opaque   bool
	implied  bool
}

// entry is a name in a directory. One that is replaced is used again; one that
// is gone, with a directory that was replaced, is dead.
type entry struct {
	dir  uint32
	next uint32 // the directory's next entry plus one
	text uint32
	// what it names: a directory's number, or an inode.
	low  uint32
	high uint8
	size uint8 // of the name
	kind kind
}

type kind uint8

const (
	kindDead kind = iota
	kindRegular
	kindDir
	kindChar
	kindBlock
	kindFifo
	kindSymlink
	kindWhiteout
)

var kindModes = [...]uint16{kindRegular: erofs.ModeRegular, kindDir: erofs.ModeDir, kindChar: erofs.ModeChar, kindBlock: erofs.ModeBlock,
	kindFifo: erofs.ModeFifo, kindSymlink: erofs.ModeSymlink, kindWhiteout: erofs.ModeChar}

func kindOf(mode uint16) kind {
	for k, m := range kindModes {
		if m == mode&erofs.ModeType && kind(k) != kindDead {
			return kind(k)
		}
	}
	return kindDead
}

func (e *entry) nid() erofs.NID { return erofs.NID(e.high)<<32 | erofs.NID(e.low) }

func (e *entry) names(k kind, nid erofs.NID) { e.kind, e.low, e.high = k, uint32(nid), uint8(nid>>32) }

const (
	maxPath    = 4095 // PATH_MAX without its NUL
	maxFollows = 40   // as Linux
)

var (
	errMissing = errors.New("no such file in this layer")
	errLoop    = errors.New("too many levels of symbolic links")
)

func newTree(w *erofs.Writer, budget Budget) (*tree, error) {
	t := &tree{w: w, budget: budget, seed: maphash.MakeSeed(), links: map[erofs.NID]uint32{}, targets: map[erofs.NID]span{}, capable: map[erofs.NID]bool{}}
	if err := t.resize(1 << 10); err != nil {
		return nil, err
	}
	if _, err := t.newDir(0); err != nil {
		t.free()
		return nil, err
	}
	return t, nil
}

func (t *tree) free() {
	t.dirs.free()
	t.entries.free()
	t.text.free()
	freePages(t.pages)
	t.table, t.pages = nil, nil
}

func (t *tree) newDir(parent uint32) (uint32, error) {
	n, d, err := t.dirs.add()
	if err != nil {
		return 0, err
	}
	*d = dir{parent: parent, mode: erofs.ModeDir | 0o755, implied: true}
	return n, nil
}

// resize makes the table anew, of n slots, a power of two.
func (t *tree) resize(n int) error {
	b, err := pages(4 * n)
	if err != nil {
		return err
	}
	freePages(t.pages)
	t.pages = b
	t.table = unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), n)
	for i := range t.entries.n {
		e := t.entries.at(uint32(i))
		slot, _ := t.slot(e.dir, t.name(e))
		*slot = uint32(i) + 1
	}
	return nil
}

func (t *tree) name(e *entry) []byte { return t.text.get(e.text, int(e.size)) }

// slot finds where an entry's number is, or should be.
func (t *tree) slot(dir uint32, name []byte) (*uint32, *entry) {
	mask := uint64(len(t.table) - 1)
	for i := maphash.Bytes(t.seed, name) + uint64(dir)*0x9E3779B97F4A7C15; ; i++ {
		slot := &t.table[i&mask]
		if *slot == 0 {
			return slot, nil
		}
		if e := t.entries.at(*slot - 1); e.dir == dir && bytes.Equal(t.name(e), name) {
			return slot, e
		}
	}
}

// find gives a directory's entry, nil if it has none of that name.
func (t *tree) find(dir uint32, name string) *entry {
	_, e := t.slot(dir, unsafe.Slice(unsafe.StringData(name), len(name)))
	if e == nil || e.kind == kindDead {
		return nil
	}
	return e
}

// make gives the entry of a name, a dead one if there was none.
func (t *tree) make(in uint32, name string) (*entry, error) {
	slot, e := t.slot(in, unsafe.Slice(unsafe.StringData(name), len(name)))
	if e != nil {
		return e, nil
	}
	if t.entries.n >= len(t.table)/2 {
		if err := t.resize(2 * len(t.table)); err != nil {
			return nil, err
		}
		slot, _ = t.slot(in, unsafe.Slice(unsafe.StringData(name), len(name)))
	}
	at, err := t.text.put(name)
	if err != nil {
		return nil, err
	}
	n, e, err := t.entries.add()
	if err != nil {
		return nil, err
	}
	d := t.dirs.at(in)
	*e = entry{dir: in, next: d.first, text: at, size: uint8(len(name))}
	d.first = n + 1
	*slot = n + 1
	return e, nil
}

// number is an entry's, found by its name.
func (t *tree) number(e *entry) uint32 {
	slot, _ := t.slot(e.dir, t.name(e))
	return *slot - 1
}

// put lets a name be an inode's, instead of whatever the layer had there.
func (t *tree) put(in uint32, name string, k kind, nid erofs.NID) error {
	e, err := t.make(in, name)
	if err != nil {
		return err
	}
	t.drop(e)
	e.names(k, nid)
	return nil
}

// putDir makes a directory at a name.
func (t *tree) putDir(in uint32, name string) (uint32, error) {
	e, err := t.make(in, name)
	if err != nil {
		return 0, err
	}
	anew := e.kind == kindWhiteout
	t.drop(e)
	n, err := t.newDir(in)
	if err != nil {
		return 0, err
	}
	e.names(kindDir, erofs.NID(n))
	d := t.dirs.at(n)
	d.name = t.number(e)
	if anew {
		// Removed and made anew: nothing below has a say.
		d.opaque, d.implied = true, false
	}
	return n, nil
}

// drop takes from an entry what it names, and everything below that.
func (t *tree) drop(e *entry) {
	pending := []*entry{e}
	for len(pending) > 0 {
		e := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		switch e.kind {
		case kindDir:
			for next := t.dirs.at(e.low).first; next != 0; {
				child := t.entries.at(next - 1)
				next = child.next
				pending = append(pending, child)
			}
		default:
			if n, ok := t.links[e.nid()]; ok {
				t.links[e.nid()] = n - 1
			}
		}
		e.names(kindDead, 0)
	}
}

// split cleans an entry's name as if the layer's root were "/": no name leads
// out of it. The root itself gives nothing.
func split(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("name of %d bytes: %w", len(name), erofs.ErrUnrepresentable)
	}
	if strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("name with a zero byte: %w", erofs.ErrUnrepresentable)
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return nil, nil
	}
	parts := strings.Split(clean, "/")
	for _, p := range parts {
		if len(p) > erofs.MaxName {
			return nil, fmt.Errorf("name of %d bytes: %w", len(p), erofs.ErrUnrepresentable)
		}
	}
	return parts, nil
}

// walk goes to the directory that parts name, following links inside the
// tree. With create, what is missing is made, and what is no directory is
// replaced by one.
func (t *tree) walk(parts []string, create bool) (uint32, error) {
	here, depth, follows := uint32(0), 0, 0
	for steps := 0; len(parts) > 0; steps++ {
		if steps > maxPath {
			return 0, errLoop // by links to long paths of links
		}
		name := parts[0]
		parts = parts[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			here, depth = t.dirs.at(here).parent, max(depth-1, 0)
			continue
		}
		e := t.find(here, name)
		switch {
		case e != nil && e.kind == kindDir:
			here, depth = e.low, depth+1
		case e != nil && e.kind == kindSymlink:
			if follows++; follows > maxFollows {
				return 0, errLoop
			}
			s := t.targets[e.nid()]
			target := string(t.text.get(s.at, int(s.n)))
			if strings.HasPrefix(target, "/") {
				here, depth = 0, 0
			}
			parts = append(strings.Split(target, "/"), parts...)
		case !create:
			return 0, errMissing
		default:
			if err := t.budget.Inodes(1); err != nil {
				return 0, err
			}
			if depth++; len(name) > erofs.MaxName || depth > maxPath/2 {
				return 0, fmt.Errorf("directory %.300q: %w", name, erofs.ErrUnrepresentable)
			}
			var err error
			if here, err = t.putDir(here, name); err != nil {
				return 0, err
			}
		}
	}
	return here, nil
}

// parent gives the directory of an entry, made if missing, and its last name.
func (t *tree) parent(parts []string) (uint32, string, error) {
	d, err := t.walk(parts[:len(parts)-1], true)
	return d, parts[len(parts)-1], err
}

// lookup finds an entry without following a link in its last name.
func (t *tree) lookup(parts []string) (*entry, error) {
	d, err := t.walk(parts[:len(parts)-1], false)
	if err != nil {
		return nil, err
	}
	e := t.find(d, parts[len(parts)-1])
	if e == nil || e.kind == kindWhiteout {
		return nil, errMissing
	}
	return e, nil
}
