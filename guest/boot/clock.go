package boot

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clock is the guest's, which begins with the whole seconds of an emulated
// clock chip and is set by the host.
type clock struct {
	hosted func() bool // a host has been seen
	known  chan struct{}
	once   *sync.Once
}

func newClock() clock { return clock{known: make(chan struct{}), once: &sync.Once{}} }

// clockWait bounds the wait for a host, seen already, to tell the time: it says
// so with its first words.
const clockWait = 200 * time.Millisecond

// awaitClock lets the entrypoint start with the right time where there is a
// host to tell it.
func (g *guestState) awaitClock() {
	if g.clock.hosted == nil || !g.clock.hosted() {
		return
	}
	select {
	case <-g.clock.known:
	case <-time.After(clockWait):
	}
}

// SetClock implements agent.Control. What a host says first is good enough to
// begin with: later it measures, and asks for steps.
func (c *control) SetClock(t time.Time) {
	c.clock.once.Do(func() {
		ts := unix.NsecToTimespec(t.UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
			logf("set the clock: %v", err)
		}
		close(c.clock.known)
	})
}

// Clock implements agent.Control.
func (c *control) Clock(step time.Duration) (time.Time, error) {
	if step != 0 {
		nsec := int64(step % time.Second)
		sec := int64(step / time.Second)
		if nsec < 0 { // the kernel wants a positive fraction
			sec, nsec = sec-1, nsec+int64(time.Second)
		}
		t := unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Sec: sec, Usec: nsec}}
		if _, err := unix.Adjtimex(&t); err != nil {
			return time.Time{}, fmt.Errorf("move the clock by %s: %w", step, err)
		}
	}
	return time.Now(), nil
}
