//go:build !amd64

package host

// rdtsc is 0 where the architecture has no time-stamp counter.
func rdtsc() uint64 { return 0 }
