package output

import (
	"bytes"
	"context"
	"errors"
	"time"
)

// ErrLost says that what was to be read next is gone: it was written, and files
// of the log dropped, faster than it was read.
var ErrLost = errors.New("output was written faster than it was read, and some is gone")

// Query says which output to read.
type Query struct {
	Stdout, Stderr bool
	// Run is the first run to read; 0 reads all.
	Run int
	// Since leaves out what arrived before, Until what arrived later; zero times
	// leave out nothing.
	Since, Until time.Time
	// Tail, where not negative, begins that many lines before the present end. A
	// line counts where it ends; the streams count together.
	Tail int
	// Follow goes on with what arrives, until the run ends or Until has come.
	Follow bool
	// Hold keeps what has not been read from being dropped: who writes waits
	// instead. It is for readers that stand for the entrypoint's own output.
	Hold bool
}

// All reads both streams of all runs.
func All() Query { return Query{Stdout: true, Stderr: true, Tail: -1} }

func (q Query) wants(r Record) bool {
	return (r.Stream == Stdout && q.Stdout || r.Stream == Stderr && q.Stderr) &&
		r.Run >= q.Run && !r.Time.Before(q.Since)
}

// cursor is where a reader is in the log.
type cursor struct {
	log  *Log
	seg  *segment
	at   int64
	hold bool
}

var errClosed = errors.New("the log is closed")

// cursor puts a reader before the log's first record, or where another one is.
func (l *Log) cursor(hold bool, from *cursor) (*cursor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last().dropped {
		return nil, errClosed
	}
	c := &cursor{log: l, seg: l.segments[0], hold: hold}
	if from != nil {
		c.seg, c.at = from.seg, from.at
	}
	c.seg.readers++
	l.readers[c] = struct{}{}
	return c, nil
}

func (c *cursor) close() {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	c.leave()
	delete(l.readers, c)
	_ = l.release() // nothing can be done about a file that was only read
	l.readOn()
}

// leave takes the cursor out of its file.
func (c *cursor) leave() {
	c.seg.readers--
	if c.seg.dropped && c.seg.readers == 0 {
		_ = c.seg.file.Close()
	}
}

// readOn tells the writer that a reader has moved.
func (l *Log) readOn() {
	select {
	case l.moved <- struct{}{}:
	default:
	}
}

// held reports whether a reader that holds the log has not read all of a file.
func (l *Log) held(s *segment) bool {
	for c := range l.readers {
		if c.hold && (c.seg.number < s.number || c.seg == s && c.at < s.size) {
			return true
		}
	}
	return false
}

// next says how far the present file can be read, and moves on to the next one
// where this one has been. At the end of all, end is where the cursor is, done says
// that no more can come, and changed when to ask again.
func (c *cursor) next() (end int64, done bool, changed <-chan struct{}, err error) {
	l := c.log
	l.mu.Lock()
	defer l.mu.Unlock()
	for c.at >= c.seg.size {
		l.readOn()
		if c.seg == l.last() {
			return c.at, !l.open, l.changed, nil
		}
		i := c.seg.number + 1 - l.segments[0].number
		if i < 0 {
			return 0, true, nil, ErrLost
		}
		following := l.segments[i]
		c.leave()
		c.seg, c.at = following, 0
		c.seg.readers++
	}
	return c.seg.size, false, l.changed, nil
}

// move notes how far the reader has come.
func (c *cursor) move(at int64) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.at = at
}

// mark is a place in a log.
type mark struct {
	number int // of a file
	at     int64
}

// end is where the log ends now.
func (l *Log) end() *mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &mark{l.last().number, l.last().size}
}

// records calls see for each record up to a place, nil being the present end of
// all, however fast that moves on.
func (c *cursor) records(to *mark, see func(Record) error) (done bool, changed <-chan struct{}, err error) {
	for {
		end, done, changed, err := c.next()
		if to != nil && c.seg.number >= to.number {
			end = min(end, to.at)
		}
		if err != nil || end <= c.at {
			return done, changed, err
		}
		for c.at < end {
			r, next, err := readRecord(c.seg.file, c.at)
			if err != nil {
				return false, nil, err
			}
			if err := see(r); err != nil {
				return false, nil, err
			}
			c.move(next)
		}
	}
}

// errUntil ends a reader that follows until some time.
var errUntil = errors.New("the time has come")

// Read calls emit for the output that q asks for, in order, until the end, the
// first error of emit, or the end of ctx, which it returns. A log that is closed
// and deleted meanwhile is read to its end.
func (l *Log) Read(ctx context.Context, q Query, emit func(Record) error) error {
	if q.Follow && !q.Until.IsZero() {
		limited, cancel := context.WithDeadlineCause(ctx, q.Until, errUntil)
		defer cancel()
		ctx = limited
	}
	c, err := l.cursor(q.Hold || q.Tail >= 0, nil)
	if errors.Is(err, errClosed) {
		return nil // the server is being deleted: nothing more will come
	}
	if err != nil {
		return err
	}
	defer c.close()
	skip := 0
	if q.Tail >= 0 {
		if skip, err = c.linesToSkip(q); err != nil {
			return err
		}
		l.mu.Lock()
		c.hold = q.Hold
		l.mu.Unlock()
	}
	var to *mark
	if !q.Follow {
		to = l.end()
	}
	for {
		done, changed, err := c.records(to, func(r Record) error {
			if !q.Until.IsZero() && r.Time.After(q.Until) {
				return errUntil
			}
			if !q.wants(r) {
				return nil
			}
			if r.Data, skip = skipLines(r.Data, skip); len(r.Data) == 0 {
				return nil
			}
			return emit(r)
		})
		switch {
		case errors.Is(err, errUntil):
			return nil
		case err != nil:
			return err
		case !q.Follow || done:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errUntil) {
				return nil
			}
			return ctx.Err()
		}
	}
}

// linesToSkip counts the lines from the cursor to those that q.Tail asks for.
func (c *cursor) linesToSkip(q Query) (int, error) {
	ahead, err := c.log.cursor(true, c)
	if err != nil {
		return 0, err
	}
	defer ahead.close()
	lines, last := 0, byte('\n')
	_, _, err = ahead.records(c.log.end(), func(r Record) error {
		if !q.Until.IsZero() && r.Time.After(q.Until) {
			return errUntil
		}
		if q.wants(r) && len(r.Data) > 0 {
			lines += bytes.Count(r.Data, []byte{'\n'})
			last = r.Data[len(r.Data)-1]
		}
		return nil
	})
	if err != nil && !errors.Is(err, errUntil) {
		return 0, err
	}
	if last != '\n' {
		lines++
	}
	return max(0, lines-q.Tail), nil
}

// skipLines drops n line ends, and what is before them, from the front of data.
func skipLines(data []byte, n int) ([]byte, int) {
	for n > 0 {
		i := bytes.IndexByte(data, '\n')
		if i < 0 {
			return nil, n
		}
		data = data[i+1:]
		n--
	}
	return data, 0
}
