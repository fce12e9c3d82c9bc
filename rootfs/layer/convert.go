package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
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
	// Implied lists directories made for want of an entry.
	Implied []string
}

// Budget is asked before each file and each inode, and refuses with an error
// that wraps ErrTooLarge. It may be shared by layers.
type Budget interface {
	Bytes(n int64) error
	Inodes(n int64) error
}

type tree struct {
	root    *dir
	w       *erofs.Writer
	budget  Budget
	bytes   int64
	pending []pendingLink
}

// pendingLink is a hard link that came before its target.
type pendingLink struct{ name, target string }

const (
	whiteoutPrefix = ".wh."
	opaqueMark     = ".wh..wh..opq"
	reservedPrefix = ".wh..wh."
	opaqueXattr    = "trusted.overlay.opaque"
	xattrRecord    = "SCHILY.xattr."
)

// Convert reads a layer's tar stream to its last byte and writes its image to
// file, as [erofs.NewWriter] has it. The caller truncates file to Info.Size.
func Convert(r io.Reader, file io.WriterAt, uuid [16]byte, budget Budget) (Info, error) {
	t := &tree{root: newDir(), w: erofs.NewWriter(file, uuid), budget: budget}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Info{}, streamError(err)
		}
		if err := t.entry(h, tr); err != nil {
			return Info{}, fmt.Errorf("entry %.300q: %w", h.Name, err)
		}
	}
	if err := drain(r); err != nil {
		return Info{}, err
	}
	for _, l := range t.pending {
		if err := t.link(l.name, l.target, false); err != nil {
			return Info{}, fmt.Errorf("entry %.300q: %w", l.name, err)
		}
	}
	return t.finish()
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

func (t *tree) grow() error {
	return t.budget.Inodes(1)
}

func (t *tree) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(parts) > 0 && strings.HasPrefix(parts[len(parts)-1], whiteoutPrefix) {
		return t.whiteout(parts)
	}
	if h.Typeflag == tar.TypeLink {
		return t.link(h.Name, h.Linkname, true)
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
	if err := t.grow(); err != nil {
		return err
	}
	n := &node{mode: a.Mode}
	switch a.Mode & erofs.ModeType {
	case erofs.ModeRegular:
		if err := t.budget.Bytes(h.Size); err != nil {
			return err
		}
		t.bytes += h.Size
		n.nid, err = t.w.File(a, h.Size, r)
	case erofs.ModeSymlink:
		n.target = h.Linkname
		n.nid, err = t.w.Symlink(a, h.Linkname)
	default:
		n.nid, err = t.w.Special(a)
	}
	if err != nil {
		return malformed(err)
	}
	t.place(d, name, n)
	return nil
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
	d := t.root
	if len(parts) > 0 {
		parent, name, err := t.parent(parts)
		if err != nil {
			return malformed(err)
		}
		n := parent.children[name]
		if n == nil || n.dir == nil {
			if err := t.grow(); err != nil {
				return err
			}
			opaque := n.whiteout()
			n = &node{mode: erofs.ModeDir, dir: newDir()}
			n.dir.opaque = opaque
			t.place(parent, name, n)
		}
		d = n.dir
	}
	d.attr = a
	d.implied = false
	return nil
}

func (t *tree) whiteout(parts []string) error {
	name := parts[len(parts)-1]
	if strings.HasPrefix(name, reservedPrefix) && name != opaqueMark {
		return nil // aufs' own records, which nothing else reads
	}
	d, _, err := t.parent(parts)
	if err != nil {
		return malformed(err)
	}
	if name == opaqueMark {
		d.opaque = true
		return nil
	}
	name = name[len(whiteoutPrefix):]
	if name == "" || name == "." || name == ".." {
		return fmt.Errorf("%w: whiteout without a name", ErrMalformed)
	}
	switch old := d.children[name]; {
	case old == nil:
		if err := t.grow(); err != nil {
			return err
		}
		d.set(name, newWhiteout())
	case old.dir != nil:
		old.dir.opaque, old.dir.implied = true, false
	}
	return nil
}

