package agent

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/yamux"
	"golang.org/x/sys/unix"
)

// Location says where a file is found by who has the root's file system, too.
type Location struct {
	Inode uint64 `json:"inode"`
	// Plain says that the file, and all below it, lies in that file system, and
	// that what was written is there to be read.
	Plain bool `json:"plain"`
}

// Locate finds the file path of the root; with follow, what it leads to where it is
// a symbolic link. The error matches ErrUnsupported with an older guest.
func (c *Client) Locate(ctx context.Context, path string, follow bool) (Location, error) {
	var l Location
	if err := c.call(ctx, methodLocate, pathParams{Path: path, Follow: follow}, &l); err != nil {
		return Location{}, fmt.Errorf("find %s: %w", path, err)
	}
	return l, nil
}

func (s *Server) locate(stream *yamux.Stream, p pathParams) error {
	root, err := s.Control.Root()
	if err != nil {
		return err
	}
	defer root.Close()
	flags := unix.O_PATH
	if !p.Follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := root.OpenFile(p.Path, flags)
	if err != nil {
		return fileError(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fileError(err)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	where, err := os.Readlink(self)
	if err != nil {
		return fileError(err)
	}
	mounts, err := s.Control.Mounts()
	if err != nil {
		return err
	}
	l := Location{Inode: st.Ino, Plain: plain(where, mounts)}
	if l.Plain && !written(self, st.Mode&unix.S_IFMT) {
		l.Plain = false
	}
	return writeJSON(stream, msgReply, l)
}

// plain reports whether a path has nothing mounted on it, above it or below it, but
// the root itself.
func plain(where string, mounts []string) bool {
	for _, m := range mounts {
		if m != "/" && (below(where, m) || below(m, where)) {
			return false
		}
	}
	return true
}

// below reports whether a path is dir or lies below it.
func below(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// written has written what processes changed of a file, or of all files, in memory
// that they share.
func written(file string, kind uint32) bool {
	if kind != unix.S_IFREG && kind != unix.S_IFDIR {
		return true
	}
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if kind == unix.S_IFDIR {
		return unix.Syncfs(fd) == nil
	}
	return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER) == nil
}
