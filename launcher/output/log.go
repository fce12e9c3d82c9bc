// Package output keeps what a server's entrypoint writes to standard output and
// standard error, byte for byte, in the order it arrived.
//
// A Log is a row of files of records, the last appended to by the engine alone.
// The first is PATH, those that follow PATH.1, PATH.2 and so on. No file grows
// beyond the limit's bytes: then the next one is begun, and the first goes when
// there are more than the limit's number. A record is a header of 24 bytes,
// big-endian, and its data:
//
//	0  time     int64   nanoseconds since 1970
//	8  run      uint32  which start of the server wrote it, from 1
//	12 stream   uint8   1 standard output, 2 standard error, 0 see below
//	13          3 zero bytes
//	16 length   uint32  of the data
//	20 checksum uint32  CRC-32C of the header before it and the data
//
// Within a run each stream has offsets that begin at 0. A record of stream 0
// begins a run, or a file within one; then its data are the offsets of both
// streams and the time of the run's first output (int64 each), so that a file
// can be continued without those before it. An appended record is there after
// the engine's sudden end; one cut short by the host's own end is removed when
// the log is opened.
package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Stream is one of the entrypoint's two output streams.
type Stream uint8

// The streams; the numbers are those of the file descriptors.
const (
	begin  Stream = 0
	Stdout Stream = 1
	Stderr Stream = 2
)

// ErrGap says that output was to be appended beyond what has arrived.
var ErrGap = errors.New("output is missing before this offset")

// Limit bounds what a log takes on disk. The zero Limit is none.
type Limit struct {
	Bytes int64 // of one file; 0: any number
	Files int   // at least 1
}

// MinBytes is the least that a file of a log can be limited to.
const MinBytes = 1 << 10

// Log is a server's output. Its methods may be used from several goroutines.
type Log struct {
	path  string
	limit Limit

	mu       sync.Mutex
	segments []*segment // in the order of their numbers, one at least
	run      int
	open     bool // the run is still writing
	closed   bool
	at       place
	readers  map[*cursor]struct{}
	changed  chan struct{} // closed and replaced at each change
	moved    chan struct{} // has one when a reader may have moved on
}

// Open opens the log at path or makes it, and removes what a crash cut short at
// its end. A run that was going on is taken to be going on still.
func Open(path string, limit Limit) (*Log, error) {
	l := &Log{path: path, limit: limit, readers: map[*cursor]struct{}{}, changed: make(chan struct{}), moved: make(chan struct{}, 1)}
	if err := l.load(); err != nil {
		for _, s := range l.segments {
			err = errors.Join(err, s.file.Close())
		}
		return nil, fmt.Errorf("read log %s: %w", path, err)
	}
	return l, nil
}

func (l *Log) load() error {
	numbers, err := segmentNumbers(l.path)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		numbers = []int{0}
	}
	for _, n := range numbers {
		s, err := openSegment(l.path, n)
		if err != nil {
			return err
		}
		l.segments = append(l.segments, s)
	}
	for {
		last := l.last()
		end, err := last.scan(l.replay)
		if err != nil {
			return err
		}
		if end > 0 || len(l.segments) == 1 {
			last.size = end
			return errors.Join(last.file.Truncate(end), l.trim())
		}
		// A file that was being begun: the one before it says where we are.
		l.segments = l.segments[:len(l.segments)-1]
		if err := errors.Join(os.Remove(segmentPath(l.path, last.number)), last.file.Close()); err != nil {
			return err
		}
	}
}

// replay takes in a record of the last file.
func (l *Log) replay(r Record) error {
	if r.Stream != begin {
		l.note(r)
		return nil
	}
	at, err := decodePlace(r.Data)
	if err != nil {
		return err
	}
	l.run, l.open, l.at = r.Run, true, at
	return nil
}

func (l *Log) note(r Record) {
	if l.at.first.IsZero() {
		l.at.first = r.Time
	}
	l.at.offsets[r.Stream] += int64(len(r.Data))
}

func (l *Log) last() *segment { return l.segments[len(l.segments)-1] }

