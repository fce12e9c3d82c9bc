package share

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrUnknownSignal is matched by the errors of ParseSignal.
var ErrUnknownSignal = errors.New("unknown signal")

// The kernel's real-time signals as the C library presents them: it keeps the
// first two for itself, and images name signals the way their libraries do.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// ParseSignal reads a signal as an image's config and docker's flags write it:
// SIGTERM, term, 15, RTMIN+3. Empty means SIGTERM.
func ParseSignal(s string) (syscall.Signal, error) {
	if s == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > sigRTMax {
			return 0, fmt.Errorf("%w: %s", ErrUnknownSignal, s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	for prefix, base := range map[string]int{"RTMIN": sigRTMin, "RTMAX": sigRTMax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(rest)
		if rest == "" {
			n, err = 0, nil
		}
		if sig := base + n; err == nil && sig >= sigRTMin && sig <= sigRTMax {
			return syscall.Signal(sig), nil
		}
	}
	return 0, fmt.Errorf("%w: %s", ErrUnknownSignal, s)
}
