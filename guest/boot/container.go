package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// containerMounts is what a container finds mounted, in the order of mounting.
// Unlike docker's, /proc and /sys hide nothing and /proc/sys can be written:
// the kernel belongs to this server alone. But a cgroup that the entrypoint
// could write would be no limit to it.
func containerMounts(spec *share.Spec) []mount {
	o := &spec.Options
	system := uintptr(noAll | unix.MS_RDONLY)
	if o.Privileged {
		system = noAll
	}
	cgroup, inMemory := system, []mount(nil)
	if spec.InitMode == share.InitSystem {
		cgroup, inMemory = noAll, systemMounts
	}
	shm := o.ShmSize
	if shm == 0 {
		shm = share.DefaultShmSize
	}
	dev := mount{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID | unix.MS_STRICTATIME, "mode=755,size=65536k"}
	if o.Privileged {
		// The guest's devices, also those that come later, such as loop devices.
		dev = mount{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"}
	}
	return append([]mount{
		{"proc", "/proc", "proc", noAll, ""},
		dev,
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"shm", "/dev/shm", "tmpfs", noAll, fmt.Sprintf("mode=1777,size=%d", shm)},
		{"mqueue", "/dev/mqueue", "mqueue", noAll, ""},
		{"sysfs", "/sys", "sysfs", system, ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", cgroup, ""},
	}, inMemory...)
}

// deviceNodes are a container's devices.
var deviceNodes = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

var deviceLinks = [][2]string{
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"},
	{"/proc/kcore", "core"},
}

// mountContainer makes the mounts at their places inside the root.
func mountContainer(root *process.Root, spec *share.Spec) error {
	for _, m := range containerMounts(spec) {
		dir, err := root.MkdirAll(m.target, 0o755, 0, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		err = m.at(dir)
		dir.Close()
		if errors.Is(err, unix.ENODEV) && m.fstype == "mqueue" {
			continue // a kernel without POSIX message queues
		}
		if err != nil {
			return err
		}
		if m.target == "/dev" {
			if err := fillDev(root, spec.Privileged); err != nil {
				return err
			}
		}
	}
	return nil
}

// at makes the mount on an open directory, so that no name is resolved again.
func (m mount) at(dir *os.File) error {
	target := m.target
	m.target = fdPath(dir)
	if err := m.do(); err != nil {
		m.target = target
		return fmt.Errorf("%s: %w", m, errors.Unwrap(err))
	}
	return nil
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// fillDev makes devices, which a devtmpfs has already, and links.
func fillDev(root *process.Root, devtmpfs bool) error {
	dev, err := root.Open("/dev")
	if err != nil {
		return err
	}
	defer dev.Close()
	fd := int(dev.Fd())
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, n := range deviceNodes {
		err := unix.Mknodat(fd, n.name, unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor)))
		if err != nil && !(devtmpfs && errors.Is(err, unix.EEXIST)) {
			return fmt.Errorf("make /dev/%s: %w", n.name, err)
		}
	}
	for _, l := range deviceLinks {
		err := unix.Symlinkat(l[0], fd, l[1])
		if err != nil && !(devtmpfs && errors.Is(err, unix.EEXIST)) {
			return fmt.Errorf("make /dev/%s: %w", l[1], err)
		}
	}
	return nil
}

// layFiles binds each file of dir over the one of its name in the root's /etc,
// as docker does: they are this server's, not the image's.
func layFiles(root *process.Root, dir string, readOnly bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := root.Touch("/etc/"+e.Name(), 0o644)
		if err != nil {
			return fmt.Errorf("lay out /etc/%s: %w", e.Name(), err)
		}
		err = bind(filepath.Join(dir, e.Name()), target, readOnly)
		target.Close()
		if err != nil {
			return fmt.Errorf("lay out /etc/%s: %w", e.Name(), err)
		}
	}
	return nil
}

// bindVolume mounts a directory or file of the share into the root.
func bindVolume(root *process.Root, share string, m share.Mount) error {
	var st unix.Stat_t
	source := filepath.Join(share, m.Source)
	if err := unix.Lstat(source, &st); err != nil {
		return fmt.Errorf("%s: %w", m.Source, err)
	}
	var target *os.File
	var err error
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		target, err = root.MkdirAll(m.Target, 0o755, 0, 0)
	} else {
		target, err = root.Touch(m.Target, 0o644)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return bind(source, target, m.ReadOnly)
}

func bind(source string, target *os.File, readOnly bool) error {
	if !readOnly {
		return unix.Mount(source, fdPath(target), "", unix.MS_BIND|unix.MS_REC, "")
	}
	// A bind mount takes on flags only when it is mounted again, and the open
	// target still means what lies beneath it; so the mount is made read-only
	// before it is attached.
	tree, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("open_tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("mount_setattr: %w", err)
	}
	return unix.MoveMount(tree, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
