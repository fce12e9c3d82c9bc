package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mount is one mount as a value that can make and print itself.
type mount struct {
	source string
	target string
	fstype string
	flags  uintptr
	data   string
}

func (m mount) String() string {
	return fmt.Sprintf("mount %s on %s as %s (%s)", m.source, m.target, m.fstype, m.data)
}

func (m mount) do() error {
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data); err != nil {
		return fmt.Errorf("%s: %w", m, err)
	}
	return nil
}

const (
	noSuidDev = unix.MS_NOSUID | unix.MS_NODEV
	noAll     = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
)

// earlyMounts is init's own namespace, in the order of mounting.
var earlyMounts = []mount{
	{"proc", "/proc", "proc", noAll, ""},
	{"sysfs", "/sys", "sysfs", noAll, ""},
	{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
	{"tmpfs", "/dev/shm", "tmpfs", noSuidDev, "mode=1777"},
	{"tmpfs", "/run", "tmpfs", noSuidDev, "mode=0755"},
	// Without nsdelegate: it would forbid a thread of init that has joined the
	// entrypoint's cgroup namespace to put a child into the cgroup.
	{"cgroup2", "/sys/fs/cgroup", "cgroup2", noAll, "memory_recursiveprot"},
}

// mountEarly makes init's namespace. It first lays a bind mount of the
// initramfs over itself: pivot_root, by which the entrypoint leaves for its own
// root, refuses to leave the kernel's first mount.
func mountEarly() error {
	if err := unix.Mount("/", "/run", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind the initramfs: %w", err)
	}
	if err := unix.Chdir("/run"); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the initramfs: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	for _, m := range earlyMounts {
		if err := os.Mkdir(m.target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}
