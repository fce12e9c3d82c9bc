package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
)

// Written is what an overlay's upper.img held at a moment: a copy in a file without
// a name, in a mount that no namespace has. Both go with the process.
type Written struct{ mount *os.File }

// Written copies what was written to an overlay. Nobody writes to it meanwhile.
func (o *Overlay) Written(ctx context.Context) (_ *Written, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy of overlay %s: %w", o.Dir, err)
		}
	}()
	if err := o.flush(); err != nil {
		return nil, err
	}
	from, err := os.Open(filepath.Join(o.Dir, upperName))
	if err != nil {
		return nil, err
	}
	defer from.Close()
	image, err := content.Temporary(o.store.path("tmp"), "written-*")
	if err != nil {
		return nil, err
	}
	defer image.Close()
	if err := os.Remove(image.Name()); err != nil {
		return nil, err
	}
	if err := clone(image, from); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	loop, err := attachLoop(descriptor(image), false)
	if err != nil {
		return nil, err
	}
	defer loop.Close()
	mount, err := detachedMount(loop.Name())
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: only root may mount file systems: %w", ErrUnsupported, err)
	}
	if err != nil {
		return nil, err
	}
	return &Written{mount}, nil
}

// flush brings what the host holds back of a mounted upper.img into the file.
func (o *Overlay) flush() error {
	dir, err := os.Open(o.upper())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(dir.Fd())))
}

// detachedMount mounts an upper.img read-only where nobody else sees it.
func detachedMount(device string) (*os.File, error) {
	fd, err := unix.Fsopen("ext4", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fd)
	if err := unix.FsconfigSetString(fd, "source", device); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigSetFlag(fd, "ro"); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return nil, fmt.Errorf("mount the copy: %w", err)
	}
	mount, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(mount), "upper.img"), nil
}

// Close lets go of the copy.
func (w *Written) Close() error { return w.mount.Close() }

// WriteLayer writes the tar stream of an OCI layer that does to the overlay's base
// what was done to the overlay.
func (w *Written) WriteLayer(ctx context.Context, to io.Writer) error {
	root, err := os.Open(filepath.Join(descriptor(w.mount), "fs"))
	if errors.Is(err, fs.ErrNotExist) {
		return tar.NewWriter(to).Close() // it was never mounted
	}
	if err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	defer root.Close()
	l := &layerWriter{ctx: ctx, tar: tar.NewWriter(to), names: map[uint64]string{}}
	if err := l.dir(root, "."); err != nil {
		return fmt.Errorf("write layer: %w", err)
	}
	return l.tar.Close()
}

// descriptor is the name by which an open file can be opened again.
func descriptor(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// layerWriter translates what overlayfs keeps in an upper directory into OCI's
// words. With the options of our overlays, that is whiteouts and opaque directories.
type layerWriter struct {
	ctx   context.Context //nolint:containedctx // as long as the writing
	tar   *tar.Writer
	names map[uint64]string // of inodes with several
}

const (
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"
	overlayXattrs  = "trusted.overlay."
)

// dir writes a directory, whose name in the layer is name, and what is in it.
func (l *layerWriter) dir(d *os.File, name string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(d.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	h, opaque, err := header(descriptor(d)+"/.", name+"/", &st)
	if err != nil {
		return err
	}
	h.Typeflag = tar.TypeDir
	if err := l.tar.WriteHeader(h); err != nil {
		return err
	}
	if opaque {
		if err := l.marker(path.Join(name, opaqueMarker)); err != nil {
			return err
		}
	}
	entries, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := l.entry(filepath.Join(descriptor(d), e.Name()), path.Join(name, e.Name())); err != nil {
			return fmt.Errorf("%.255q: %w", e.Name(), err)
		}
	}
	return nil
}

// marker writes an empty file, which tells whoever unpacks the layer something.
func (l *layerWriter) marker(name string) error {
	return l.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatPAX})
}

// entry writes the file at a place.
func (l *layerWriter) entry(at, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(at, &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	base := path.Base(name)
	switch {
	case kind == unix.S_IFCHR && st.Rdev == 0:
		return l.marker(path.Join(path.Dir(name), whiteoutPrefix+base))
	case kind == unix.S_IFSOCK:
		return nil // tar has none, and it is of no use without who listens
	case strings.HasPrefix(base, whiteoutPrefix):
		return errors.New("no layer can have a file of this name: it would hide another")
	case kind == unix.S_IFDIR:
		d, err := os.Open(at)
		if err != nil {
			return err
		}
		defer d.Close()
		return l.dir(d, name)
	}
	h, _, err := header(at, name, &st)
	if err != nil {
		return err
	}
	if first, ok := l.names[st.Ino]; ok {
		h.Typeflag, h.Linkname, h.PAXRecords = tar.TypeLink, first, nil
		return l.tar.WriteHeader(h)
	}
	if st.Nlink > 1 {
		l.names[st.Ino] = name
	}
	return l.file(h, at, &st)
}

func (l *layerWriter) file(h *tar.Header, at string, st *unix.Stat_t) (err error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(at); err != nil {
			return err
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		h.Typeflag, h.Size = tar.TypeReg, st.Size
		if err := l.tar.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(l.tar, reading{l.ctx, f})
		return err
	}
	return l.tar.WriteHeader(h)
}

// reading ends with its context.
type reading struct {
	ctx context.Context //nolint:containedctx // as long as the reading
	io.Reader
}

func (r reading) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// header describes a file, all but its kind, and tells whether it is opaque.
func header(at, name string, st *unix.Stat_t) (h *tar.Header, opaque bool, err error) {
	h = &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	names, err := xattrNames(at)
	if err != nil {
		return nil, false, err
	}
	for _, x := range names {
		value, err := xattr(at, x)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", x, err)
		}
		if strings.HasPrefix(x, overlayXattrs) {
			opaque = opaque || x == overlayXattrs+"opaque" && value == "y"
			continue
		}
		h.PAXRecords["SCHILY.xattr."+x] = value
	}
	return h, opaque, nil
}

// maxXattr is the most that Linux keeps of a file's attributes' names, and of one
// value.
const maxXattr = 64 << 10

func xattrNames(at string) ([]string, error) {
	b := make([]byte, maxXattr)
	n, err := unix.Llistxattr(at, b)
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("llistxattr", err)
	}
	return strings.Split(strings.TrimSuffix(string(b[:n]), "\x00"), "\x00"), nil
}

func xattr(at, name string) (string, error) {
	b := make([]byte, maxXattr)
	n, err := unix.Lgetxattr(at, name, b)
	if err != nil {
		return "", os.NewSyscallError("lgetxattr", err)
	}
	return string(b[:n]), nil
}
