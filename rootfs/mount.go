package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unmount removes what is mounted at target. Somebody may still be in it for
// a moment, so it is tried for a while.
func unmount(target string) error {
	deadline := time.Now().Add(3 * time.Second)
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil // EINVAL: not a mount point
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			if errors.Is(err, unix.EBUSY) {
				err = fmt.Errorf("%w: %w", ErrBusy, err)
			}
			return fmt.Errorf("unmount %s: %w", target, err)
		}
		time.Sleep(wait)
	}
}

// mountLayer mounts a layer image, without a loop device where the kernel
// (since 6.12) can.
func (s *Store) mountLayer(image, target string) error {
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID
	if !s.config.LoopLayers {
		// Which error an older kernel gives, or one whose file system below
		// does not suit it, differs; the loop device then tells the real one.
		if unix.Mount(image, target, "erofs", flags, "") == nil {
			return nil
		}
	}
	loop, err := attachLoop(image, true)
	if err != nil {
		return err
	}
	defer loop.Close()
	return layerError(image, unix.Mount(loop.Name(), target, "erofs", flags, ""))
}

func layerError(image string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("mount layer image: the kernel has no EROFS (module erofs): %w", ErrUnsupported)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EBADMSG), errors.Is(err, unix.EUCLEAN):
		return fmt.Errorf("mount layer image %s: %w: %w", filepath.Base(image), ErrCorrupt, err)
	}
	return fmt.Errorf("mount layer image %s: %w", filepath.Base(image), err)
}

// attachLoop gives a loop device for a file. It goes away by itself when the
// returned file is closed and nothing is mounted from it.
func attachLoop(file string, readOnly bool) (*os.File, error) {
	mode, flags := os.O_RDWR, uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	backing, err := os.OpenFile(file, mode, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer control.Close()
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		loop, err := openLoop(n, mode)
		if err != nil {
			return nil, fmt.Errorf("loop device: %w", err)
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 0, Info: unix.LoopInfo64{Flags: flags}}
		copy(config.Info.File_name[:len(config.Info.File_name)-1], filepath.Base(file))
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		// Somebody else took it first.
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("loop device %d for %s: %w", n, file, err)
		}
	}
}

// openLoop waits for a new device's node, which udev may still be making.
func openLoop(n, mode int) (*os.File, error) {
	var err error
	for range 50 {
		var f *os.File
		if f, err = os.OpenFile("/dev/loop"+strconv.Itoa(n), mode, 0); err == nil {
			return f, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, err
}

// loopOf says which loop device a file is attached to, "" for none.
func loopOf(file string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return "", err
	}
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		device := "/dev/" + strings.Split(name, "/")[3]
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
		f.Close()
		if err == nil && info.Inode == st.Ino && info.Device == st.Dev {
			return device, nil
		}
	}
	return "", nil
}

// mountFrom mounts an overlay with short relative names: its options must fit
// into one page, which 128 absolute names would not. The working directory is
// one thread's own for this, and the thread ends here.
func mountFrom(dir, source, target, options string) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the goroutine's end is the thread's.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- err
			return
		}
		if err := unix.Chdir(dir); err != nil {
			done <- err
			return
		}
		done <- unix.Mount(source, target, "overlay", unix.MS_NODEV|unix.MS_NOSUID, options)
	}()
	err := <-done
	if errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("the kernel has no overlayfs: %w", ErrUnsupported)
	}
	return err
}
