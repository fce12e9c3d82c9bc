package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A message on a stream is a type of one byte, the payload's length of four
// bytes in network order, and the payload.
type messageType uint8

const (
	msgRequest messageType = 1 // host, first on each stream: request
	msgReply   messageType = 2 // guest: the call's result, JSON
	msgError   messageType = 3 // guest: callError
	msgData    messageType = 4 // either: stream, offset, bytes
	msgEnd     messageType = 5 // either: stream, offset; no more data follows
	msgAck     messageType = 6 // host: stream, offset; all before it is kept
	msgEvent   messageType = 7 // guest: Event
	msgResize  messageType = 8 // host: WindowSize
	msgSignal  messageType = 9 // host: a signal for the executed process
	// From version 2 on.
	msgDetach messageType = 10 // host: the executed process is to run on
)

const (
	messageHeader = 5
	maxMessage    = 64 << 10
	dataHeader    = 9
	// maxData is what, with all its headers, fills two frames of the link.
	maxData = 2*maxPayload - muxHeader - messageHeader - dataHeader
)

// errProtocol is matched by every error about bytes that make no sense.
var errProtocol = errors.New("agent protocol violated")

func writeMessage(w io.Writer, t messageType, payload []byte) error {
	buf := make([]byte, 0, messageHeader+len(payload))
	buf = append(buf, byte(t))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(payload)))
	_, err := w.Write(append(buf, payload...))
	return err
}

func writeJSON(w io.Writer, t messageType, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(payload) > maxMessage {
		return fmt.Errorf("message of %d bytes, at most %d are possible", len(payload), maxMessage)
	}
	return writeMessage(w, t, payload)
}

// readMessage returns io.EOF where the stream ends between messages.
func readMessage(r io.Reader) (messageType, []byte, error) {
	return (&messageReader{r: r}).next()
}

// messageReader reads messages into one buffer.
type messageReader struct {
	r      io.Reader
	header [messageHeader]byte
	buf    []byte
}

// next is readMessage; the payload is valid until the next call.
func (m *messageReader) next() (messageType, []byte, error) {
	if _, err := io.ReadFull(m.r, m.header[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(m.header[1:])
	if n > maxMessage {
		return 0, nil, fmt.Errorf("%w: message of %d bytes", errProtocol, n)
	}
	if int(n) > cap(m.buf) {
		m.buf = make([]byte, n)
	}
	payload := m.buf[:n]
	if _, err := io.ReadFull(m.r, payload); err != nil {
		return 0, nil, fmt.Errorf("read message: %w", unexpectedEOF(err))
	}
	return messageType(m.header[0]), payload, nil
}

// roomForData is before the data of a message in a buffer that putData completes.
const roomForData = messageHeader + dataHeader

// putData makes a data message of a buffer whose data stands after roomForData.
func putData(buf []byte, s Stream, offset int64) []byte {
	buf[0] = byte(msgData)
	binary.BigEndian.PutUint32(buf[1:], uint32(len(buf)-messageHeader))
	buf[messageHeader] = byte(s)
	binary.BigEndian.PutUint64(buf[messageHeader+1:], uint64(offset))
	return buf
}

func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Stream is one of a process's standard streams.
type Stream uint8

// The standard streams.
const (
	Stdin  Stream = 0
	Stdout Stream = 1
	Stderr Stream = 2
)

func (s Stream) String() string {
	switch s {
	case Stdin:
		return "stdin"
	case Stdout:
		return "stdout"
	case Stderr:
		return "stderr"
	}
	return fmt.Sprintf("stream %d", uint8(s))
}

// chunk is the payload of msgData, msgEnd and msgAck.
type chunk struct {
	stream Stream
	offset int64
	data   []byte
}

func (c chunk) encode() []byte {
	b := make([]byte, 0, dataHeader+len(c.data))
	b = append(b, byte(c.stream))
	b = binary.BigEndian.AppendUint64(b, uint64(c.offset))
	return append(b, c.data...)
}

func decodeChunk(payload []byte) (chunk, error) {
	if len(payload) < dataHeader {
		return chunk{}, fmt.Errorf("%w: chunk of %d bytes", errProtocol, len(payload))
	}
	c := chunk{
		stream: Stream(payload[0]),
		offset: int64(binary.BigEndian.Uint64(payload[1:])),
		data:   payload[dataHeader:],
	}
	if c.stream > Stderr || c.offset < 0 {
		return chunk{}, fmt.Errorf("%w: chunk of %s at %d", errProtocol, c.stream, c.offset)
	}
	return c, nil
}

func decodeJSON[T any](payload []byte) (T, error) {
	var v T
	if err := json.Unmarshal(payload, &v); err != nil {
		return v, fmt.Errorf("%w: %w", errProtocol, err)
	}
	return v, nil
}
