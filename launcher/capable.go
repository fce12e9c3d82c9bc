package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/process"
)

// createCapable makes the file that tells a guest which files have capabilities,
// where the root mode does not pass these on. For other modes it is nil.
func createCapable(share string, mode guest.RootMode) (*os.File, error) {
	name := filepath.Join(share, guest.CapableFile)
	if mode == guest.Root9P {
		return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}

// writeCapable looks for capabilities at paths of the mounted root.
func writeCapable(to *os.File, dir string, paths []string) error {
	if to == nil {
		return nil
	}
	root, err := process.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	files := []guest.Capable{}
	for _, p := range paths {
		value, err := capability(root, p)
		if err != nil {
			return err
		}
		if value != nil {
			files = append(files, guest.Capable{Path: []byte(p), Value: value})
		}
	}
	return json.NewEncoder(to).Encode(files)
}

// capability reads a file's capabilities; nil where there is no such file, or it
// has none: the server may have replaced it.
func capability(root *process.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, err
	}
	value := make([]byte, 64) // of which version 3 takes 24
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), guest.CapabilityAttr, value)
	switch {
	case errors.Is(err, unix.ENODATA):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s of %q: %w", guest.CapabilityAttr, name, err)
	}
	return value[:n], nil
}
