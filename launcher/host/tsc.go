package host

import (
	"time"

	"golang.org/x/sys/unix"
)

// tscWindow is how long the counter is compared with the clock: long enough for
// an error of some parts in a million, short enough not to be felt.
const tscWindow = 20 * time.Millisecond

// measureTSC compares the time-stamp counter with the clock that nothing slews.
func measureTSC() int {
	if rdtsc() == 0 {
		return 0
	}
	c0, t0 := sample()
	time.Sleep(tscWindow)
	c1, t1 := sample()
	return int(float64(c1-c0) / float64(t1-t0) * 1e6)
}

// sample reads counter and clock, in nanoseconds, as closely together as it can.
func sample() (counter uint64, clock int64) {
	best := uint64(1 << 62)
	for range 8 {
		before := rdtsc()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
			return 0, 1
		}
		after := rdtsc()
		if after-before < best {
			best, counter, clock = after-before, before+(after-before)/2, ts.Nano()
		}
	}
	return counter, clock
}
