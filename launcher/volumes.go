package launcher

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
)

// restingRoot is the root of a server that does not run, with its volumes.
type restingRoot struct {
	*process.Root
	namespace *os.File
	missing   []Volume // those the host has no more
}

// openWithVolumes opens the root that is mounted at dir, and mounts the volumes in
// it as the guest does. They are mounted in a namespace of the root's own: nobody
// who removes dir reaches them, and they go when the root is closed, or when this
// process ends, however it does.
func openWithVolumes(dir string, volumes []Volume) (*restingRoot, error) {
	if len(volumes) == 0 {
		root, err := process.OpenRoot(dir)
		return &restingRoot{Root: root}, err
	}
	type result struct {
		root *restingRoot
		err  error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread, whose namespace is another, ends here.
		runtime.LockOSThread()
		root, err := enterWithVolumes(dir, volumes)
		done <- result{root, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("mount the volumes: %w", r.err)
	}
	return r.root, nil
}

// Close leaves the root to whoever unmounts it.
func (r *restingRoot) Close() error {
	err := r.Root.Close()
	if r.namespace != nil {
		err = errors.Join(err, r.namespace.Close())
	}
	return err
}

// enterWithVolumes moves the calling thread into a namespace that holds nothing but
// the root and the volumes.
func enterWithVolumes(dir string, volumes []Volume) (_ *restingRoot, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	r := &restingRoot{}
	defer func() {
		if err != nil && r.namespace != nil {
			err = errors.Join(err, r.namespace.Close())
		}
	}()
	if r.namespace, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
		return nil, err
	}
	trees := make([]int, len(volumes))
	for n, v := range volumes {
		if trees[n], err = v.tree(); err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Host, err)
		}
		if trees[n] < 0 {
			r.missing = append(r.missing, v)
			continue
		}
		defer func() { err = errors.Join(err, unix.Close(trees[n])) }()
	}
	if err := pivot(dir); err != nil {
		return nil, err
	}
	if r.Root, err = process.OpenRoot("/"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Root.Close())
		}
	}()
	// What lies above something else goes first, as in the guest.
	order := make([]int, len(volumes))
	for n := range order {
		order[n] = n
	}
	depth := func(n int) int { return strings.Count(path.Clean(volumes[n].Guest), "/") }
	slices.SortStableFunc(order, func(a, b int) int { return depth(a) - depth(b) })
	for _, n := range order {
		if trees[n] < 0 {
			continue
		}
		if err := r.attach(trees[n], volumes[n].Guest); err != nil {
			return nil, fmt.Errorf("volume %s on %s: %w", volumes[n].Host, volumes[n].Guest, err)
		}
	}
	return r, nil
}

// tree makes a mount of the volume that is nowhere yet, as a descriptor; -1 where
// there is no such volume.
func (v Volume) tree() (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, v.Host, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return -1, nil
	}
	if err != nil || !v.ReadOnly {
		return tree, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, errors.Join(err, unix.Close(tree))
	}
	return tree, nil
}

// pivot makes the mount at dir the root of the thread's namespace, which then has no
// other.
func pivot(dir string) error {
	if err := unix.Chdir(dir); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	return unix.Unmount(".", unix.MNT_DETACH)
}

// attach mounts a tree at a name in the root, which is made where it is missing.
func (r *restingRoot) attach(tree int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	var target *os.File
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		target, err = r.MkdirAll(name, 0o755, 0, 0)
	} else {
		target, err = r.Touch(name, 0o644)
	}
	if err != nil {
		return err
	}
	err = unix.MoveMount(tree, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return errors.Join(err, target.Close())
}
