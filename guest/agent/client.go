package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/slipway-vm/slipway/guest/share"
)

// Client is the host's end of one session with a guest. When a call's error
// matches ErrDisconnected the session is over, and a new one is to be dialed.
// Its methods may be called at the same time.
type Client struct {
	mux   *yamux.Session
	sess  *session
	hello Hello
}

// redialInterval separates attempts to reach a port that is not there yet.
const redialInterval = 50 * time.Millisecond

// Dial starts a session with the guest behind the unix socket of its agent
// port. It tries until the guest answers or ctx is done; a guest that answers
// nonsense or is too old is an error at once. The newest session ends those
// that others have.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var last error
	for {
		c, err := dialOnce(ctx, socket)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, errProtocol) || errors.Is(err, ErrUnsupported) {
			return nil, fmt.Errorf("dial agent: %w", err)
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last != nil {
				return nil, fmt.Errorf("dial agent: %w (last attempt: %w)", context.Cause(ctx), last)
			}
			return nil, fmt.Errorf("dial agent: %w", context.Cause(ctx))
		case <-time.After(redialInterval):
		}
	}
}

func dialOnce(ctx context.Context, socket string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	return newClient(ctx, conn)
}

// newClient takes over conn, also where it fails.
func newClient(ctx context.Context, conn net.Conn) (*Client, error) {
	sess, err := openSession(ctx, conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	mux, err := yamux.Client(&guard{ReadWriteCloser: sess}, muxConfig())
	if err != nil {
		sess.Close()
		return nil, err
	}
	c := &Client{mux: mux, sess: sess}
	if err := c.call(ctx, methodHello, helloParams{Version: Version, Time: time.Now().UnixNano()}, &c.hello); err != nil {
		c.Close()
		return nil, fmt.Errorf("hello: %w", err)
	}
	if c.hello.Version < 1 {
		c.Close()
		return nil, fmt.Errorf("%w: agent version %d", ErrUnsupported, c.hello.Version)
	}
	return c, nil
}

// Hello returns what the guest said of itself when the session started.
func (c *Client) Hello() Hello { return c.hello }

// ErrOlder is matched where a guest is too old for what it is asked for.
var ErrOlder = errors.New("the guest of this server is older: restart the server to renew it")

// requires refuses what the guest, being older, would leave out silently.
func (c *Client) requires(version int) error {
	if c.hello.Version < version {
		return fmt.Errorf("%w (its agent has version %d, this takes %d)", ErrOlder, c.hello.Version, version)
	}
	return nil
}

// Done is closed when the session has ended.
func (c *Client) Done() <-chan struct{} { return c.mux.CloseChan() }

// Close ends the session. The guest goes on and keeps what is not acknowledged.
func (c *Client) Close() error {
	err := c.mux.Close()
	c.sess.Close()
	return err
}

// maxCalls bounds the calls under way. It is less than muxBacklog, the number
// of unanswered streams at which yamux would wait for the guest without limit.
const maxCalls = muxBacklog - 16

// ErrBusy is matched where a guest leaves too many calls unanswered.
var ErrBusy = errors.New("the guest is too busy")

// open starts a call. The stream is closed when ctx is done or stop is called,
// whichever is first.
func (c *Client) open(ctx context.Context, method string, params any) (stream *yamux.Stream, stop func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	raw, err := json.Marshal(params)
	if err != nil {
		return nil, nil, err
	}
	if c.mux.NumStreams() >= maxCalls {
		return nil, nil, fmt.Errorf("%w: %d calls are under way", ErrBusy, maxCalls)
	}
	opened, err := c.mux.OpenStream()
	if err != nil {
		return nil, nil, c.explain(ctx, err)
	}
	// Not of stream: a return changes that, and the end of ctx may come after.
	unlink := context.AfterFunc(ctx, func() { abandon(opened) })
	stop = func() {
		unlink()
		abandon(opened)
	}
	if err := writeJSON(opened, msgRequest, request{Method: method, Params: raw}); err != nil {
		stop()
		return nil, nil, c.explain(ctx, err)
	}
	return opened, stop, nil
}

// abandon wakes whoever reads from a stream and closes it. Close alone is only
// a half-close; and it waits for its frame to be written, which takes as long
// as the guest likes.
func abandon(stream *yamux.Stream) {
	_ = stream.SetDeadline(time.Now())
	go stream.Close()
}

// call makes a call that has one reply.
func (c *Client) call(ctx context.Context, method string, params, result any) error {
	stream, stop, err := c.open(ctx, method, params)
	if err != nil {
		return err
	}
	defer stop()
	t, payload, err := readMessage(stream)
	if err != nil {
		return c.explain(ctx, err)
	}
	switch t {
	case msgError:
		return c.refused(ctx, payload)
	case msgReply:
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(payload, result); err != nil {
			return fmt.Errorf("%w: reply to %s: %w", errProtocol, method, err)
		}
		return nil
	}
	return fmt.Errorf("%w: message %d in reply to %s", errProtocol, t, method)
}

// refused is the error of a call that the guest answered with one.
func (c *Client) refused(ctx context.Context, payload []byte) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // the guest has only seen us leave
	}
	err := decodeError(payload)
	if errors.Is(err, ErrUnsupported) {
		return fmt.Errorf("%w: %w", ErrOlder, err)
	}
	return err
}

// explain turns the error of a stream into one that callers can act on.
func (c *Client) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errProtocol) || errors.Is(err, ErrDisconnected):
		return err
	case c.mux.IsClosed() || closedByPeer(err) || errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return err
}

