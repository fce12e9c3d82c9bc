package boot

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
)

// standBy waits for the server that a guest is for, where that was not known yet when
// the guest was booted. Nothing in the share may have been looked for by then: what
// the kernel has not found there it would not look for again.
func (g *guestState) standBy() error {
	if g.cmdline.standby {
		<-g.assigned.done
		g.mark(agent.StepAssigned)
	}
	return nil
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
