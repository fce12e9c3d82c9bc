package boot

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// confine takes from the calling thread, and from what it will execute, the
// capabilities that o does not grant. What it executes as root gets those that
// are left; anybody else gets none until it executes a file that carries some.
func confine(o *share.Options) error {
	granted, err := o.Capabilities()
	if err != nil {
		return err
	}
	for n := range 64 {
		if granted.Has(n) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(n), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel has no more
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", n, err)
		}
	}
	if !o.NoNewPrivileges {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no-new-privileges: %w", err)
	}
	return nil
}

// limit sets a process's ulimits and its OOM score; proc is its directory in
// /proc.
func limit(pid int, proc string, o *share.Options) error {
	if o.OOMScoreAdj != 0 {
		err := os.WriteFile(proc+"/oom_score_adj", strconv.AppendInt(nil, int64(o.OOMScoreAdj), 10), 0)
		if err != nil {
			return fmt.Errorf("adjust the OOM score: %w", err)
		}
	}
	for _, u := range o.Ulimits {
		resource, _ := u.Resource()
		// -1 is the kernel's word for no limit as well.
		bound := unix.Rlimit{Cur: uint64(u.Soft), Max: uint64(u.Hard)}
		if err := unix.Prlimit(pid, resource, &bound, nil); err != nil {
			return fmt.Errorf("set ulimit %s: %w", u, err)
		}
	}
	return nil
}

// limited reports whether limit has anything to do.
func limited(o *share.Options) bool { return o.OOMScoreAdj != 0 || len(o.Ulimits) > 0 }
