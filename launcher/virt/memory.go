package virt

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// sharedMemory makes a file system for the memory of guests that share it with
// virtiofsd. Unlike a memfd's, its pages may be huge without the host's settings being
// changed: a guest then costs the host a fault for each 2 MiB that it touches, and not for
// each 4 KiB. It is mounted nowhere, so that it ends with its last user.
func sharedMemory() (*os.File, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open tmpfs: %w", err)
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{
		{"huge", "advise"},                // and QEMU does
		{"size", "0"}, {"nr_inodes", "0"}, // unlimited, as memfds are
		{"mode", "0700"},
	} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return nil, fmt.Errorf("tmpfs %s=%s: %w", option[0], option[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("make a tmpfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, fmt.Errorf("mount a tmpfs: %w", err)
	}
	return os.NewFile(uintptr(fd), "shared memory"), nil
}

// memoryDir is the directory of the shared memory for QEMU; where it is empty, a memfd
// does.
func (h *Hypervisor) memoryDir() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.memory == nil {
		return ""
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.memory.Fd())
}

func (h *Hypervisor) giveUpMemory() {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.memory.Close()
	h.memory = nil
}
