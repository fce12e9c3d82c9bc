package agent

import (
	"context"
	"fmt"
	"sync"
)

// DefaultWindow is how much unacknowledged output of each stream a guest keeps
// before the process that writes it has to wait.
const DefaultWindow = 256 << 10

// OutputLog keeps a process's output, by stream and offset, until a host has
// acknowledged it.
type OutputLog struct {
	window int

	mu      sync.Mutex
	streams [2]outputStream
	changed chan struct{} // closed and replaced at each change
}

type outputStream struct {
	base  int64 // offset of buf[0]; all before it was acknowledged
	buf   []byte
	ended bool
}

// NewOutputLog makes an empty log. A window of zero means DefaultWindow.
func NewOutputLog(window int) *OutputLog {
	if window <= 0 {
		window = DefaultWindow
	}
	return &OutputLog{window: window, changed: make(chan struct{})}
}

func (l *OutputLog) stream(s Stream) *outputStream { return &l.streams[s-Stdout] }

// notify wakes whoever waits; the caller holds the lock.
func (l *OutputLog) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Append adds output, waiting while the window is full.
func (l *OutputLog) Append(ctx context.Context, s Stream, data []byte) error {
	for len(data) > 0 {
		l.mu.Lock()
		st := l.stream(s)
		if n := min(len(data), l.window-len(st.buf)); n > 0 {
			st.buf = append(st.buf, data[:n]...)
			data = data[n:]
			l.notify()
		}
		changed := l.changed
		l.mu.Unlock()
		if len(data) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// End marks the end of a stream.
func (l *OutputLog) End(s Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream(s).ended = true
	l.notify()
}

// ack forgets the output before offset.
func (l *OutputLog) ack(s Stream, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.stream(s)
	n := offset - st.base
	if n > int64(len(st.buf)) {
		return fmt.Errorf("%w: acknowledged %s to %d of %d", ErrInvalid, s, offset, st.base+int64(len(st.buf)))
	}
	if n > 0 {
		st.base = offset
		st.buf = st.buf[n:]
		l.notify()
	}
	return nil
}

// Acknowledged reports whether both streams have ended and are acknowledged
// to their ends.
func (l *OutputLog) Acknowledged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acknowledged()
}

func (l *OutputLog) acknowledged() bool {
	for i := range l.streams {
		if !l.streams[i].ended || len(l.streams[i].buf) > 0 {
			return false
		}
	}
	return true
}

// piece is what read found at an offset.
type piece struct {
	data  []byte
	ended bool // the stream ends after data
}

// read copies up to limit bytes of each stream from the given offsets. The
// channel is closed at the next change.
func (l *OutputLog) read(offsets [2]int64, limit int) (pieces [2]piece, done bool, changed <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.streams {
		st := &l.streams[i]
		from := offsets[i] - st.base
		switch {
		case from < 0:
			return pieces, false, nil, fmt.Errorf("%w: %s at %d, kept from %d", ErrOutputGone, Stdout+Stream(i), offsets[i], st.base)
		case from > int64(len(st.buf)):
			return pieces, false, nil, fmt.Errorf("%w: %s at %d, written to %d", ErrInvalid, Stdout+Stream(i), offsets[i], st.base+int64(len(st.buf)))
		}
		rest := st.buf[from:]
		n := min(len(rest), limit)
		pieces[i] = piece{data: append([]byte(nil), rest[:n]...), ended: st.ended && n == len(rest)}
	}
	return pieces, l.acknowledged(), l.changed, nil
}
