package layer

import (
	"slices"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// finish writes the tree.
func (t *tree) finish() (Info, error) {
	f := &finished{tree: t, places: make([]uint32, t.dirs.n)}
	root := t.dirs.at(0)
	info := Info{RootImplied: root.implied, RootOpaque: root.opaque, Bytes: t.bytes}
	// The root of the stack is what overlayfs makes of all roots; only a
	// directory below it can be opaque.
	root.opaque = false
	info.Root, _ = f.Dir(f.walk())
	for _, n := range f.live[1:] {
		if t.dirs.at(n).implied {
			info.Implied = append(info.Implied, t.path(n))
		}
	}
	info.Capable = f.capableFiles()
	if f.whiteouts > 0 {
		// All whiteouts are links to one inode.
		nid, err := t.w.Special(erofs.Attr{Mode: erofs.ModeChar})
		if err != nil {
			return Info{}, err
		}
		f.whiteout = nid
		t.w.SetLinks(nid, f.whiteouts)
	}
	for nid, n := range t.links {
		if n > 1 {
			t.w.SetLinks(nid, n)
		}
	}
	image, err := t.w.Finish(f)
	if err != nil {
		return Info{}, malformed(err)
	}
	info.Size, info.Inodes = image.Size, image.Inodes
	return info, nil
}

// capableFiles are the paths of what is left of the files with capabilities.
func (f *finished) capableFiles() []string {
	if len(f.capable) == 0 {
		return nil
	}
	var paths []string
	for _, n := range f.live {
		for next := f.dirs.at(n).first; next != 0; {
			e := f.entries.at(next - 1)
			next = e.next
			if e.kind == kindRegular && f.capable[e.nid()] {
				paths = append(paths, f.path(n)+"/"+string(f.name(e)))
			}
		}
	}
	return paths
}

// path is a directory's path from the root.
func (t *tree) path(n uint32) string {
	var names []byte
	for ; n != 0; n = t.dirs.at(n).parent {
		name := t.name(t.entries.at(t.dirs.at(n).name))
		names = slices.Concat([]byte("/"), name, names)
	}
	return string(names)
}

// finished is the tree as the writer wants it: only what is left, its
// directories numbered anew.
type finished struct {
	*tree
	live      []uint32 // the directories that are left
	places    []uint32 // where in live a directory is
	whiteout  erofs.NID
	whiteouts uint32
}

// walk finds what is left, and gives the root's new number.
func (f *finished) walk() int {
	f.live = append(f.live, 0)
	for i := 0; i < len(f.live); i++ {
		n := f.live[i]
		f.places[n] = uint32(i)
		for next := f.dirs.at(n).first; next != 0; {
			e := f.entries.at(next - 1)
			next = e.next
			switch e.kind {
			case kindDir:
				f.live = append(f.live, e.low)
			case kindWhiteout:
				f.whiteouts++
			}
		}
	}
	return 0
}

// Dirs, Dir and Entries implement erofs.Tree.
func (f *finished) Dirs() int { return len(f.live) }

func (f *finished) Dir(i int) (erofs.Attr, int) {
	d := f.dirs.at(f.live[i])
	a := erofs.Attr{Mode: d.mode, UID: d.uid, GID: d.gid, Sec: d.sec, Nsec: d.nsec}
	if d.xattrs > 0 {
		a.Xattrs = f.tree.xattrs[d.xattrs-1]
	}
	if d.opaque {
		a.Xattrs = append(slices.Clone(a.Xattrs), erofs.Xattr{Name: opaqueXattr, Value: []byte("y")})
	}
	return a, int(f.places[d.parent])
}

func (f *finished) Entries(i int, buf []erofs.Entry) []erofs.Entry {
	for next := f.dirs.at(f.live[i]).first; next != 0; {
		e := f.entries.at(next - 1)
		next = e.next
		switch e.kind {
		case kindDead:
		case kindDir:
			buf = append(buf, erofs.Entry{Name: f.name(e), Mode: erofs.ModeDir, Dir: int(f.places[e.low])})
		case kindWhiteout:
			buf = append(buf, erofs.Entry{Name: f.name(e), Mode: erofs.ModeChar, NID: f.whiteout})
		default:
			buf = append(buf, erofs.Entry{Name: f.name(e), Mode: kindModes[e.kind], NID: e.nid()})
		}
	}
	return buf
}
