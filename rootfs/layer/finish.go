package layer

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// finish writes the tree.
func (t *tree) finish() (Info, error) {
	f := &finished{tree: t}
	// Names are not looked up any more, and the writer wants memory.
	t.freeTable()
	if err := t.budget.Memory(8 * int64(t.dirs.n)); err != nil {
		return Info{}, err
	}
	defer t.arena.giveBack(8 * int64(t.dirs.n))
	root := t.dirs.at(0)
	info := Info{RootImplied: root.is(dirImplied), RootOpaque: root.is(dirOpaque), Bytes: t.bytes}
	// The root of the stack is what overlayfs makes of all roots; only a
	// directory below it can be opaque, or count as implied.
	root.flags = 0
	info.Root, _, _ = f.Dir(0)
	if err := f.survey(&info); err != nil {
		return Info{}, err
	}
	if f.whiteouts > 0 {
		// All whiteouts are links to one inode.
		var err error
		if f.whiteout, err = t.w.Special(erofs.Attr{Mode: erofs.ModeChar}); err != nil {
			return Info{}, err
		}
	}
	image, err := t.w.Finish(f)
	t.arena.free(f.pages)
	if err != nil {
		return Info{}, malformed(err)
	}
	info.Size, info.Inodes = image.Size, image.Inodes
	return info, nil
}

// finished is the tree as the writer wants it.
type finished struct {
	*tree
	shared    []uint64 // the inodes with several names, once for each, sorted
	pages     []byte   // what they lie in
	whiteout  erofs.NID
	whiteouts uint32
}

// survey sorts the directories, counts what is left of the tree, and finds the
// inodes with several names.
func (f *finished) survey(info *Info) error {
	shared, named := 0, 0
	for n := range uint32(f.dirs.n) {
		d := f.dirs.at(n)
		if d.is(dirDead) {
			continue
		}
		if d.is(dirImplied) {
			info.Implied++
		}
		d.first = f.sort(d.first)
		for e := range f.all(d) {
			if e.kind == kindWhiteout {
				f.whiteouts++
			}
			if e.flags&inodeShared != 0 {
				shared++
			}
			if e.flags&inodeCapable != 0 {
				info.Capable = append(info.Capable, f.path(n)+"/"+string(f.name(e)))
				if named += len(info.Capable[len(info.Capable)-1]); named > maxNamed {
					return fmt.Errorf("%w of %d bytes of names of files with capabilities", ErrTooLarge, maxNamed)
				}
			}
		}
	}
	if shared == 0 {
		return nil
	}
	var err error
	if f.shared, f.pages, err = numbers[uint64](f.arena, shared); err != nil {
		return err
	}
	at := 0
	for n := range uint32(f.dirs.n) {
		d := f.dirs.at(n)
		if d.is(dirDead) {
			continue
		}
		for e := range f.all(d) {
			if e.flags&inodeShared != 0 {
				f.shared[at] = uint64(e.nid())
				at++
			}
		}
	}
	slices.Sort(f.shared)
	return nil
}

// all gives a directory's entries.
func (t *tree) all(d *dir) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for next := d.first; next != 0; {
			e := t.entries.at(next - 1)
			next = e.next
			if !yield(e) {
				return
			}
		}
	}
}

// sort puts a directory's entries in the order of their names and leaves the dead
// ones out: a merge sort of the list, which takes no memory. The list comes with
// the newest entry first, and most archives are sorted.
func (t *tree) sort(first uint32) uint32 {
	var runs [33]uint32 // of 1, 2, 4 ... runs of the list
	var run uint32      // backwards, so in order
	keep := func() {
		for i := range runs {
			if runs[i] == 0 {
				runs[i] = run
				break
			}
			run, runs[i] = t.merge(runs[i], run), 0
		}
		run = 0
	}
	for first != 0 {
		at := first
		e := t.entries.at(at - 1)
		first = e.next
		if e.kind == kindDead {
			continue
		}
		if run != 0 && bytes.Compare(t.name(e), t.name(t.entries.at(run-1))) > 0 {
			keep()
		}
		e.next, run = run, at
	}
	var all uint32
	for _, r := range append(runs[:], run) {
		all = t.merge(all, r)
	}
	return all
}

// merge makes one list of two that are sorted.
func (t *tree) merge(a, b uint32) uint32 {
	var first uint32
	last := &first
	for a != 0 && b != 0 {
		x, y := t.entries.at(a-1), t.entries.at(b-1)
		if bytes.Compare(t.name(x), t.name(y)) < 0 {
			*last, last, a = a, &x.next, x.next
		} else {
			*last, last, b = b, &y.next, y.next
		}
	}
	*last = a | b
	return first
}

// path is a directory's path from the root.
func (t *tree) path(n uint32) string {
	var names [][]byte
	for ; n != 0; n = t.dirs.at(n).parent {
		names = append(names, t.name(t.entries.at(t.dirs.at(n).name)))
	}
	names = append(names, nil)
	slices.Reverse(names)
	return string(bytes.Join(names, []byte("/")))
}

// Dirs, Dir, Entries and Links implement erofs.Tree.
func (f *finished) Dirs() int { return f.dirs.n }

func (f *finished) Dir(n int) (erofs.Attr, int, bool) {
	d := f.dirs.at(uint32(n))
	if d.is(dirDead) {
		return erofs.Attr{}, 0, false
	}
	a := erofs.Attr{Mode: d.mode, UID: d.uid, GID: d.gid, Sec: d.sec, Nsec: d.nsec, Xattrs: f.xattrs(d)}
	if d.is(dirOpaque) {
		a.Xattrs = append(a.Xattrs, erofs.Xattr{Name: opaqueXattr, Value: []byte("y")})
	}
	if d.is(dirImplied) {
		a.Xattrs = append(a.Xattrs, erofs.Xattr{Name: ImpliedXattr})
	}
	return a, int(d.parent), true
}

func (f *finished) Entries(n int) iter.Seq[erofs.Entry] {
	return func(yield func(erofs.Entry) bool) {
		for e := range f.all(f.dirs.at(uint32(n))) {
			entry := erofs.Entry{Name: f.name(e), Mode: kindModes[e.kind], NID: e.nid()}
			switch e.kind {
			case kindDir:
				entry.Dir = int(e.low)
			case kindWhiteout:
				entry.NID = f.whiteout
			}
			if !yield(entry) {
				return
			}
		}
	}
}

func (f *finished) Links() iter.Seq2[erofs.NID, uint32] {
	return func(yield func(erofs.NID, uint32) bool) {
		if f.whiteouts > 0 && !yield(f.whiteout, f.whiteouts) {
			return
		}
		for i := 0; i < len(f.shared); {
			n := i + 1
			for n < len(f.shared) && f.shared[n] == f.shared[i] {
				n++
			}
			if n-i > 1 && !yield(erofs.NID(f.shared[i]), uint32(n-i)) {
				return
			}
			i = n
		}
	}
}
