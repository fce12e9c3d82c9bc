package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// setCapable gives files of the image the capabilities that their way here has lost,
// by which they are copied to upper.img. What is there already is the server's own,
// with the capabilities that the server wants it to have.
func setCapable() error {
	data, err := os.ReadFile(filepath.Join(shareDir, share.CapableFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var files []share.Capable
	if err := json.Unmarshal(data, &files); err != nil {
		return fmt.Errorf("%s: %w", share.CapableFile, err)
	}
	for _, f := range files {
		if err := setCapability(f); err != nil {
			return fmt.Errorf("capabilities of %q: %w", f.Path, err)
		}
	}
	return nil
}

func setCapability(c share.Capable) error {
	written, err := process.OpenRoot(filepath.Join(upperDir, "fs"))
	if err != nil {
		return err
	}
	defer written.Close()
	if f, err := written.OpenFile(string(c.Path), unix.O_PATH|unix.O_NOFOLLOW); err == nil {
		return f.Close()
	}
	root, err := process.OpenRoot(filepath.Join(shareDir, share.RootDir))
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(string(c.Path), unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return nil // the server has deleted it
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	return unix.Setxattr(fdPath(f), share.CapabilityAttr, c.Value, 0)
}
