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

// ErrUnsafe is matched where an archive holds what is not extracted: a name
// with "..", or a device where none may be made.
var ErrUnsafe = errors.New("unsafe archive entry")

// Options says how much of an archive is believed.
type Options struct {
	// Owner takes over owners and, since they mean something with the owner only,
	// set-user-ID and set-group-ID, capabilities and access control lists.
	Owner   bool
	Devices bool // make devices; else they are ErrUnsafe
}

// Extract unpacks a tar stream into dir, an existing directory of the root.
// What exists is replaced, except that a directory is kept and never replaced
// by something else, and that a file which is mounted there is written into.
func Extract(ctx context.Context, root *process.Root, dir string, r io.Reader, o Options) error {
	st, err := root.Stat(dir)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &os.PathError{Op: "extract", Path: dir, Err: unix.ENOTDIR}
	}
	x := &extractor{root: root, dir: dir, options: o}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := x.entry(h, tr); err != nil {
			return fmt.Errorf("extract %q: %w", h.Name, err)
		}
	}
	return x.finishDirectories()
}

type extractor struct {
	root    *process.Root
	dir     string
	options Options
	dirs    []directory // whose times are set at the end
	buf     []byte
}

type directory struct {
	f     *os.File
	mtime time.Time
}

// maxOpenDirs bounds the directories kept open; the times of more are set
// early, and so may change once more.
const maxOpenDirs = 256

// place opens the directory that an entry goes into and returns the entry's
// last component, empty for the directory dir itself.
func (x *extractor) place(name string) (parent *os.File, base string, err error) {
	if slices.Contains(strings.Split(name, "/"), "..") {
		return nil, "", fmt.Errorf("%w: it has \"..\" in its name", ErrUnsafe)
	}
	clean := path.Clean("/" + name)
	if clean == "/" {
		f, err := x.root.Open(x.dir)
		return f, "", err
	}
	parent, err = x.root.MkdirAll(x.dir+path.Dir(clean), 0o755, os.Geteuid(), os.Getegid())
	return parent, path.Base(clean), err
}

func (x *extractor) entry(h *tar.Header, data io.Reader) error {
	parent, base, err := x.place(h.Name)
	if err != nil {
		return err
	}
	defer parent.Close()
	fd := int(parent.Fd())
	if h.Typeflag == tar.TypeDir {
		return x.directory(fd, base, h)
	}
	if base == "" {
		return fmt.Errorf("%w: it would replace the destination", ErrUnsafe)
	}
	mounted, err := isMountpoint(fd, base)
	if err != nil {
		return err
	}
	if mounted {
		return x.overwrite(fd, base, h, data)
	}
	if err := makeRoom(fd, base); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return x.file(fd, base, h, data)
	case tar.TypeSymlink:
		err = unix.Symlinkat(h.Linkname, fd, base)
	case tar.TypeLink:
		return x.link(fd, base, h.Linkname)
	case tar.TypeFifo:
		err = unix.Mkfifoat(fd, base, 0o600)
	case tar.TypeChar, tar.TypeBlock:
		err = x.device(fd, base, h)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		err = fmt.Errorf("%w: type %q", ErrUnsafe, h.Typeflag)
	}
	if err != nil {
		return err
	}
	return x.attributes(fd, base, h)
}

