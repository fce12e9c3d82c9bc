package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const virtiofsd = "virtiofsd"

// shareGrace is how long a domain may outlive its virtiofsd, which ends with it.
const shareGrace = 5 * time.Second

var errShareLost = errors.New("virtiofsd, which served the guest's files, has ended: look for its reason in the host's log, such as memory that ran out, and start the server again")

// watchShare returns an error once the guest's virtiofsd has ended without it; nil when
// ctx ends, or if it has none. Without it the guest waits for its files forever, which
// neither QEMU nor libvirt tells.
func (r *run) watchShare(ctx context.Context) error {
	var daemons []int
	err := r.m.processes(func(id, program string, pid int) {
		if id == r.i.id && program == virtiofsd {
			daemons = append(daemons, pid)
		}
	})
	if err != nil || len(daemons) == 0 {
		return err
	}
	// Of its two processes one waits for the other.
	if err := ended(ctx, daemons[0]); err != nil || ctx.Err() != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(shareGrace):
		return errShareLost
	}
}

// ended waits until a process has ended, or ctx has. It takes no thread to wait.
func ended(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer func() { _ = f.Close() }()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("wait for process %d: %w", pid, err)
	}
	return nil
}
