package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// fileSystem is a new ext4 in a sparse file. Each pull gets one: creating files is
// about twenty times as slow on an ext4 where a large tree has been deleted
// lately, and subjects differ in how many files they make.
type fileSystem struct {
	file, dir string
}

// fileSystemSize suffices for a large image twice, as archives and as a tree.
const fileSystemSize = 16 << 30

func newFileSystem(ctx context.Context, below string) (_ *fileSystem, err error) {
	f := &fileSystem{file: filepath.Join(below, "fs.img"), dir: filepath.Join(below, "fs")}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(f.file))
		}
	}()
	if err := os.Mkdir(f.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := os.WriteFile(f.file, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(f.file, fileSystemSize); err != nil {
		return nil, err
	}
	// The kernel is not to initialize tables in the background of a measurement.
	if err := runCommand(ctx, "mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", f.file); err != nil {
		return nil, err
	}
	return f, runCommand(ctx, "mount", "-o", "loop,noinit_itable", f.file, f.dir)
}

// sync waits until everything is on disk.
func (f *fileSystem) sync() error {
	d, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(d.Fd())))
}

// used is the space that is taken, once everything is on disk.
func (f *fileSystem) used() (int64, error) {
	if err := f.sync(); err != nil {
		return 0, err
	}
	var s unix.Statfs_t
	if err := unix.Statfs(f.dir, &s); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return int64(s.Blocks-s.Bfree) * s.Frsize, nil
}

// remove unmounts the file system and what is mounted on it, which waits for what
// is still being written.
func (f *fileSystem) remove() error {
	// What has been told to end may not have yet.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		err := unmountAll(f.dir)
		if err == nil {
			return os.Remove(f.file)
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// unmountAll unmounts what is mounted at dir and below, the newest first.
func unmountAll(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// removeBelow removes a directory that file systems may be mounted in.
func removeBelow(dir string) error {
	if err := unmountAll(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// runCommand runs a command to its end; what it prints is shown if it fails.
func runCommand(ctx context.Context, name string, args ...string) error {
	return finish(exec.CommandContext(ctx, name, args...))
}

func finish(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(out))
	}
	return nil
}
