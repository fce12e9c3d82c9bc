package content

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// Locks are byte ranges of one file, locked by open file description: they
// exclude other processes and other holders in this one, leave nothing to
// clean up and go with the process that holds them.
type Locks struct{ Path string }

// Reserved is the first byte that is no digest's: users number their own from
// there.
const Reserved = 1 << 61

// Byte is a digest's place in the file.
func Byte(h v1.Hash) int64 {
	b, err := hex.DecodeString(h.Hex)
	if err != nil || len(b) < 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b) >> 3)
}

// Try takes a byte if nobody has it, and returns what gives it back.
func (l Locks) Try(at int64) (release func(), ok bool, err error) {
	return l.try(at, unix.F_WRLCK)
}

func (l Locks) try(at int64, kind int16) (release func(), ok bool, err error) {
	f, err := os.OpenFile(l.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	r := unix.Flock_t{Type: kind, Start: at, Len: 1}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &r)
	if err == nil {
		return sync.OnceFunc(func() { f.Close() }), true, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", l.Path, err)
}

// Acquire waits for a byte and returns what gives it back.
func (l Locks) Acquire(ctx context.Context, at int64) (release func(), err error) {
	return l.wait(ctx, at, unix.F_WRLCK)
}

// Share is Acquire for holders that do not exclude one another, only those of
// Acquire.
func (l Locks) Share(ctx context.Context, at int64) (release func(), err error) {
	return l.wait(ctx, at, unix.F_RDLCK)
}

func (l Locks) wait(ctx context.Context, at int64, kind int16) (release func(), err error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		release, ok, err := l.try(at, kind)
		if ok || err != nil {
			return release, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
