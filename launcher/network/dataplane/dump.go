package dataplane

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

// dump lists what the kernel has. Where others change it meanwhile, as engines on the
// same host do, the kernel says that the list may lack entries (NLM_F_DUMP_INTR), and
// it is asked again.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	const attempts = 100
	for i := range attempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
	}
	return nil, err
}
