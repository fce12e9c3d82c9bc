// Package crashtest gives tests file systems whose power fails.
package crashtest

import (
	"errors"
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

// unmount waits for those who have been killed.
func (d *Disk) unmount(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Unmount(d.Dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			t.Fatalf("unmount %s: %v", d.Dir, err)
		}
	}
}

// Ioctl and flag of ext4, which x/sys does not know.
const (
	shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
	noLogFlush = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
)

// Fail takes the power of the disk and of processes that use it: from this moment on
// nothing is written, and what was not is lost. The processes wait to be killed.
func (d *Disk) Fail(t testing.TB, users ...*os.Process) {
	t.Helper()
	for _, p := range users {
		if err := p.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
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

// Recover mounts a disk that has failed, and that nobody has open.
func (d *Disk) Recover(t testing.TB) {
	t.Helper()
	d.unmount(t)
	d.mount(t)
}

// Elsewhere is a command of this program as it was called, with variables added to its environment, that runs
// in another boot of the kernel, as far as /proc tells, and in a mount namespace of
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
