// Package output keeps what a server's entrypoint writes to standard output and
// standard error, byte for byte, in the order it arrived.
//
// A Log is one file of records, appended to by the engine alone. A record is a
// header of 24 bytes, big-endian, and its data:
//
//	0  time     int64   nanoseconds since 1970
//	8  run      uint32  which start of the server wrote it, from 1
//	12 stream   uint8   1 standard output, 2 standard error, 0 start of a run
//	13          3 zero bytes
//	16 length   uint32  of the data
//	20 checksum uint32  CRC-32C of the header before it and the data
//
// Within a run each stream has offsets that begin at 0. An appended record is
// there after the engine's sudden end; one cut short by the host's own end is
// removed when the log is opened.
package output

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
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

const (
	headerSize = 24
	// maxData bounds a record, so that a damaged length cannot ask for more memory.
	maxData = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrGap says that output was to be appended beyond what has arrived.
var ErrGap = errors.New("output is missing before this offset")

// Record is a piece of output.
type Record struct {
	Time   time.Time
	Run    int
	Stream Stream
	Data   []byte
}

// Log is a server's output. Its methods may be used from several goroutines.
type Log struct {
	path string

	mu      sync.Mutex
	file    *os.File
	size    int64
	run     int
	open    bool // the run is still writing
	offsets [3]int64
	first   time.Time     // of the run's first output
	changed chan struct{} // closed and replaced at each change
}

// Open opens the log at path or makes it, and removes what a crash cut short at
// its end. A run that was going on is taken to be going on still.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path, file: f, changed: make(chan struct{})}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read log %s: %w", path, err), f.Close())
	}
	return l, nil
}

func (l *Log) load() error {
	for {
		r, next, err := readRecord(l.file, l.size)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, errDamaged) {
				return err
			}
			break
		}
		if r.Stream == begin {
			l.beginRun(r.Run)
		} else {
			l.note(r)
		}
		l.size = next
	}
	return l.file.Truncate(l.size)
}

func (l *Log) beginRun(run int) {
	l.run, l.open, l.offsets, l.first = run, true, [3]int64{}, time.Time{}
}

func (l *Log) note(r Record) {
	if l.first.IsZero() {
		l.first = r.Time
	}
	l.offsets[r.Stream] += int64(len(r.Data))
}

// Begin starts a run, numbered from 1, with nothing written yet. To begin the run
// that the log is in again changes nothing.
func (l *Log) Begin(run int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == run {
		l.open = true
		return nil
	}
	if err := l.append(Record{Time: time.Now(), Run: run, Stream: begin}); err != nil {
		return err
	}
	l.beginRun(run)
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

// Close ends the log's run and releases its file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	l.wake()
	return l.file.Close()
}

// Offsets are how many bytes of each stream the run has so far.
func (l *Log) Offsets() (stdout, stderr int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offsets[Stdout], l.offsets[Stderr]
}

// First is when the run's first output arrived; zero while there is none.
func (l *Log) First() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// Append adds data that stands at offset of a stream in this run. Data that the
// log has already is dropped; ErrGap is returned where some before it is missing.
func (l *Log) Append(stream Stream, offset int64, data []byte) error {
	if stream != Stdout && stream != Stderr {
		return fmt.Errorf("no such stream: %d", stream)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.offsets[stream]
	if offset > have {
		return fmt.Errorf("%w: have %d, got %d", ErrGap, have, offset)
	}
	if offset+int64(len(data)) <= have {
		return nil
	}
	data = data[have-offset:]
	for len(data) > 0 {
		n := min(len(data), maxData)
		r := Record{Time: time.Now(), Run: l.run, Stream: stream, Data: data[:n]}
		if err := l.append(r); err != nil {
			return err
		}
		l.note(r)
		data = data[n:]
	}
	l.wake()
	return nil
}

func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) append(r Record) error {
	buf := make([]byte, headerSize, headerSize+len(r.Data))
	binary.BigEndian.PutUint64(buf[0:], uint64(r.Time.UnixNano()))
	binary.BigEndian.PutUint32(buf[8:], uint32(r.Run))
	buf[12] = byte(r.Stream)
	binary.BigEndian.PutUint32(buf[16:], uint32(len(r.Data)))
	buf = append(buf, r.Data...)
	binary.BigEndian.PutUint32(buf[20:], checksum(buf[:20], r.Data))
	n, err := l.file.WriteAt(buf, l.size)
	if err != nil {
		// What was written of it must not stand before the next record.
		return errors.Join(fmt.Errorf("write log: %w", err), l.file.Truncate(l.size))
	}
	l.size += int64(n)
	return nil
}

func checksum(header, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(header, castagnoli), castagnoli, data)
}

var errDamaged = errors.New("damaged record")

// readRecord reads the record at an offset and says where the next one begins.
func readRecord(f io.ReaderAt, at int64) (Record, int64, error) {
	var h [headerSize]byte
	if n, err := f.ReadAt(h[:], at); err != nil {
		if n > 0 && errors.Is(err, io.EOF) {
			err = errDamaged
		}
		return Record{}, at, err
	}
	length := binary.BigEndian.Uint32(h[16:])
	if length > maxData || h[12] > byte(Stderr) {
		return Record{}, at, errDamaged
	}
	data := make([]byte, length)
	if _, err := f.ReadAt(data, at+headerSize); err != nil {
		if errors.Is(err, io.EOF) {
			err = errDamaged
		}
		return Record{}, at, err
	}
	if checksum(h[:20], data) != binary.BigEndian.Uint32(h[20:]) {
		return Record{}, at, errDamaged
	}
	return Record{
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(h[0:]))),
		Run:    int(binary.BigEndian.Uint32(h[8:])),
		Stream: Stream(h[12]),
		Data:   data,
	}, at + headerSize + int64(length), nil
}
