package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
)

// The files of a server's directory, beside those of package rootfs.
const (
	shareDir    = "share"
	outputFile  = "output.log"
	consoleFile = "console.log"
	agentFile   = "agent.sock"
)

// shareDirectory is a share as the engine writes it: its Name leads to the directory,
// whatever is mounted there.
type shareDirectory struct {
	*os.Root
	handle *os.File
}

// Close closes it.
func (s *shareDirectory) Close() error { return errors.Join(s.Root.Close(), s.handle.Close()) }

// makeShare makes the one directory that the guest is given: the seed's
// directory, places for the root and the volumes, and nothing else. What is returned
// is to be closed.
func makeShare(dir string) (*shareDirectory, error) {
	share := filepath.Join(dir, shareDir)
	for _, d := range []string{guest.RootDir, guest.SeedDir, guest.VolumeDir} {
		if err := os.MkdirAll(filepath.Join(share, d), 0o755); err != nil {
			return nil, err
		}
	}
	handle, err := os.OpenFile(share, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", handle.Fd()))
	if err != nil {
		return nil, errors.Join(err, handle.Close())
	}
	return &shareDirectory{root, handle}, nil
}

// mountShare makes the share a read-only mount of itself, so that what a guest writes
// goes to its overlay or to a volume, or nowhere.
func mountShare(dir string) error {
	share := filepath.Join(dir, shareDir)
	return bind(share, share, true)
}

// mountVolumes mounts the volumes in the mounted share of dir.
func mountVolumes(share *shareDirectory, dir string, volumes []Volume) error {
	for n, v := range volumes {
		place := filepath.Join(guest.VolumeDir, strconv.Itoa(n))
		if err := makeMountpoint(v.Host, filepath.Join(share.Name(), place)); err != nil {
			return err
		}
		if err := bind(v.Host, filepath.Join(dir, shareDir, place), v.ReadOnly); err != nil {
			return fmt.Errorf("volume %s: %w", v.Host, err)
		}
	}
	return nil
}

func makeMountpoint(source, target string) error {
	info, err := os.Stat(source)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errorf(ErrInvalid, "volume %s: there is no such directory on the host", source)
	case err != nil:
		return errorf(ErrInvalid, "volume %s: %v", source, err)
	case info.IsDir():
		return os.MkdirAll(target, 0o755)
	case info.Mode().IsRegular():
		f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		return f.Close()
	}
	return errorf(ErrInvalid, "volume %s: neither a directory nor a regular file", source)
}

// bind mounts source, without what is mounted below it, at target. It is read-only
// before it is there: the mounts of others to which it spreads would stay writable.
func bind(source, target string, readOnly bool) error {
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	defer func() { _ = unix.Close(tree) }()
	if readOnly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return fmt.Errorf("make %s read-only: %w", source, err)
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// unmountShare unmounts whatever is mounted in a server's share but its root. It
// goes by what the kernel says, not by what was asked for.
func unmountShare(ctx context.Context, dir string) error {
	share := filepath.Join(dir, shareDir)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(share))
	if err != nil {
		return err
	}
	root := filepath.Join(share, guest.RootDir)
	for _, m := range slices.Backward(mounts) {
		if m.Mountpoint == root {
			continue
		}
		if err := unmount(ctx, m.Mountpoint); err != nil {
			return err
		}
	}
	return nil
}

// unmount waits a little for a file system that a process on its way out still
// uses.
func unmount(ctx context.Context, target string) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil || errors.Is(err, unix.EINVAL):
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			return fmt.Errorf("unmount %s: %w", target, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("unmount %s: %w", target, err)
		}
	}
}

// tail returns the end of a file, at most limit bytes. A file that is not there
// is empty.
func tail(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(max(0, size-limit), io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
