package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// capableDir holds copies of files with capabilities.
const capableDir = "/run/slipway/capable"

// layCapable lays over each file whose capabilities the root mode does not pass
// on a copy that has them. The copies are read-only: what was written to one would
// be lost with the guest.
func layCapable(root *process.Root, shared string) error {
	data, err := os.ReadFile(filepath.Join(shared, share.CapableFile))
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
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(capableDir, 0o755); err != nil {
		return err
	}
	m := mount{source: "tmpfs", target: capableDir, fstype: "tmpfs", flags: unix.MS_NODEV, data: "mode=0755"}
	if err := m.do(); err != nil {
		return err
	}
	for i, f := range files {
		if err := layCopy(root, f, filepath.Join(capableDir, strconv.Itoa(i))); err != nil {
			return fmt.Errorf("%q: %w", f.Path, err)
		}
	}
	return nil
}

func layCopy(root *process.Root, c share.Capable, name string) error {
	original, err := root.OpenFile(string(c.Path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return err
	}
	defer original.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(original.Fd()), &st); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, original); err != nil {
		return err
	}
	fd := int(f.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	// A change of owner takes these away.
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	if err := unix.Fsetxattr(fd, share.CapabilityAttr, c.Value, 0); err != nil {
		return fmt.Errorf("%s: %w", share.CapabilityAttr, err)
	}
	if err := f.Close(); err != nil { // what is written to is not executed
		return err
	}
	if err := os.Chtimes(name, time.Unix(st.Atim.Unix()), time.Unix(st.Mtim.Unix())); err != nil {
		return err
	}
	return bind(name, original, true)
}
