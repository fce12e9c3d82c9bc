package boot

import (
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// reaper waits for every child, those that init started and those that it
// inherited. Nothing else in init may wait, so os/exec is not used here.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus
	stopped map[int]bool  // children that are traced and have stopped
	changed *sync.Cond    // of stopped
	born    chan struct{} // wakes run when there is a child again
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan unix.WaitStatus{}, stopped: map[int]bool{}, born: make(chan struct{}, 1)}
	r.changed = sync.NewCond(&r.mu)
	return r
}

// start runs fork, which returns a child's pid, and returns the channel on
// which the child's end will be told. The lock is held meanwhile, so that a
// child that ends at once is not dispatched before it is known.
func (r *reaper) start(fork func() (int, error)) (int, <-chan unix.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	c := make(chan unix.WaitStatus, 1)
	r.waiting[pid] = c
	select {
	case r.born <- struct{}{}:
	default:
	}
	return pid, c, nil
}

// idleWait bounds the time without a look for children that came without
// start: orphans of the entrypoint's namespace go to its own PID 1, so none
// are expected.
const idleWait = 10 * time.Second

func (r *reaper) run() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case pid > 0:
			r.dispatch(pid, status)
		case errors.Is(err, unix.ECHILD):
			select {
			case <-r.born:
			case <-time.After(idleWait):
			}
		}
	}
}

func (r *reaper) dispatch(pid int, status unix.WaitStatus) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changed.Broadcast()
	if status.Stopped() {
		r.stopped[pid] = true
		return
	}
	if c, ok := r.waiting[pid]; ok {
		delete(r.waiting, pid)
		c <- status
	}
}

// awaitStop waits until a child that is traced has stopped, or ended.
func (r *reaper) awaitStop(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.stopped[pid] && r.waiting[pid] != nil {
		r.changed.Wait()
	}
	delete(r.stopped, pid)
}
