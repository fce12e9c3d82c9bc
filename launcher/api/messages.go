package api

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/coder/websocket"
)

// ProcessProtocol is what a connection is upgraded to for exec and attach on the
// engine's socket, and the subprotocol of websockets for them on the network. Both
// ends then send messages: one byte that says what it is, and data. On a socket the
// length of the data (uint32, big-endian) stands between them; on a websocket each
// message is a binary one of its own.
const ProcessProtocol = "slipway-process"

// Message says what a message of [ProcessProtocol] is.
type Message byte

// The messages. The client begins with MessageRequest and the service ends with
// MessageExit or MessageError; the rest comes in any order.
const (
	MessageRequest Message = iota // JSON: agent.ExecRequest or agent.AttachRequest
	MessageStdout
	MessageStderr
	MessageExit   // JSON: agent.Exit
	MessageError  // JSON: Error
	MessageStdin  // none: the end of input
	MessageResize // JSON: agent.WindowSize
	MessageSignal // JSON: a number
	MessageDetach // the executed process is to run on, or the attaching to end
)

// maxMessage bounds a message's data in bytes.
const maxMessage = 1 << 20

// Conn carries messages. Several goroutines may send, one may receive.
type Conn interface {
	Send(m Message, data []byte) error
	Receive() (Message, []byte, error)
	Close() error
}

// NewStreamConn carries messages over a connection; r is what is read from it.
func NewStreamConn(c net.Conn, r *bufio.Reader) Conn { return &streamConn{Conn: c, r: r} }

type streamConn struct {
	net.Conn
	r  *bufio.Reader
	mu sync.Mutex // for sending
}

func (c *streamConn) Send(m Message, data []byte) error {
	buf := make([]byte, 5, 5+len(data))
	buf[0] = byte(m)
	binary.BigEndian.PutUint32(buf[1:], uint32(len(data)))
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(append(buf, data...))
	return err
}

func (c *streamConn) Receive() (Message, []byte, error) {
	var h [5]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[1:])
	if n > maxMessage {
		return 0, nil, fmt.Errorf("message of %d bytes", n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(c.r, data); err != nil {
		return 0, nil, err
	}
	return Message(h[0]), data, nil
}

// NewSocketConn carries messages over a websocket until ctx ends.
func NewSocketConn(ctx context.Context, ws *websocket.Conn) Conn {
	ws.SetReadLimit(maxMessage + 1)
	return &socketConn{ctx, ws}
}

type socketConn struct {
	ctx context.Context //nolint:containedctx // a connection's own span
	ws  *websocket.Conn
}

func (c *socketConn) Send(m Message, data []byte) error {
	return c.ws.Write(c.ctx, websocket.MessageBinary, append([]byte{byte(m)}, data...))
}

func (c *socketConn) Receive() (Message, []byte, error) {
	kind, data, err := c.ws.Read(c.ctx)
	switch {
	case err != nil:
		return 0, nil, err
	case kind != websocket.MessageBinary || len(data) == 0:
		return 0, nil, fmt.Errorf("a %v of %d bytes is no message", kind, len(data))
	}
	return Message(data[0]), data[1:], nil
}

// Close says farewell, which the other end may have done already.
func (c *socketConn) Close() error { return c.ws.Close(websocket.StatusNormalClosure, "") }

// MessageWriter writes messages of one kind, such as output.
type MessageWriter struct {
	conn Conn
	kind Message
}

// NewMessageWriter makes a writer of messages of one kind.
func NewMessageWriter(c Conn, kind Message) MessageWriter { return MessageWriter{c, kind} }

// maxPiece is how much of a stream goes into one message, in bytes.
const maxPiece = 64 << 10

// Write writes p as messages.
func (w MessageWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, maxPiece)
		if err := w.conn.Send(w.kind, p[done:done+n]); err != nil {
			return done, err
		}
		done += n
	}
	return len(p), nil
}
