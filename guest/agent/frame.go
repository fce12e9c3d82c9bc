package agent

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"

	"github.com/cespare/xxhash/v2"
)

// A frame is
//
//	magic    4 bytes  ends with the version of this format
//	type     1 byte
//	flags    1 byte   flagFast or 0
//	length   2 bytes  of the payload
//	session  8 bytes
//	sequence 4 bytes  of data frames in this direction, from 0
//	header   4 bytes  CRC-32C of all the above
//	payload  4 bytes  CRC-32C of the payload, or the lower half of its XXH64
//	payload
//
// with integers in network order. The header has a checksum of its own so that
// a damaged length is noticed before anything waits for it.
//
// The checksum finds frames that were cut or mixed, not attacks. An emulated
// processor takes twenty times as long for a CRC as for copying the bytes, so ends
// that both set flagFast, when they open and accept a session, use XXH64 in it;
// data frames say so themselves. Others leave the flag out and ignore it.
const (
	headerSize = 28
	maxPayload = 16 << 10
)

const flagFast = 1

var frameMagic = []byte{0xF5, 'S', 'W', 1}

type frameType uint8

const (
	frameOpen   frameType = 1 // host: the session starts, all others are over
	frameAccept frameType = 2 // guest: the session has started
	frameData   frameType = 3
	frameReset  frameType = 4 // the session is over or was never known
)

type frame struct {
	typ     frameType
	session uint64
	seq     uint32
	fast    bool
	payload []byte // valid until the next call of the reader
}

var castagnoli = checksumTable()

// checksumTable makes the table of the polynomial Castagnoli. That of
// crc32.MakeTable, for which processors have instructions, takes an emulated guest
// 20 ms to set up; and most checksums are of a header.
func checksumTable() *crc32.Table {
	var t crc32.Table
	for i := range t {
		c := uint32(i)
		for range 8 {
			c = c>>1 ^ c&1*crc32.Castagnoli
		}
		t[i] = c
	}
	return &t
}

// appendFrame appends a frame whose payload is the given one and then more.
func appendFrame(b []byte, f frame, more ...byte) []byte {
	start := len(b)
	var flags byte
	if f.fast {
		flags = flagFast
	}
	b = append(b, frameMagic...)
	b = append(b, byte(f.typ), flags)
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.payload)+len(more)))
	b = binary.BigEndian.AppendUint64(b, f.session)
	b = binary.BigEndian.AppendUint32(b, f.seq)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	b = append(b, 0, 0, 0, 0)
	b = append(append(b, f.payload...), more...)
	whole := b[start+headerSize:]
	binary.BigEndian.PutUint32(b[start+headerSize-4:], f.checksum(whole))
	return b
}

// checksum is that of a payload in a frame like f.
func (f frame) checksum(payload []byte) uint32 {
	if f.fast && f.typ == frameData {
		return uint32(xxhash.Sum64(payload))
	}
	return crc32.Checksum(payload, castagnoli)
}

// preamble goes before the first frame of a session. A receiver that was left
// waiting for the rest of a frame of an earlier session takes these bytes for
// it, finds the checksum wrong, and is in step again.
var preamble = make([]byte, headerSize+maxPayload)

// errReset is returned by frameReader.next where the port said that the other
// end has gone; what had been received of a frame is forgotten.
var errReset = errors.New("the other end has gone")

// frameReader finds frames in a byte stream with anything between them.
type frameReader struct {
	r       *bufio.Reader
	discard int // bytes of the frame returned last
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 2*(headerSize+maxPayload))}
}

// next returns the next whole frame. It returns errReset at each io.EOF of the
// port, after which it may be called again.
func (fr *frameReader) next() (frame, error) {
	fr.r.Discard(fr.discard)
	fr.discard = 0
	for {
		header, err := fr.r.Peek(headerSize)
		if err != nil {
			return frame{}, fr.fail(err)
		}
		if skip := bytes.Index(header, frameMagic); skip != 0 {
			if skip < 0 {
				// The magic may begin in the last bytes of what was seen.
				skip = headerSize - len(frameMagic) + 1
			}
			fr.r.Discard(skip)
			continue
		}
		f, length, ok := parseHeader(header)
		if !ok {
			fr.r.Discard(1)
			continue
		}
		sum := binary.BigEndian.Uint32(header[24:])
		whole, err := fr.r.Peek(headerSize + length)
		if err != nil {
			return frame{}, fr.fail(err)
		}
		f.payload = whole[headerSize:]
		if f.checksum(f.payload) != sum {
			fr.r.Discard(1)
			continue
		}
		fr.discard = len(whole)
		return f, nil
	}
}

func parseHeader(h []byte) (f frame, length int, ok bool) {
	length = int(binary.BigEndian.Uint16(h[6:]))
	if crc32.Checksum(h[:20], castagnoli) != binary.BigEndian.Uint32(h[20:]) || length > maxPayload {
		return frame{}, 0, false
	}
	return frame{
		typ:     frameType(h[4]),
		session: binary.BigEndian.Uint64(h[8:]),
		seq:     binary.BigEndian.Uint32(h[16:]),
		fast:    h[5]&flagFast != 0,
	}, length, true
}

func (fr *frameReader) fail(err error) error {
	fr.r.Discard(fr.r.Buffered())
	if errors.Is(err, io.EOF) {
		return errReset
	}
	return err
}
