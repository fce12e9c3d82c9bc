package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unsafe"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// tree is the layer's names. Directories and entries are numbered; directory
// 0 is the root. An entry is found by its directory's number and its name.
type tree struct {
	w      *erofs.Writer
	budget Budget
	arena  arena

	dirs    slab[dir]
	entries slab[entry]
	text    text
	pending slab[pending]

	// table is a hash table of entry numbers plus one, at most half full.
	table []uint32
	pages []byte // what it is made of
	seed  maphash.Seed

	bytes int64
}

// dir is a directory.
type dir struct {
	sec      int64
	nsec     uint32
	uid, gid uint32
	parent   uint32
	name     uint32 // number of its entry; the root has none
	first    uint32 // number of its newest entry plus one
	xattrs   uint32 // place of its attributes plus one, their length before them
	mode     uint16
	flags    uint16
}

// What a directory may be.
const (
	dirDead    = 1 << iota // with all in it
	dirOpaque              // hides what is below
	dirImplied             // has no entry of its own
)

func (d *dir) is(flag uint16) bool { return d.flags&flag != 0 }

// entry is a name in a directory. One that is replaced is used again; one that
// is gone, with a directory that was replaced, is dead.
type entry struct {
	dir  uint32
	next uint32 // the directory's next entry plus one
	text uint32 // of a symbolic link with its target behind the name
	// what it names: a directory's number, or an inode.
	low   uint32
	high  uint8
	size  uint8 // of the name
	kind  kind
	flags uint8
}

// What an entry's inode may be.
const (
	inodeShared  = 1 << iota // has had other names
	inodeCapable             // is a file with capabilities
)

// pending is a hard link that came before its target: its name in the text, and
// then the target.
type pending struct {
	text         uint32
	name, target uint16
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

func (e *entry) names(k kind, nid erofs.NID) {
	e.kind, e.low, e.high, e.flags = k, uint32(nid), uint8(nid>>32), 0
}

const (
	maxPath    = 4095 // PATH_MAX without its NUL
	maxFollows = 40   // as Linux
)

var (
	errMissing = errors.New("no such file in this layer")
	errLoop    = errors.New("too many levels of symbolic links")
)

func newTree(w *erofs.Writer, budget Budget) (*tree, error) {
	a := arena{budget}
	t := &tree{w: w, budget: budget, arena: a, seed: maphash.MakeSeed(),
		dirs: slab[dir]{arena: a}, entries: slab[entry]{arena: a}, pending: slab[pending]{arena: a}, text: text{arena: a}}
	err := t.resize(1 << 10)
	if err == nil {
		_, err = t.newDir(0)
	}
	if err != nil {
		t.free()
		return nil, err
	}
	return t, nil
}

func (t *tree) free() {
	t.dirs.free()
	t.entries.free()
	t.pending.free()
	t.text.free()
	t.freeTable()
}

func (t *tree) freeTable() {
	t.arena.free(t.pages)
	t.table, t.pages = nil, nil
}

func (t *tree) newDir(parent uint32) (uint32, error) {
	n, d, err := t.dirs.add()
	if err != nil {
		return 0, err
	}
	*d = dir{parent: parent, mode: erofs.ModeDir | 0o755, flags: dirImplied}
	return n, nil
}

// resize makes the table anew, of n slots, a power of two.
func (t *tree) resize(n int) error {
	t.freeTable()
	var err error
	if t.table, t.pages, err = numbers[uint32](t.arena, n); err != nil {
		return err
	}
	for i := range t.entries.n {
		e := t.entries.at(uint32(i))
		slot, _ := t.slot(e.dir, t.name(e))
		*slot = uint32(i) + 1
	}
	return nil
}

func (t *tree) name(e *entry) []byte { return t.text.get(e.text, int(e.size)) }

// target is where a symbolic link leads.
func (t *tree) target(e *entry) string {
	at := e.text + uint32(e.size)
	return string(t.text.get(at+2, int(binary.LittleEndian.Uint16(t.text.get(at, 2)))))
}

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
func (t *tree) make(in uint32, name string) (uint32, *entry, error) {
	slot, e := t.slot(in, unsafe.Slice(unsafe.StringData(name), len(name)))
	if e != nil {
		return *slot - 1, e, nil
	}
	if t.entries.n >= len(t.table)/2 {
		if err := t.resize(2 * len(t.table)); err != nil {
			return 0, nil, err
		}
		slot, _ = t.slot(in, unsafe.Slice(unsafe.StringData(name), len(name)))
	}
	at, err := t.text.put(name)
	if err != nil {
		return 0, nil, err
	}
	n, e, err := t.entries.add()
	if err != nil {
		return 0, nil, err
	}
	d := t.dirs.at(in)
	*e = entry{dir: in, next: d.first, text: at, size: uint8(len(name))}
	d.first = n + 1
	*slot = n + 1
	return n, e, nil
}

// node is what a name may be of, beside a directory.
type node struct {
	kind   kind
	nid    erofs.NID
	flags  uint8
	target string // of a symbolic link
}

// node is what an entry names.
func (t *tree) node(e *entry) node {
	n := node{kind: e.kind, nid: e.nid(), flags: e.flags}
	if n.kind == kindSymlink {
		n.target = t.target(e)
	}
	return n
}

// put lets a name be an inode's, instead of whatever the layer had there.
func (t *tree) put(in uint32, name string, n node) error {
	_, e, err := t.make(in, name)
	if err != nil {
		return err
	}
	t.drop(e)
	if n.kind == kindSymlink {
		length := binary.LittleEndian.AppendUint16(nil, uint16(len(n.target)))
		if e.text, err = t.text.put(name, string(length), n.target); err != nil {
			return err
		}
	}
	e.names(n.kind, n.nid)
	e.flags = n.flags
	return nil
}

// putDir makes a directory at a name.
func (t *tree) putDir(in uint32, name string) (uint32, error) {
	at, e, err := t.make(in, name)
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
	d.name = at
	if anew {
		// Removed and made anew: nothing below has a say.
		d.flags = dirOpaque
	}
	return n, nil
}

// drop takes from an entry what it names, and everything below that. It keeps
// nothing but where it is: there may be a million names in one directory.
func (t *tree) drop(top *entry) {
	for e := top; ; {
		if e.kind == kindDir {
			d := t.dirs.at(e.low)
			d.flags |= dirDead
			next := d.first
			d.first = 0
			e.names(kindDead, 0)
			if next != 0 {
				e = t.entries.at(next - 1)
				continue
			}
		}
		e.names(kindDead, 0)
		for e != top && e.next == 0 {
			e = t.entries.at(t.dirs.at(e.dir).name)
		}
		if e == top {
			return
		}
		e = t.entries.at(e.next - 1)
	}
}

// split cleans an entry's name as if the layer's root were "/": no name leads
// out of it. The root itself gives nothing.
func split(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("name of %d bytes: %w", len(name), erofs.ErrUnrepresentable)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, fmt.Errorf("name with a zero byte: %w", erofs.ErrUnrepresentable)
	}
	parts := make([]string, 0, strings.Count(name, "/")+1)
	for rest := name; rest != ""; {
		var p string
		switch p, rest, _ = strings.Cut(rest, "/"); p {
		case "", ".":
		case "..":
			parts = parts[:max(len(parts)-1, 0)]
		default:
			parts = append(parts, p)
		}
	}
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
			target := t.target(e)
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
