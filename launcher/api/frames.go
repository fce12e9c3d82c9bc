package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/slipway-vm/slipway/launcher/output"
)

// FramesType is the media type of a stream of frames.
const FramesType = "application/vnd.slipway.frames"

// A frame is a header of 16 bytes, big-endian, and data: one byte that names the
// stream (1 standard output, 2 standard error), three zero bytes, the data's
// length (uint32) and when it arrived (int64, nanoseconds since 1970). A failure
// on the way is a last frame of stream 0, its data an Error as JSON.
const frameHeader = 16

// maxFrame bounds a frame's data, in bytes.
const maxFrame = 1 << 20

// WriteFrame writes a piece of output.
func WriteFrame(w io.Writer, r output.Record) error {
	buf := make([]byte, frameHeader, frameHeader+len(r.Data))
	buf[0] = byte(r.Stream)
	binary.BigEndian.PutUint32(buf[4:], uint32(len(r.Data)))
	binary.BigEndian.PutUint64(buf[8:], uint64(r.Time.UnixNano()))
	_, err := w.Write(append(buf, r.Data...))
	return err
}

// writeFailure ends a stream with the reason why there is no more.
func writeFailure(w io.Writer, failure error) error {
	e, _ := asError(failure)
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return WriteFrame(w, output.Record{Time: time.Now(), Data: b})
}

// ReadFrame reads a piece of output; the error is io.EOF at the end of the stream
// and an *Error where the service failed.
func ReadFrame(r io.Reader) (output.Record, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return output.Record{}, err
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > maxFrame {
		return output.Record{}, fmt.Errorf("frame of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return output.Record{}, err
	}
	if h[0] == 0 {
		e := new(Error)
		return output.Record{}, errors.Join(json.Unmarshal(data, e), e)
	}
	return output.Record{
		Time:   time.Unix(0, int64(binary.BigEndian.Uint64(h[8:]))),
		Stream: output.Stream(h[0]),
		Data:   data,
	}, nil
}
