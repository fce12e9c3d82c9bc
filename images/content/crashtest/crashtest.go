// Package crashtest gives tests file systems whose power fails.
package crashtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Disk is an ext4 on a file. Of what is written to it, no more is durable than the
// file system promises: it has no help for programs that do not sync.
type Disk struct {
	Dir   string // where it is mounted
	image string
}

// Private begins a TestMain: the tests run in a mount namespace of their own. Whatever
// else unshares its mounts on this host would hold the disks', and with them the disks.
func Private() {
	const inside = "CRASHTEST_PRIVATE"
	if os.Geteuid() != 0 || os.Getenv(inside) != "" {
		return
	}
	unshare, err := exec.LookPath("unshare")
	if err == nil {
		err = unix.Exec(unshare, append([]string{unshare, "--mount"}, os.Args...), append(os.Environ(), inside+"=1"))
	}
	fmt.Fprintln(os.Stderr, "a mount namespace for tests:", err)
	os.Exit(1)
}

// New makes a disk and mounts it until the test ends.
func New(t testing.TB) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems: it needs root")
	}
	d := &Disk{Dir: filepath.Join(t.TempDir(), "disk"), image: filepath.Join(t.TempDir(), "disk.img")}
	run(t, "mkfs.ext4", "-q", d.image, "1G")
	if err := os.Mkdir(d.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d.mount(t)
	t.Cleanup(func() { d.unmount(t) })
	return d
}

func (d *Disk) mount(t testing.TB) {
	t.Helper()
	run(t, "mount", "-o", "loop,noauto_da_alloc,commit=1", d.image, d.Dir)
}

// unmount waits for those who have been killed, whose namespaces may have the disk
// too.
func (d *Disk) unmount(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Unmount(d.Dir, 0)
		if errors.Is(err, unix.EINVAL) && !d.attached(t) { // not mounted, nowhere
			return
		}
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINVAL) || time.Now().After(deadline) {
			t.Fatalf("unmount %s: %v", d.Dir, err)
		}
	}
}

// attached reports whether a loop device has the disk's file.
func (d *Disk) attached(t testing.TB) bool {
	t.Helper()
	out, err := exec.Command("losetup", "--associated", d.image).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	return len(out) > 0
}

// Ioctl and flag of ext4, which x/sys does not know.
const (
	shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// Fail takes the disk's power, at the same time as that of processes that use it, which
// must be running and are killed: nothing is written any more, and what was not is lost.
func (d *Disk) Fail(t testing.TB, users ...*exec.Cmd) {
	t.Helper()
	for _, c := range users {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, c.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil || info.Signo != 0 {
			t.Fatalf("%s has ended by itself (%v)", c, err)
		}
		// It takes a moment to hear of it. It may find the disk gone, and end of that.
		if err := c.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = c.Process.Kill()
			_ = c.Wait()
		}()
	}
	dir, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), shutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		t.Fatalf("shut down %s: %v", d.Dir, errno)
	}
}

// End kills a process that must be running.
func End(t testing.TB, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the process ended by itself: %v", err)
	}
}

// Recover mounts a disk that has failed, and that nobody has open.
func (d *Disk) Recover(t testing.TB) {
	t.Helper()
	d.unmount(t)
	d.mount(t)
}

// Elsewhere is a command of this program, with more variables in its environment, that
// runs in another boot of the kernel, as far as /proc tells, and in a mount namespace of
// its own.
func Elsewhere(t testing.TB, env ...string) *exec.Cmd {
	t.Helper()
	boot := filepath.Join(t.TempDir(), "boot_id")
	if err := os.WriteFile(boot, []byte("00000000-0000-0000-0000-000000000000\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"`, boot, os.Args[0])
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	return c
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
