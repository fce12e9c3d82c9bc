package agent

import (
	"context"
	"fmt"
	"time"
)

// Clock compares the guest's clock with the host's: the guest's is ahead by
// offset, give or take slack, which half the time of asking is.
func (c *Client) Clock(ctx context.Context) (offset, slack time.Duration, err error) {
	begin := time.Now()
	var reply clockReply
	if err := c.call(ctx, methodClock, clockParams{}, &reply); err != nil {
		return 0, 0, fmt.Errorf("read the guest's clock: %w", err)
	}
	slack = time.Since(begin) / 2
	return time.Unix(0, reply.Time).Sub(begin.Add(slack)), slack, nil
}

// clockSamples is how often SyncClock asks to find a good answer.
const clockSamples = 3

// SyncClock sets the guest's clock where it is off by more than tolerance, and
// returns by how much it was; 0 where it was not set. The error matches
// ErrUnsupported with a guest that has no such call.
func (c *Client) SyncClock(ctx context.Context, tolerance time.Duration) (time.Duration, error) {
	var offset, slack time.Duration
	for i := range clockSamples {
		o, s, err := c.Clock(ctx)
		if err != nil {
			return 0, err
		}
		if i == 0 || s < slack {
			offset, slack = o, s
		}
		if offset.Abs()+slack <= tolerance {
			return 0, nil
		}
	}
	// What a slow answer makes of the clock is not worth setting it by.
	if offset.Abs() <= tolerance+slack {
		return 0, nil
	}
	if err := c.call(ctx, methodClock, clockParams{Step: -offset}, nil); err != nil {
		return 0, fmt.Errorf("set the guest's clock by %s: %w", -offset, err)
	}
	return offset, nil
}
