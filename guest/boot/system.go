package boot

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// An image's own init gets what https://systemd.io/CONTAINER_INTERFACE asks for,
// which other inits take too. The kernel's PID 1 stays slipway-init: it serves the
// agent, and the root can be told from what is around it.

// systemMounts are those of an init beside a container's.
var systemMounts = []mount{
	{"tmpfs", "/run", "tmpfs", noSuidDev, "mode=755"},
	{"tmpfs", "/run/lock", "tmpfs", noAll, "mode=1777,size=5m"},
	{"tmpfs", "/tmp", "tmpfs", noSuidDev, "mode=1777"},
}

// systemEnv are the variables by which an init knows that it runs in a container,
// and the machine's ID, which becomes /etc/machine-id where that is empty.
func systemEnv(instanceID string) []string {
	env := []string{"container=slipway"}
	if instanceID != "" {
		env = append(env, "container_uuid="+instanceID)
	}
	return env
}

// sigRTMin is the first real-time signal, as the C library counts them.
const sigRTMin = 34

// systemStopSignal is what asks an init to power off: systemd's signal, unless it
// is another that has its own.
func systemStopSignal(pid int) syscall.Signal {
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err == nil && strings.HasPrefix(filepath.Base(exe), "busybox") {
		return unix.SIGUSR2
	}
	return syscall.Signal(sigRTMin + 3)
}

// exitOf is how the entrypoint ended. An init that powers off or reboots by
// reboot(2) is ended by the kernel with a signal that says which (see
// pid_namespaces(7)); nothing else can send its PID 1 one that it does not handle.
func (g *guestState) exitOf(status unix.WaitStatus) agent.Exit {
	exit := exitOf(status)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.spec.InitMode == share.InitSystem && status.Signaled() {
		switch status.Signal() {
		case unix.SIGINT:
			exit = agent.Exit{}
		case unix.SIGHUP:
			exit = agent.Exit{Reboot: !g.final}
		}
	}
	exit.Reboot = exit.Reboot || g.reboot
	return exit
}

// hangUpWait separates looks at a terminal that nobody has open.
const hangUpWait = 50 * time.Millisecond

// hungUp reports whether a terminal that has nobody at its other end may have again:
// an init closes its console between two uses, and a getty hangs it up. It waits for
// that a little.
func (g *guestState) hungUp(err error) bool {
	if g.spec.InitMode != share.InitSystem || !errors.Is(err, unix.EIO) {
		return false
	}
	select {
	case <-g.entry.ended:
		return false
	case <-time.After(hangUpWait):
		return true
	}
}

// showOnConsole writes what an init writes to the guest's console as well, where
// whoever looks after a machine expects it.
func (g *guestState) showOnConsole(text []byte) {
	if g.console != nil {
		// The console adds what the terminal has added already.
		_, _ = g.console.Write(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")))
	}
}
