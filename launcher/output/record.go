package output

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

const (
	headerSize = 24
	// maxData bounds a record, so that a damaged length cannot ask for more memory.
	maxData = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Record is a piece of output.
type Record struct {
	Time   time.Time
	Run    int
	Stream Stream
	Data   []byte
}

func (r Record) encode() []byte {
	buf := make([]byte, headerSize, headerSize+len(r.Data))
	binary.BigEndian.PutUint64(buf[0:], uint64(r.Time.UnixNano()))
	binary.BigEndian.PutUint32(buf[8:], uint32(r.Run))
	buf[12] = byte(r.Stream)
	binary.BigEndian.PutUint32(buf[16:], uint32(len(r.Data)))
	buf = append(buf, r.Data...)
	binary.BigEndian.PutUint32(buf[20:], checksum(buf[:20], r.Data))
	return buf
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

// place is where a run was when a file began: the data of the file's first record.
type place struct {
	offsets [3]int64  // by stream
	first   time.Time // of the run's first output, zero while there is none
}

const placeSize = 24

func (p place) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.offsets[Stdout]))
	b = binary.BigEndian.AppendUint64(b, uint64(p.offsets[Stderr]))
	var first int64
	if !p.first.IsZero() {
		first = p.first.UnixNano()
	}
	return binary.BigEndian.AppendUint64(b, uint64(first))
}

// decodePlace takes the beginning of a run, which has no data, for its start.
func decodePlace(b []byte) (p place, err error) {
	if len(b) == 0 {
		return p, nil
	}
	if len(b) != placeSize {
		return p, errDamaged
	}
	p.offsets[Stdout] = int64(binary.BigEndian.Uint64(b))
	p.offsets[Stderr] = int64(binary.BigEndian.Uint64(b[8:]))
	if first := int64(binary.BigEndian.Uint64(b[16:])); first != 0 {
		p.first = time.Unix(0, first)
	}
	if p.offsets[Stdout] < 0 || p.offsets[Stderr] < 0 {
		return p, errDamaged
	}
	return p, nil
}
