package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds /etc/passwd and /etc/group.
const maxFile = 4 << 20

// Root is a directory taken as the root of a file system.
type Root struct {
	dir *os.File
}

// OpenRoot opens dir as a root. The caller closes it.
func OpenRoot(dir string) (*Root, error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", dir, err)
	}
	return &Root{dir: os.NewFile(uintptr(fd), dir)}, nil
}

// Close releases the root.
func (r *Root) Close() error { return r.dir.Close() }

// Open returns an O_PATH descriptor of name, an absolute path inside the root.
// It follows symbolic links, the last one too.
func (r *Root) Open(name string) (*os.File, error) { return r.open(name, unix.O_PATH) }

func (r *Root) open(name string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	for {
		fd, err := unix.Openat2(int(r.dir.Fd()), name, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), name), nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			// A rename elsewhere while ".." was being resolved.
			continue
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// OpenFile is Open with flags of open(2), which must not create anything. With
// O_NOFOLLOW the last component is not followed.
func (r *Root) OpenFile(name string, flags int) (*os.File, error) { return r.open(name, uint64(flags)) }

// Stat describes the file that name leads to.
func (r *Root) Stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	f, err := r.Open(name)
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	return st, nil
}

// ReadFile reads a small regular file.
func (r *Root) ReadFile(name string) ([]byte, error) {
	// Look before opening: opening a FIFO or a device has effects.
	st, err := r.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	f, err := r.open(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("file too large")}
	}
	return data, nil
}

// MkdirAll returns an O_PATH descriptor of the directory name, which is made
// with its parents, owned by uid and gid, where it is missing. Links on the
// way are followed inside the root; a dangling one is an error.
func (r *Root) MkdirAll(name string, perm uint32, uid, gid int) (*os.File, error) {
	f, err := r.Open(name)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	clean := path.Clean("/" + name)
	if clean == "/" {
		return nil, err
	}
	parent, err := r.MkdirAll(path.Dir(clean), perm, uid, gid)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	base := path.Base(clean)
	switch err := unix.Mkdirat(int(parent.Fd()), base, perm); {
	case err == nil:
		if err := unix.Fchownat(int(parent.Fd()), base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, &os.PathError{Op: "chown", Path: clean, Err: err}
		}
	case !errors.Is(err, unix.EEXIST):
		return nil, &os.PathError{Op: "mkdir", Path: clean, Err: err}
	}
	return r.Open(name)
}

// Touch returns an O_PATH descriptor of the file name, which is made empty,
// and its directories too, where it is missing.
func (r *Root) Touch(name string, perm uint32) (*os.File, error) {
	f, err := r.Open(name)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return f, err
	}
	clean := path.Clean("/" + name)
	parent, err := r.MkdirAll(path.Dir(clean), 0o755, 0, 0)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), path.Base(clean),
		unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err != nil {
		return nil, &os.PathError{Op: "create", Path: clean, Err: err}
	}
	unix.Close(fd)
	return r.Open(name)
}

// lines calls visit for each line of a passwd or group file that has at least
// n fields. A missing file has no lines.
func (r finder) lines(name string, n int, visit func(fields []string) bool) error {
	data, err := r.ReadFile(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if fields := strings.Split(line, ":"); len(fields) >= n && !visit(fields) {
			return nil
		}
	}
	return nil
}
