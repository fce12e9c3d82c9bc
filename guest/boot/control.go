package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
)

// control makes the guest's state answer the agent's calls.
type control guestState

// Hello implements agent.Control.
func (c *control) Hello() agent.Hello {
	g := (*guestState)(c)
	hello := agent.Hello{Version: agent.Version, Kernel: kernelRelease(), Standby: g.cmdline.standby}
	select {
	case <-g.assigned.done:
		hello.Standby = false
	default:
	}
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		hello.BootID = strings.TrimSpace(string(id))
	}
	hello.Hostname, _ = os.Hostname()
	g.mu.Lock()
	defer g.mu.Unlock()
	hello.InstanceID = g.instanceID
	hello.Timeline = append(agent.Timeline(nil), g.timeline...)
	return hello
}

func kernelRelease() string {
	var uts unix.Utsname
	if unix.Uname(&uts) != nil {
		return ""
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// running returns the entrypoint, or why there is none.
func (c *control) running() (*entrypoint, error) {
	g := (*guestState)(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.entry == nil || g.ended {
		return nil, agent.ErrNotRunning
	}
	select {
	case <-g.entry.ended:
		return nil, fmt.Errorf("%w: it has ended and may be restarted", agent.ErrNotRunning)
	default:
	}
	return g.entry, nil
}

// Signal implements agent.Control. As with docker, whoever kills the entrypoint,
// or sends it its stop signal, does not want it restarted.
func (c *control) Signal(sig int) error {
	e, err := c.running()
	if err != nil {
		return err
	}
	if s := syscall.Signal(sig); s == unix.SIGKILL || s == e.signal {
		(*guestState)(c).forbidRestart()
	}
	return kill(e.pid, syscall.Signal(sig))
}

// kill signals a process, which may have ended by now.
func kill(pid int, sig syscall.Signal) error {
	err := unix.Kill(pid, sig)
	if errors.Is(err, unix.ESRCH) {
		return agent.ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// Stop implements agent.Control.
func (c *control) Stop(grace time.Duration) (signal int, err error) {
	g := (*guestState)(c)
	g.forbidRestart()
	g.mu.Lock()
	g.stop = &grace
	ended := g.ended
	g.mu.Unlock()
	e, err := c.running()
	if err == nil {
		signal, err = int(e.signal), g.stopEntrypoint(e, grace)
	}
	if errors.Is(err, agent.ErrNotRunning) && !ended {
		return 0, nil // the one that may be on its way will be stopped
	}
	return signal, err
}

func (g *guestState) stopEntrypoint(e *entrypoint, grace time.Duration) error {
	if grace < 0 {
		grace = e.grace
	}
	// A frozen process would not notice.
	if err := setFrozen(false); err != nil {
		return err
	}
	if err := kill(e.pid, e.signal); err != nil {
		return err
	}
	time.AfterFunc(grace, func() {
		// Looked at again, so that a pid in use by another is not killed.
		select {
		case <-e.ended:
		default:
			e.timedOut.Store(true)
			_ = unix.Kill(e.pid, unix.SIGKILL)
		}
	})
	return nil
}

// Shutdown implements agent.Control.
func (c *control) Shutdown() (powerOff func(), err error) {
	g := (*guestState)(c)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		return nil, agent.ErrRunning
	}
	return g.requestPowerOff, nil
}
