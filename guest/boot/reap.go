package boot

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// reaper waits for every child, those that init started and those that it
// inherited. Nothing else in init may wait, so os/exec is not used here.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan unix.WaitStatus
}

func newReaper() *reaper { return &reaper{waiting: map[int]chan unix.WaitStatus{}} }

// start runs fork, which returns a child's pid, and returns the channel on
// which the child's end will be told. The lock is held meanwhile, so that a
// child that ends at once is not reaped before it is known.
func (r *reaper) start(fork func() (int, error)) (int, <-chan unix.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	c := make(chan unix.WaitStatus, 1)
	r.waiting[pid] = c
	return pid, c, nil
}

func (r *reaper) run() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGCHLD)
	for {
		r.reapAll()
		<-signals
	}
}

func (r *reaper) reapAll() {
	for {
		r.mu.Lock()
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if pid > 0 {
			if c, ok := r.waiting[pid]; ok {
				delete(r.waiting, pid)
				c <- status
			}
		}
		r.mu.Unlock()
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if pid <= 0 {
			return
		}
	}
}