// Begin starts a run, numbered from 1, with nothing written yet. To begin the run
// that the log is in again changes nothing.
func (l *Log) Begin(run int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == run {
		l.open = true
		return nil
	}
	if err := l.last().append(Record{Time: time.Now(), Run: run, Stream: begin}); err != nil {
		return err
	}
	l.run, l.open, l.at = run, true, place{}
	l.wake()
	return nil
}

// End says that nothing more comes in this run: readers that follow reach the end.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	l.wake()
}

// Close ends the log's run and releases its files, those that are being read when
// their readers are done.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.closed = false, true
	l.wake()
	return l.release()
}

// release closes the files of a closed log once nobody reads.
func (l *Log) release() error {
	if !l.closed || len(l.readers) > 0 {
		return nil
	}
	var errs []error
	for _, s := range l.segments {
		if !s.dropped {
			s.dropped = true
			errs = append(errs, s.file.Close())
		}
	}
	return errors.Join(errs...)
}

// Offsets are how many bytes of each stream the run has so far.
func (l *Log) Offsets() (stdout, stderr int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.offsets[Stdout], l.at.offsets[Stderr]
}

// First is when the run's first output arrived; zero while there is none.
func (l *Log) First() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.first
}

// Append adds data that stands at offset of a stream in this run. Data that the
// log has already is dropped; ErrGap is returned where some before it is missing.
// It waits, until ctx ends, for readers that hold the log.
func (l *Log) Append(ctx context.Context, stream Stream, offset int64, data []byte) error {
	if stream != Stdout && stream != Stderr {
		return fmt.Errorf("no such stream: %d", stream)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.at.offsets[stream]
	if offset > have {
		return fmt.Errorf("%w: have %d, got %d", ErrGap, have, offset)
	}
	if offset+int64(len(data)) <= have {
		return nil
	}
	defer l.wake()
	for data = data[have-offset:]; len(data) > 0; {
		n := l.room(len(data))
		if n == 0 {
			if err := l.rotate(ctx); err != nil {
				return err
			}
			n = l.room(len(data))
		}
		r := Record{Time: time.Now(), Run: l.run, Stream: stream, Data: data[:n]}
		if err := l.last().append(r); err != nil {
			return err
		}
		l.note(r)
		data = data[n:]
	}
	return nil
}

// room is how many of n bytes the next record of the last file can have; 0 means
// that the next file is to be begun.
func (l *Log) room(n int) int {
	n = min(n, maxData)
	if l.limit.Bytes == 0 {
		return n
	}
	left := l.limit.Bytes - l.last().size - headerSize
	// A record is not cut for the sake of a few bytes, unless no file has room for
	// the whole of it.
	if left < int64(n) && l.last().size > headerSize+placeSize {
		return 0
	}
	return int(min(int64(n), max(left, 1)))
}

// rotate begins the next file, and drops the first if there are too many then.
// The caller holds the lock, which is released while it waits.
func (l *Log) rotate(ctx context.Context) error {
	for len(l.segments) >= l.limit.Files && l.held(l.segments[0]) {
		l.mu.Unlock()
		var err error
		select {
		case <-l.moved:
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		l.mu.Lock()
		if err != nil {
			return err
		}
	}
	s, err := openSegment(l.path, l.last().number+1)
	if err != nil {
		return fmt.Errorf("begin the log's next file: %w", err)
	}
	if err := s.append(Record{Time: time.Now(), Run: l.run, Stream: begin, Data: l.at.encode()}); err != nil {
		return errors.Join(err, os.Remove(segmentPath(l.path, s.number)), s.file.Close())
	}
	l.segments = append(l.segments, s)
	return l.trim()
}

// trim drops the first files where there are more than the limit allows. Readers
// that are in one read it to its end.
func (l *Log) trim() error {
	if l.limit.Bytes == 0 {
		return nil
	}
	var errs []error
	for len(l.segments) > max(l.limit.Files, 1) {
		s := l.segments[0]
		l.segments = slices.Delete(l.segments, 0, 1)
		s.dropped = true
		errs = append(errs, os.Remove(segmentPath(l.path, s.number)))
		if s.readers == 0 {
			errs = append(errs, s.file.Close())
		}
	}
	return errors.Join(errs...)
}

func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}
