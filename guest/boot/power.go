package boot

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// powerOff ends the guest: processes first, then the share, so that nothing
// written is lost, then the machine. It does not return.
func powerOff() {
	leave()
	// Without ACPI the kernel would halt, and QEMU go on.
	if _, err := os.Stat("/sys/firmware/acpi"); err == nil {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	// A machine without a way to power off can at least reset, which ends
	// QEMU under -no-reboot; and the end of PID 1 is a panic, with panic=-1
	// a reset too.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1)
}

// reboot ends the guest and has the machine start anew. It does not return.
func reboot() {
	leave()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	os.Exit(1)
}

func leave() {
	_ = unix.Kill(-1, unix.SIGKILL)
	unmountRoot()
	unix.Sync()
}

// unmountSoon waits a moment for killed processes to leave what is mounted at
// dir.
func unmountSoon(dir string) {
	for range 100 {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if err != unix.EBUSY {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	unix.Sync()
	_ = unix.Unmount(dir, unix.MNT_DETACH)
}
