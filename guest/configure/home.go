package configure

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// makeHome makes a user's home from /etc/skel, unless it is there.
func (s *System) makeHome(user, home string) error {
	path := s.path(home)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	id, err := s.identity(user)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if skel := s.path("/etc/skel"); isDir(skel) {
		// A link or a device in a skeleton fails here; the home is made all the same.
		err = os.CopyFS(path, os.DirFS(skel))
	}
	own := filepath.WalkDir(path, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(id.UID), int(id.GID))
	})
	return errors.Join(err, own, os.Chmod(path, 0o750))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// copyOwner gives a file the owner of another.
func copyOwner(of fs.FileInfo, path string) error {
	st, ok := of.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return os.Chown(path, int(st.Uid), int(st.Gid))
}
