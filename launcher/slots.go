package launcher

import (
	"context"
	"runtime"
	"sync"
)

// slots bound how much of one kind of work goes on at once.
type slots chan struct{}

func newSlots(n int) slots {
	if n <= 0 {
		n = max(4, 2*runtime.NumCPU())
	}
	return make(slots, n)
}

// take waits for a slot, calling waiting first if there is none, and returns what
// gives it back; any number of calls do that once.
func (s slots) take(ctx context.Context, waiting func()) (release func(), err error) {
	release = sync.OnceFunc(func() { <-s })
	select {
	case s <- struct{}{}:
		return release, nil
	default:
		waiting()
	}
	select {
	case s <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
