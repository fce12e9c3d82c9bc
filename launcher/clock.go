package launcher

import (
	"context"
	"errors"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
)

// How far a guest's clock may be off: a booted guest's, which it began with the
// first words of its host, and later.
const (
	bootTolerance  = 5 * time.Millisecond
	clockTolerance = 50 * time.Millisecond
)

// clockInterval separates comparisons of a guest's clock. They find out that the
// guest, or the host, did not run for a while; where the hypervisor tells that, the
// clock is compared at once.
const clockInterval = 10 * time.Second

// keepClock sets the guest's clock by the host's, until the session ends.
func (r *run) keepClock(ctx context.Context, c *agent.Client) {
	for tolerance := bootTolerance; ; tolerance = clockTolerance {
		moved, err := c.SyncClock(ctx, tolerance)
		switch {
		case ctx.Err() != nil || errors.Is(err, agent.ErrUnsupported) || errors.Is(err, agent.ErrDisconnected):
			return
		case err != nil:
			r.m.log.Warn("guest's clock not compared", "server", r.i.id, "err", err)
		case moved != 0:
			r.m.log.Debug("guest's clock set", "server", r.i.id, "ahead", moved)
		}
		select {
		case <-time.After(clockInterval):
		case <-r.held:
		case <-ctx.Done():
			return
		}
	}
}
