package rootfs

import (
	"context"
	"fmt"
	"sync"
)

// A layer takes memory with the number of its files, and by zstd's window, and a
// hostile one as much as it is given. So all of them together draw on a pool of a
// quarter of Limits.Memory, which is plenty for those that are not hostile. One at
// a time, a layer that finds the pool empty may go on to the other three quarters;
// the others wait for it, and as they hold nothing that it needs, that ends.
type memory struct {
	limit int64 // of one layer
	wide  chan struct{}

	mu   sync.Mutex
	pool int64
}

func newMemory(total int64) *memory {
	return &memory{limit: total - total/4, wide: make(chan struct{}, 1), pool: total / 4}
}

// draft is what one layer has of the memory. It is for one goroutine.
type draft struct {
	ctx    context.Context //nolint:containedctx // as long as the layer's conversion
	of     *memory
	taken  int64
	pooled int64
	wide   bool
}

func (m *memory) draft(ctx context.Context) *draft { return &draft{ctx: ctx, of: m} }

// Memory takes memory, or gives back where n is negative.
func (d *draft) Memory(n int64) error {
	if n > 0 && d.taken+n > d.of.limit {
		return fmt.Errorf("%w of %d bytes of memory for one layer's names, directories and zstd window (three quarters of images.max_memory)", ErrTooLarge, d.of.limit)
	}
	d.taken += n
	if d.wide || d.pooled >= d.taken || d.draw(d.taken-d.pooled) {
		return nil
	}
	if err := enter(d.ctx, d.of.wide); err != nil {
		d.taken -= n
		return err
	}
	d.wide = true
	return nil
}

func (d *draft) draw(n int64) bool {
	d.of.mu.Lock()
	defer d.of.mu.Unlock()
	if n > d.of.pool {
		return false
	}
	d.of.pool -= n
	d.pooled += n
	return true
}

// close gives back everything.
func (d *draft) close() {
	d.of.mu.Lock()
	d.of.pool += d.pooled
	d.of.mu.Unlock()
	if d.wide {
		leave(d.of.wide)
	}
	d.pooled, d.taken, d.wide = 0, 0, false
}
