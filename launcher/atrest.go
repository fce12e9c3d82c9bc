package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/archive"
	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/rootfs"
)

// Files of a server are reached in three ways: by its agent; in the host's own
// mount, which a guest with the root mode virtiofs has its root from, where the
// guest says that it sees the same there; and, of a server that does not run, in a
// mount that is made for it.

// restDir is where a server's root is mounted while it does not run, in its
// directory.
const restDir = "rest"

// disk is held by whoever uses the root of a server from outside of a guest, and by
// its run while it is about to give the root to one.
type disk chan struct{}

func newDisk() disk { return make(disk, 1) }

// settle waits until nobody holds the disk any more. Whoever waits has made sure
// before that nobody else will.
func (d disk) settle(ctx context.Context) error {
	release, err := d.take(ctx)
	if err == nil {
		release()
	}
	return err
}

func (d disk) take(ctx context.Context) (release func(), err error) {
	if d == nil {
		return func() {}, nil // what is left of a server has no users
	}
	select {
	case d <- struct{}{}:
		return func() { <-d }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// atRest calls f with the root of a server that has stopped, for the sake of the file
// at path. Its start, and its deletion, wait.
func (m *Manager) atRest(ctx context.Context, i *instance, action, path string, f func(context.Context, *process.Root) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(i.ctx, func() { cancel(context.Cause(i.ctx)) })()
	release, err := i.disk.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	srv, _ := i.snapshot()
	if srv.Running() || srv.TaskState != TaskNone || srv.VMState != VMStopped && srv.VMState != VMError {
		return &StateError{ID: srv.ID, Server: srv.Name, Action: action, VM: srv.VMState, Task: srv.TaskState}
	}
	overlay, err := m.cfg.Roots.Overlay(i.dir)
	if errors.Is(err, rootfs.ErrNotFound) {
		return errorf(ErrConflict, "server %s has no files yet: it has never been booted", srv.Name)
	}
	if err != nil {
		return err
	}
	dir := filepath.Join(i.dir, restDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	defer func() {
		// Removed last: unmounting is what may fail.
		err = errors.Join(err, overlay.Unmount(context.WithoutCancel(ctx)), os.Remove(dir))
	}()
	if err := overlay.Mount(ctx, dir); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	root, err := openWithVolumes(dir, srv.Spec.Volumes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := outside(path, root.missing); err != nil {
		return err
	}
	return kindOf(f(ctx, root.Root))
}

// outside refuses a path in a volume that the host has no more.
func outside(path string, volumes []Volume) error {
	path = filepath.Clean("/" + path)
	for _, v := range volumes {
		if at := filepath.Clean(v.Guest); path == at || strings.HasPrefix(path, at+"/") {
			return errorf(ErrConflict, "%s is in the volume %s, and the host has no such file or directory any more: put it back", path, v.Host)
		}
	}
	return nil
}

// kindOf gives errors of files the launcher's kinds.
func kindOf(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, archive.ErrUnsafe), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR), errors.Is(err, unix.EROFS),
		errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// stopped finds a server that does not run and may.
func (m *Manager) stopped(ref string) (*instance, bool) {
	i, err := m.find(ref)
	if err != nil {
		return nil, false
	}
	srv, _ := i.snapshot()
	return i, srv.VMState == VMStopped || srv.VMState == VMError && !srv.Running()
}

// copyShared copies from the host's own mount of a running server's root, and
// reports whether it could.
func (m *Manager) copyShared(ctx context.Context, i *instance, c *agent.Client, path string, follow bool, w io.Writer) (done bool, err error) {
	srv, _ := i.snapshot()
	if guest.RootMode(srv.RootMode) != guest.RootVirtioFS {
		return false, nil
	}
	at, err := c.Locate(ctx, path, follow || endsInSlash(path))
	if err != nil || !at.Plain {
		return false, nil // an older guest, or the agent finds out as well
	}
	root, err := process.OpenRoot(filepath.Join(i.dir, shareDir, guest.RootDir))
	if err != nil {
		return false, nil // it is about to end
	}
	defer func() { _ = root.Close() }()
	flags := unix.O_PATH
	if !follow && !endsInSlash(path) {
		flags |= unix.O_NOFOLLOW
	}
	// A guest's links may lead elsewhere than here: by way of what it has mounted.
	f, err := root.OpenFile(filepath.Clean("/"+path), flags)
	if err != nil {
		return false, nil // the agent finds out as well
	}
	var st unix.Stat_t
	err = errors.Join(unix.Fstat(int(f.Fd()), &st), f.Close())
	if err != nil || st.Ino != at.Inode {
		return false, err
	}
	return true, kindOf(writeArchive(ctx, root, path, follow, w))
}

func endsInSlash(path string) bool {
	base := filepath.Base(path)
	return path != "" && (path[len(path)-1] == '/' || base == "." && len(path) > 1)
}

func writeArchive(ctx context.Context, root *process.Root, path string, follow bool, w io.Writer) error {
	if follow {
		return archive.WriteFollowed(ctx, root, path, w)
	}
	return archive.Write(ctx, root, path, w)
}