func (t *tree) link(name, target string, wait bool) error {
	to, err := split(target)
	if err != nil {
		return malformed(err)
	}
	n, err := t.lookup(to)
	if errors.Is(err, errMissing) && wait {
		if err := t.grow(); err != nil {
			return err
		}
		t.pending = append(t.pending, pendingLink{name, target})
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: hard link to %.300q: %w", ErrMalformed, target, err)
	}
	if n.dir != nil {
		return fmt.Errorf("%w: hard link to directory %.300q", ErrMalformed, target)
	}
	parts, err := split(name)
	if err != nil || len(parts) == 0 {
		return fmt.Errorf("%w: the root is not a directory", ErrMalformed)
	}
	if err := t.grow(); err != nil {
		return err
	}
	d, last, err := t.parent(parts)
	if err != nil {
		return malformed(err)
	}
	if d.children[last] == n || !wait && d.children[last] != nil {
		return nil
	}
	t.place(d, last, n)
	return nil
}

// attributes reads what an inode holds from a tar header.
func attributes(h *tar.Header) (erofs.Attr, error) {
	a := erofs.Attr{
		Mode: uint16(h.Mode & 0o7777),
		Sec:  h.ModTime.Unix(),
		Nsec: uint32(h.ModTime.Nanosecond()),
	}
	if h.Uid < 0 || int64(h.Uid) > 1<<32-1 || h.Gid < 0 || int64(h.Gid) > 1<<32-1 {
		return a, fmt.Errorf("owner %d:%d: %w", h.Uid, h.Gid, erofs.ErrUnrepresentable)
	}
	a.UID, a.GID = uint32(h.Uid), uint32(h.Gid)
	switch h.Typeflag {
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
		return a, fmt.Errorf("entry type %q: %w", h.Typeflag, fs.ErrInvalid)
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		var err error
		if a.Rdev, err = erofs.Device(h.Devmajor, h.Devminor); err != nil {
			return a, err
		}
	}
	for record, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(record, xattrRecord)
		if ok && keepXattr(name) {
			a.Xattrs = append(a.Xattrs, erofs.Xattr{Name: name, Value: []byte(value)})
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

// finish writes the tree.
func (t *tree) finish() (Info, error) {
	info := Info{Root: t.root.attr, RootImplied: t.root.implied, RootOpaque: t.root.opaque, Bytes: t.bytes}
	b := &builder{w: t.w, info: &info, seen: map[*node]bool{}}
	// The root of the stack is what overlayfs makes of all roots; only a
	// directory below it can be opaque.
	t.root.opaque = false
	root, err := b.dir(t.root, "")
	if err != nil {
		return Info{}, err
	}
	image, err := t.w.Finish(root)
	if err != nil {
		return Info{}, malformed(err)
	}
	info.Size, info.Inodes = image.Size, image.Inodes
	return info, nil
}

// builder makes of the tree what the writer wants.
type builder struct {
	w        *erofs.Writer
	info     *Info
	seen     map[*node]bool
	whiteout erofs.NID
	removed  uint32
}

func (b *builder) dir(d *dir, name string) (*erofs.Dir, error) {
	out := &erofs.Dir{Attr: d.attr, Entries: make([]erofs.Entry, 0, len(d.children))}
	if d.implied && name != "" {
		b.info.Implied = append(b.info.Implied, name)
	}
	if d.opaque {
		out.Attr.Xattrs = append(slices.Clone(d.attr.Xattrs), erofs.Xattr{Name: opaqueXattr, Value: []byte("y")})
	}
	for _, child := range slices.Sorted(maps.Keys(d.children)) {
		n := d.children[child]
		e := erofs.Entry{Name: child, Mode: n.mode, NID: n.nid}
		switch {
		case n.dir != nil:
			sub, err := b.dir(n.dir, name+"/"+child)
			if err != nil {
				return nil, err
			}
			e.Dir = sub
		case n.whiteout():
			nid, err := b.removal()
			if err != nil {
				return nil, err
			}
			e.NID = nid
		case n.links > 1 && !b.seen[n]:
			b.seen[n] = true
			b.w.SetLinks(n.nid, n.links)
		}
		out.Entries = append(out.Entries, e)
	}
	d.children = nil
	return out, nil
}

// removal gives the one inode that all whiteouts are links to.
func (b *builder) removal() (erofs.NID, error) {
	if b.removed == 0 {
		nid, err := b.w.Special(erofs.Attr{Mode: erofs.ModeChar})
		if err != nil {
			return 0, err
		}
		b.whiteout = nid
	}
	b.removed++
	b.w.SetLinks(b.whiteout, b.removed)
	return b.whiteout, nil
}