// Offsets are positions in a process's output.
type Offsets struct {
	Stdout int64
	Stderr int64
}

// Output streams the entrypoint's output from the given offsets until both
// streams have ended (nil) or the session has. What lies before the offsets is
// acknowledged with the call, and each piece when sink has returned nil: sink
// keeps it first, for the guest then forgets it. The
// pieces of a stream follow each other without a gap; data is valid only
// during the call.
func (c *Client) Output(ctx context.Context, from Offsets, sink func(stream Stream, offset int64, data []byte) error) error {
	stream, stop, err := c.open(ctx, methodOutput, outputParams(from))
	if err != nil {
		return err
	}
	defer stop()
	next := map[Stream]int64{Stdout: from.Stdout, Stderr: from.Stderr}
	return c.messages(ctx, stream, func(t messageType, payload []byte) error {
		if t != msgData && t != msgEnd {
			return fmt.Errorf("%w: message %d in output", errProtocol, t)
		}
		piece, err := decodeChunk(payload)
		if err != nil {
			return err
		}
		if at, ok := next[piece.stream]; !ok || at != piece.offset {
			return fmt.Errorf("%w: %s at %d instead of %d", errProtocol, piece.stream, piece.offset, at)
		}
		if t == msgData {
			if err := sink(piece.stream, piece.offset, piece.data); err != nil {
				return err
			}
			next[piece.stream] += int64(len(piece.data))
		}
		ack := chunk{stream: piece.stream, offset: next[piece.stream]}
		return c.explain(ctx, writeMessage(stream, msgAck, ack.encode()))
	})
}

// messages hands a call's messages to take until its reply, which ends it.
func (c *Client) messages(ctx context.Context, stream io.Reader, take func(messageType, []byte) error) error {
	in := messageReader{r: stream}
	for {
		t, payload, err := in.next()
		switch {
		case err != nil:
			return c.explain(ctx, err)
		case t == msgError:
			return c.refused(ctx, payload)
		case t == msgReply:
			return nil
		}
		if err := take(t, payload); err != nil {
			return err
		}
	}
}

// Events calls handle with each event of the entrypoint, from the first on,
// until the last (nil), an error of handle's, or the session's end.
func (c *Client) Events(ctx context.Context, handle func(Event) error) error {
	stream, stop, err := c.open(ctx, methodEvents, struct{}{})
	if err != nil {
		return err
	}
	defer stop()
	return c.messages(ctx, stream, func(t messageType, payload []byte) error {
		if t != msgEvent {
			return fmt.Errorf("%w: message %d in events", errProtocol, t)
		}
		event, err := decodeJSON[Event](payload)
		if err != nil {
			return err
		}
		if (event.final() || event.Type == EventRestarting) && event.Exit == nil {
			return fmt.Errorf("%w: %s event without an exit", errProtocol, event.Type)
		}
		return handle(event)
	})
}

// Wait returns how the entrypoint ended, once it has; also where it could not
// be started.
func (c *Client) Wait(ctx context.Context) (Exit, error) {
	var exit *Exit
	err := c.Events(ctx, func(e Event) error {
		if e.final() {
			exit = e.Exit
		}
		return nil
	})
	if err == nil && exit == nil {
		err = fmt.Errorf("%w: events ended before the entrypoint", errProtocol)
	}
	if err != nil {
		return Exit{}, fmt.Errorf("wait for the entrypoint: %w", err)
	}
	return *exit, nil
}

// Signal sends a signal, named or numbered as share.ParseSignal reads it, to
// the entrypoint.
func (c *Client) Signal(ctx context.Context, signal string) error {
	sig, err := share.ParseSignal(signal)
	if err != nil {
		return err
	}
	if err := c.call(ctx, methodSignal, signalParams{Signal: int(sig)}, nil); err != nil {
		return fmt.Errorf("send %s to the entrypoint: %w", signal, err)
	}
	return nil
}

// Stop sends the entrypoint its stop signal, which it returns, and kills it if it
// still runs after grace; a negative grace means the Spec's. It does not wait. The
// signal is 0 where the entrypoint is still on its way, and of older guests.
func (c *Client) Stop(ctx context.Context, grace time.Duration) (signal int, err error) {
	var r stopReply
	if err := c.call(ctx, methodStop, stopParams{Grace: grace}, &r); err != nil {
		return 0, fmt.Errorf("stop the entrypoint: %w", err)
	}
	return r.Signal, nil
}

// Assign tells a guest that stands by that its server is there: that the share holds
// all that it is to have. To be told again does nothing.
func (c *Client) Assign(ctx context.Context) error {
	if err := c.requires(versionAssign); err != nil {
		return err
	}
	if err := c.call(ctx, methodAssign, assignParams{Time: time.Now().UnixNano()}, nil); err != nil {
		return fmt.Errorf("assign the guest its server: %w", err)
	}
	return nil
}

// Shutdown tells the guest that its exit and all output have been recorded, so
// that it may power off. It is an error while the entrypoint runs or output is
// not acknowledged.
func (c *Client) Shutdown(ctx context.Context) error {
	if err := c.call(ctx, methodShutdown, struct{}{}, nil); err != nil {
		return fmt.Errorf("shut down the guest: %w", err)
	}
	return nil
}

// Abort ends the session as a crash of the host would: without a word.
func (c *Client) Abort() { c.sess.Close() }
