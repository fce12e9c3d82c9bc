package output

import (
	"bytes"
	"context"
	"io"
	"os"
	"time"
)

// Query says which output to read.
type Query struct {
	Stdout, Stderr bool
	// Run is the first run to read; 0 reads all.
	Run int
	// Since leaves out what arrived before.
	Since time.Time
	// Tail, where not negative, begins that many lines before the present end. A
	// line counts where it ends; the streams count together.
	Tail int
	// Follow goes on with what arrives, until the run ends.
	Follow bool
}

// All reads both streams of all runs.
func All() Query { return Query{Stdout: true, Stderr: true, Tail: -1} }

func (q Query) wants(r Record) bool {
	return (r.Stream == Stdout && q.Stdout || r.Stream == Stderr && q.Stderr) &&
		r.Run >= q.Run && !r.Time.Before(q.Since)
}

// Read calls emit for the output that q asks for, in order, until the end, the
// first error of emit, or the end of ctx, which it returns. It reads through a
// file of its own, so a log that is deleted meanwhile is read to its end.
func (l *Log) Read(ctx context.Context, q Query, emit func(Record) error) error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	at, skip := int64(0), 0
	if q.Tail >= 0 {
		l.mu.Lock()
		end := l.size
		l.mu.Unlock()
		if skip, err = linesToSkip(f, end, q); err != nil {
			return err
		}
	}
	for {
		l.mu.Lock()
		end, open, changed := l.size, l.open, l.changed
		l.mu.Unlock()
		for at < end {
			r, next, err := readRecord(f, at)
			if err != nil {
				return err
			}
			at = next
			if !q.wants(r) {
				continue
			}
			if r.Data, skip = skipLines(r.Data, skip); len(r.Data) == 0 {
				continue
			}
			if err := emit(r); err != nil {
				return err
			}
		}
		if !q.Follow || !open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// linesToSkip counts the lines before the last q.Tail ones.
func linesToSkip(f io.ReaderAt, end int64, q Query) (int, error) {
	lines, last := 0, byte('\n')
	for at := int64(0); at < end; {
		r, next, err := readRecord(f, at)
		if err != nil {
			return 0, err
		}
		at = next
		if q.wants(r) && len(r.Data) > 0 {
			lines += bytes.Count(r.Data, []byte{'\n'})
			last = r.Data[len(r.Data)-1]
		}
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