// isMountpoint reports whether something is mounted on an entry's place. To unlink
// it there would unmount it, where its namespace is another process's.
func isMountpoint(parent int, base string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(parent, base, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, err
}

// makeRoom removes what is in an entry's place, unless it is a directory.
func makeRoom(parent int, base string) error {
	err := unix.Unlinkat(parent, base, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func (x *extractor) directory(parent int, base string, h *tar.Header) error {
	name := base
	if base == "" {
		name = "."
	} else if err := unix.Mkdirat(parent, base, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), h.Name)
	if x.options.Owner {
		err = unix.Fchown(fd, h.Uid, h.Gid)
	}
	if err == nil {
		err = unix.Fchmod(fd, x.mode(h))
	}
	if err == nil {
		err = setXattrs(fd, h, x.options.Owner)
	}
	if err != nil {
		f.Close()
		return err
	}
	x.dirs = append(x.dirs, directory{f, h.ModTime})
	if len(x.dirs) > maxOpenDirs {
		return x.finishDirectories()
	}
	return nil
}

func (x *extractor) finishDirectories() error {
	var errs []error
	for _, d := range x.dirs {
		times := []unix.Timespec{timespec(d.mtime), timespec(d.mtime)}
		if err := unix.UtimesNanoAt(int(d.f.Fd()), "", times, unix.AT_EMPTY_PATH); err != nil &&
			!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
		d.f.Close()
	}
	x.dirs = nil
	return errors.Join(errs...)
}

// mode is the permissions that an entry gets.
func (x *extractor) mode(h *tar.Header) uint32 {
	mode := uint32(h.Mode & 0o7777)
	if !x.options.Owner {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	return mode
}

// file makes a regular file. All is done to the file that was made, whatever has
// its name meanwhile.
func (x *extractor) file(parent int, base string, h *tar.Header, data io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return x.content(os.NewFile(uintptr(fd), base), h, data)
}

// overwrite gives a file that is mounted on an entry's place what the entry holds:
// it stays the same file.
func (x *extractor) overwrite(parent int, base string, h *tar.Header, data io.Reader) error {
	if h.Typeflag != tar.TypeReg {
		return fmt.Errorf("something is mounted on it: %w", unix.EBUSY)
	}
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			err = fmt.Errorf("no file is mounted on it: %w", unix.EBUSY)
		} else {
			err = unix.Ftruncate(fd, 0)
		}
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	return x.content(f, h, data)
}

// content gives an open file an entry's data and attributes, and closes it.
func (x *extractor) content(f *os.File, h *tar.Header, data io.Reader) (err error) {
	fd := int(f.Fd())
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := x.fill(f, data); err != nil {
		return err
	}
	if x.options.Owner {
		if err := unix.Fchown(fd, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if err := unix.Fchmod(fd, x.mode(h)); err != nil {
		return err
	}
	if err := setXattrs(fd, h, x.options.Owner); err != nil {
		return err
	}
	times := []unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

// fill writes a file's data in large pieces, in whatever pieces they arrive: each
// costs a round trip where the file system is another's.
func (x *extractor) fill(f *os.File, data io.Reader) error {
	if x.buf == nil {
		x.buf = make([]byte, copySize)
	}
	for {
		n, err := io.ReadFull(data, x.buf)
		if n > 0 {
			if _, err := f.Write(x.buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF) && n > 0, errors.Is(err, io.EOF):
			return x.whole(data)
		case err != nil:
			return err
		}
	}
}

// whole tells the end of a file's data from that of an archive that was cut short.
func (x *extractor) whole(data io.Reader) error {
	_, err := data.Read(x.buf[:1])
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// copySize is how much is read and written at once, in bytes.
const copySize = 256 << 10

// onlyWriter keeps io.CopyBuffer from the ways round its buffer.
type onlyWriter struct{ io.Writer }

func (x *extractor) link(parent int, base, target string) error {
	targetDir, targetBase, err := x.place(target)
	if err != nil {
		return err
	}
	defer targetDir.Close()
	return unix.Linkat(int(targetDir.Fd()), targetBase, parent, base, 0)
}

func (x *extractor) device(parent int, base string, h *tar.Header) error {
	if !x.options.Devices {
		return fmt.Errorf("%w: a device", ErrUnsafe)
	}
	mode := uint32(unix.S_IFCHR)
	if h.Typeflag == tar.TypeBlock {
		mode = unix.S_IFBLK
	}
	return unix.Mknodat(parent, base, mode|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
}

// attributes gives a new entry its owner, mode and time: the entry itself, whatever
// has its name meanwhile. The owner comes first: changing it takes set-user-ID away.
func (x *extractor) attributes(parent int, base string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != fileTypes[h.Typeflag] {
		return fmt.Errorf("%w: it was replaced meanwhile", ErrUnsafe)
	}
	if x.options.Owner {
		if err := unix.Fchownat(fd, "", h.Uid, h.Gid, unix.AT_EMPTY_PATH); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		// There is no fchmod of a descriptor that is but a path.
		if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), x.mode(h)); err != nil {
			return err
		}
	}
	times := []unix.Timespec{timespec(h.ModTime), timespec(h.ModTime)}
	return unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
}

// fileTypes are those of the entries that have no data.
var fileTypes = map[byte]uint32{
	tar.TypeSymlink: unix.S_IFLNK, tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK,
}

func timespec(t time.Time) unix.Timespec {
	return unix.NsecToTimespec(t.UnixNano())
}
