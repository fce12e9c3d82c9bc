package layer

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// ErrMalformed is wrapped by every error that the layer itself is the cause
// of: broken tar, impossible entries.
var ErrMalformed = errors.New("malformed layer")

// ErrTooLarge is wrapped when a limit is passed.
var ErrTooLarge = errors.New("image exceeds the limit")

// Info says what a converted layer holds.
type Info struct {
	Size   int64 // of the image
	Bytes  int64 // in regular files
	Inodes int64
	Root   erofs.Attr
	// RootImplied: the layer says nothing of its root's attributes.
	RootImplied bool
	// RootOpaque: the layer hides all that is below it.
	RootOpaque bool
	// Implied is how many directories were made for want of an entry, besides the
	// root. In the image they have [ImpliedXattr].
	Implied int64
	// Links are the hard links whose targets the layer does not have: they may be
	// in layers below, and are not in the image.
	Links []Link
	// Capable lists files with capabilities (capabilities(7)).
	Capable []string
}

// Link is a hard link, as a layer states it.
type Link struct{ Name, Target string }

// Budget is asked before each file and each inode, and refuses with an error
// that wraps ErrTooLarge. It may be shared by layers.
type Budget interface {
	Bytes(n int64) error
	Inodes(n int64) error
	// Memory is asked for what grows with the number of files. It may wait. What is
	// given back is negative, and not refused.
	Memory(n int64) error
}

// ImpliedXattr marks the directories of an image that the layer has no entry for.
// Those who look at a mounted stack do not see it: overlayfs keeps all attributes
// of this prefix to itself.
const ImpliedXattr = "trusted.overlay.implied"

// maxNamed bounds the paths that an Info has, which stay in memory and in records.
const maxNamed = 4 << 20

const (
	whiteoutPrefix  = ".wh."
	opaqueMark      = ".wh..wh..opq"
	reservedPrefix  = ".wh..wh."
	opaqueXattr     = "trusted.overlay.opaque"
	capabilityXattr = "security.capability"
	xattrRecord     = "SCHILY.xattr."
)

// Convert reads a layer's tar stream to its last byte and writes its image to
// file, as [erofs.NewWriter] has it. The caller truncates file to Info.Size.
func Convert(r io.Reader, file io.WriterAt, uuid [16]byte, budget Budget) (Info, error) {
	t, err := newTree(erofs.NewWriter(file, uuid), budget)
	if err != nil {
		return Info{}, err
	}
	defer t.free()
	tr := &archive{r: r}
	var h header
	for {
		err := tr.next(&h)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Info{}, streamError(err)
		}
		if err := t.add(&h, tr.data()); err != nil {
			return Info{}, fmt.Errorf("entry %.300q: %w", h.name, err)
		}
	}
	if err := drain(r); err != nil {
		return Info{}, err
	}
	outside, err := t.late()
	if err != nil {
		return Info{}, err
	}
	info, err := t.finish()
	info.Links = outside
	return info, err
}

// late makes the hard links that came before their targets, and gives those whose
// targets did not come.
func (t *tree) late() ([]Link, error) {
	var outside []Link
	named := 0
	for i := range t.pending.n {
		p := t.pending.at(uint32(i))
		l := Link{string(t.text.get(p.text, int(p.name))), string(t.text.get(p.text+uint32(p.name), int(p.target)))}
		err := t.link(l.Name, l.Target, false)
		if errors.Is(err, errMissing) {
			outside = append(outside, l)
			if named += len(l.Name) + len(l.Target); named > maxNamed {
				return nil, fmt.Errorf("%w of %d bytes of hard links to files of other layers", ErrTooLarge, maxNamed)
			}
		} else if err != nil {
			return nil, fmt.Errorf("entry %.300q: %w", l.Name, err)
		}
	}
	return outside, nil
}

// streamError tells a broken archive from a reader that failed: the reader's
// own errors pass as they are.
func streamError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return err
}

