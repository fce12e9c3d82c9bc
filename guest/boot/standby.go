package boot

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// standBy waits for the server that a guest is for, where that was not known yet when
// the guest was booted. Nothing in the share may have been looked for by then: what
// the kernel has not found there it would not look for again.
func (g *guestState) standBy() error {
	if !g.cmdline.standby {
		return nil
	}
	if err := g.goAhead(); err != nil {
		return err
	}
	<-g.assigned.done
	g.mark(agent.StepAssigned)
	return nil
}

// goAhead does what is the same for most servers: the loopback is up, and a stage waits
// for what it is to become.
func (g *guestState) goAhead() error {
	if err := errors.Join(limitOpenFiles(), setNetwork(nil)); err != nil {
		return err
	}
	cgroup, err := makeCgroup(entryCgroup)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	g.ahead, err = g.forkStage(cgroup, &share.Spec{})
	return err
}

// takeStage returns the stage that was started ahead, if it is the one that is needed,
// or else a new one.
func (g *guestState) takeStage(cgroup *os.File) (*stage, error) {
	st := g.ahead
	g.ahead = nil
	if st != nil && !g.spec.Stdin && !g.spec.TTY {
		return st, nil
	}
	if st != nil {
		st.config.Close() // without a configuration it ends
		st.report.Close()
		st.discard()
	}
	return g.forkStage(cgroup, g.spec)
}

// Assign implements agent.Control. Since a host's first words, which the clock was set
// by, the host may have slept.
func (c *control) Assign(now time.Time) {
	g := (*guestState)(c)
	if !g.cmdline.standby {
		return
	}
	g.assigned.Do(func() {
		if time.Until(now).Abs() > assignTolerance {
			ts := unix.NsecToTimespec(now.UnixNano())
			if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
				logf("set the clock: %v", err)
			}
		}
		close(g.assigned.done)
	})
}

// assignTolerance is how far the clock of a guest that stood by may be off until its
// host measures it: by more than the message takes.
const assignTolerance = 50 * time.Millisecond
