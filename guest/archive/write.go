package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
)

// Write writes the file or tree name of the root as a tar stream whose entries
// begin with name's last component, or with "." for the root itself. A
// symbolic link is written as a link, unless name ends with a slash or "/.".
// Sockets are left out.
func Write(ctx context.Context, root *process.Root, name string, w io.Writer) error {
	return write(ctx, root, name, strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/."), w)
}

// WriteFollowed is Write of what name leads to where it is a symbolic link, under
// the link's name.
func WriteFollowed(ctx context.Context, root *process.Root, name string, w io.Writer) error {
	return write(ctx, root, name, true, w)
}

func write(ctx context.Context, root *process.Root, name string, follow bool, w io.Writer) error {
	clean := path.Clean("/" + name)
	flags := unix.O_PATH | unix.O_NOFOLLOW
	if follow {
		flags = unix.O_PATH
	}
	top, err := root.OpenFile(clean, flags)
	if err != nil {
		return err
	}
	defer top.Close()
	base := path.Base(clean)
	if clean == "/" {
		base = "."
	}
	aw := &writer{ctx: ctx, tw: tar.NewWriter(w), links: map[inode]string{}}
	if err := aw.node(top, base, 0); err != nil {
		return fmt.Errorf("archive %s: %w", clean, err)
	}
	return aw.tw.Close()
}

type inode struct{ dev, ino uint64 }

// What is kept in memory of a tree is bounded: it may be a hostile guest's.
const (
	maxDepth     = 1000
	maxLinkNames = 16 << 20 // bytes of names; more hard links become files
	namesAtOnce  = 4096
)

type writer struct {
	ctx    context.Context
	tw     *tar.Writer
	links  map[inode]string // names of files that have several
	linked int              // bytes of those names
	buf    []byte
}

// node writes what an O_PATH descriptor leads to.
func (w *writer) node(f *os.File, name string, depth int) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	h := header(name, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return w.directory(f, h, name, depth)
	case unix.S_IFLNK:
		target, err := readlink(f)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
		return w.tw.WriteHeader(h)
	case unix.S_IFREG:
		return w.regular(f, h, &st)
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil
	}
	return w.tw.WriteHeader(h)
}

func header(name string, st *unix.Stat_t) *tar.Header {
	return &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
}

func (w *writer) regular(f *os.File, h *tar.Header, st *unix.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := w.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.tw.WriteHeader(h)
		}
		if w.linked += len(h.Name); w.linked <= maxLinkNames {
			w.links[id] = h.Name
		}
	}
	data, err := reopen(f, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	defer data.Close()
	h.Size = st.Size
	if err := addXattrs(h, data); err != nil {
		return err
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return err
	}
	// A file that is being written may grow and shrink meanwhile; the archive
	// has room for exactly what was announced.
	if w.buf == nil {
		w.buf = make([]byte, copySize)
	}
	n, err := io.CopyBuffer(onlyWriter{w.tw}, io.LimitReader(data, h.Size), w.buf)
	if err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	if _, err := io.CopyN(w.tw, zeros{}, h.Size-n); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func (w *writer) directory(f *os.File, h *tar.Header, name string, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("%.200s...: more than %d directories deep", name, maxDepth)
	}
	dir, err := reopen(f, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer dir.Close()
	if err := addXattrs(h, dir); err != nil {
		return err
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return err
	}
	for {
		names, err := dir.Readdirnames(namesAtOnce)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		slices.Sort(names)
		for _, child := range names {
			if err := w.child(dir, child, name, depth); err != nil {
				return err
			}
		}
	}
}

// child writes an entry of a directory, unless it was removed meanwhile.
func (w *writer) child(dir *os.File, child, parent string, depth int) error {
	fd, err := unix.Openat(int(dir.Fd()), child, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s/%s: %w", parent, child, err)
	}
	node := os.NewFile(uintptr(fd), child)
	defer node.Close()
	return w.node(node, parent+"/"+child, depth+1)
}

// reopen opens what an O_PATH descriptor leads to, without resolving a name.
func reopen(f *os.File, flags int) (*os.File, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func readlink(f *os.File) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