// drain reads what follows the archive's end, which may only be padding.
func drain(r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c != 0 {
				return fmt.Errorf("%w: data after the end of the archive", ErrMalformed)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tree) add(h *header, r io.Reader) error {
	if h.kind == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(parts) > 0 && strings.HasPrefix(parts[len(parts)-1], whiteoutPrefix) {
		return t.whiteout(parts)
	}
	if h.kind == tar.TypeLink {
		return t.link(h.name, h.link, true)
	}
	a, err := attributes(h)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if a.Mode&erofs.ModeType == erofs.ModeDir {
		return t.directory(parts, a)
	}
	if len(parts) == 0 {
		return fmt.Errorf("%w: the root is not a directory", ErrMalformed)
	}
	d, name, err := t.parent(parts)
	if err != nil {
		return malformed(err)
	}
	if err := t.budget.Inodes(1); err != nil {
		return err
	}
	n, err := t.inode(h, a, r)
	if err != nil {
		return malformed(err)
	}
	return t.put(d, name, n)
}

// inode writes what is no directory.
func (t *tree) inode(h *header, a erofs.Attr, r io.Reader) (n node, err error) {
	n.kind = kindOf(a.Mode)
	switch n.kind {
	case kindRegular:
		if err := t.budget.Bytes(h.size); err != nil {
			return n, err
		}
		t.bytes += h.size
		if capable(a.Xattrs) {
			n.flags = inodeCapable
		}
		n.nid, err = t.w.File(a, h.size, r)
	case kindSymlink:
		n.target = h.link
		n.nid, err = t.w.Symlink(a, h.link)
	default:
		n.nid, err = t.w.Special(a)
	}
	return n, err
}

func capable(xattrs []erofs.Xattr) bool {
	return slices.ContainsFunc(xattrs, func(x erofs.Xattr) bool { return x.Name == capabilityXattr })
}

// malformed marks the errors that the entry is the cause of.
func malformed(err error) error {
	for _, own := range []error{erofs.ErrUnrepresentable, io.ErrUnexpectedEOF, tar.ErrHeader, errLoop, errMissing} {
		if errors.Is(err, own) {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	return err
}

func (t *tree) directory(parts []string, a erofs.Attr) error {
	n := uint32(0)
	if len(parts) > 0 {
		in, name, err := t.parent(parts)
		if err != nil {
			return malformed(err)
		}
		if e := t.find(in, name); e != nil && e.kind == kindDir {
			n = e.low
		} else {
			if err := t.budget.Inodes(1); err != nil {
				return err
			}
			if n, err = t.putDir(in, name); err != nil {
				return err
			}
		}
	}
	return t.setAttr(t.dirs.at(n), a)
}

// setAttr makes a directory one that has an entry, and keeps what that says of it
// until the end.
func (t *tree) setAttr(d *dir, a erofs.Attr) error {
	d.mode, d.uid, d.gid, d.sec, d.nsec, d.xattrs = a.Mode, a.UID, a.GID, a.Sec, a.Nsec, 0
	d.flags &^= dirImplied
	if len(a.Xattrs) == 0 {
		return nil
	}
	b, err := erofs.EncodeXattrs(a.Xattrs)
	if err != nil {
		return malformed(err)
	}
	at, err := t.text.put(string(binary.LittleEndian.AppendUint32(nil, uint32(len(b)))), string(b))
	d.xattrs = at + 1
	return err
}

// xattrs are a directory's attributes.
func (t *tree) xattrs(d *dir) []erofs.Xattr {
	if d.xattrs == 0 {
		return nil
	}
	at := d.xattrs - 1
	// What was encoded is decoded without error.
	xattrs, _ := erofs.DecodeXattrs(t.text.get(at+4, int(binary.LittleEndian.Uint32(t.text.get(at, 4)))))
	return xattrs
}

func (t *tree) whiteout(parts []string) error {
	name := parts[len(parts)-1]
	if strings.HasPrefix(name, reservedPrefix) && name != opaqueMark {
		return nil // aufs' own records, which nothing else reads
	}
	in, _, err := t.parent(parts)
	if err != nil {
		return malformed(err)
	}
	if name == opaqueMark {
		t.dirs.at(in).flags |= dirOpaque
		return nil
	}
	name = name[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%w: whiteout without a name", ErrMalformed)
	}
	switch old := t.find(in, name); {
	case old == nil:
		if err := t.budget.Inodes(1); err != nil {
			return err
		}
		return t.put(in, name, node{kind: kindWhiteout})
	case old.kind == kindDir:
		d := t.dirs.at(old.low)
		d.flags = dirOpaque
	}
	return nil
}

func (t *tree) link(name, target string, wait bool) error {
	parts, err := split(name)
	if err != nil || len(parts) == 0 {
		return fmt.Errorf("%w: the root is not a directory", ErrMalformed)
	}
	to, err := split(target)
	if err != nil {
		return malformed(err)
	}
	if len(to) == 0 {
		return fmt.Errorf("%w: hard link to directory %.300q", ErrMalformed, target)
	}
	n, err := t.lookup(to)
	if errors.Is(err, errMissing) && wait {
		return t.postpone(path.Join("/", name), path.Join("/", target))
	}
	if err != nil {
		return fmt.Errorf("%w: hard link to %.300q: %w", ErrMalformed, target, err)
	}
	if n.kind == kindDir {
		return fmt.Errorf("%w: hard link to directory %.300q", ErrMalformed, target)
	}
	if err := t.budget.Inodes(1); err != nil {
		return err
	}
	n.flags |= inodeShared
	// Making the link's parents may take the target's name away.
	of := t.node(n)
	in, last, err := t.parent(parts)
	if err != nil {
		return malformed(err)
	}
	if e := t.find(in, last); e != nil && (!wait || e.kind == of.kind && e.nid() == of.nid) {
		return nil
	}
	return t.put(in, last, of)
}

// postpone keeps a hard link that came before its target until the end.
func (t *tree) postpone(name, target string) error {
	if err := t.budget.Inodes(1); err != nil {
		return err
	}
	_, p, err := t.pending.add()
	if err != nil {
		return err
	}
	*p = pending{name: uint16(len(name)), target: uint16(len(target))}
	p.text, err = t.text.put(name, target)
	return err
}

// attributes reads what an inode holds from a tar header.
func attributes(h *header) (erofs.Attr, error) {
	a := erofs.Attr{Mode: uint16(h.mode & 0o7777), UID: uint32(h.uid), GID: uint32(h.gid), Sec: h.sec, Nsec: h.nsec, Xattrs: slices.Clone(h.xattrs)}
	if h.uid < 0 || h.uid > 1<<32-1 || h.gid < 0 || h.gid > 1<<32-1 {
		return a, fmt.Errorf("owner %d:%d: %w", h.uid, h.gid, erofs.ErrUnrepresentable)
	}
	switch h.kind {
	case tar.TypeReg, tar.TypeRegA, tar.TypeCont, tar.TypeGNUSparse: //nolint:staticcheck // archives have it
		a.Mode |= erofs.ModeRegular
	case tar.TypeDir:
		a.Mode |= erofs.ModeDir
	case tar.TypeSymlink:
		a.Mode |= erofs.ModeSymlink
		a.Mode |= 0o777
	case tar.TypeChar:
		a.Mode |= erofs.ModeChar
	case tar.TypeBlock:
		a.Mode |= erofs.ModeBlock
	case tar.TypeFifo:
		a.Mode |= erofs.ModeFifo
	default:
		return a, fmt.Errorf("entry type %q: %w", h.kind, fs.ErrInvalid)
	}
	if h.kind == tar.TypeChar || h.kind == tar.TypeBlock {
		var err error
		if a.Rdev, err = erofs.Device(h.major, h.minor); err != nil {
			return a, err
		}
	}
	return a, nil
}

// keepXattr leaves out what the format has no place for, as every file system
// would, and what overlayfs would take as its own word: a layer must not be
// able to redirect or hide files of others.
func keepXattr(name string) bool {
	return erofs.XattrSupported(name) && !strings.HasPrefix(name, "trusted.overlay.")
}
