package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// Control is what calls do to the guest; guest/boot implements it.
type Control interface {
	// Hello describes the guest as it is now.
	Hello() Hello
	// Signal sends a signal to the entrypoint, ErrNotRunning without one.
	Signal(sig int) error
	// Stop sends the stop signal, which it returns, and, after grace (the Spec's
	// where it is negative), kills. It does not wait. Where the entrypoint is still
	// on its way it will be stopped, and the signal is 0.
	Stop(grace time.Duration) (signal int, err error)
	// Exec starts a process beside the entrypoint. A *StartError says that it
	// cannot be started.
	Exec(req ExecRequest) (Process, error)
	// Attach returns the entrypoint; its Outputs are nil and Close does nothing.
	Attach() (Process, error)
	// Root opens the server's root, ErrNotRunning where nothing runs in it.
	Root() (*process.Root, error)
	// Mounts are the paths in the root that something is mounted on.
	Mounts() ([]string, error)
	Stats() (Stats, error)
	Top() ([]ProcessInfo, error)
	Freeze() error
	Thaw() error
	// SetInterfaces sets up interfaces that have appeared.
	SetInterfaces(all []share.Interface) error
	// Clock moves the guest's clock by step and returns its time.
	Clock(step time.Duration) (time.Time, error)
	// SetClock tells the host's time when a host introduces itself.
	SetClock(t time.Time)
	// Assign lets a guest that stands by go on, as its server is there now; one that has
	// gone on, or did not stand by, does nothing.
	Assign(now time.Time)
	// Shutdown returns what powers the guest off, to be called when the host
	// has been answered: ErrRunning while the entrypoint does.
	Shutdown() (powerOff func(), err error)
}

// Server is the guest's end of the agent.
type Server struct {
	Control Control
	Output  *OutputLog
	Events  *EventLog
}

// Serve answers hosts on the port, one session after another, until the port
// fails or ctx is done.
func (s *Server) Serve(ctx context.Context, port Port) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	link := newGuestLink(port)
	failed := make(chan error, 1)
	go func() { failed <- link.run(ctx) }()
	for {
		select {
		case err := <-failed:
			return err
		case sess := <-link.accepts:
			go s.serveSession(ctx, sess)
		}
	}
}

func (s *Server) serveSession(ctx context.Context, sess *session) {
	defer sess.Close()
	mux, err := yamux.Server(sess, muxConfig())
	if err != nil {
		return // only a wrong configuration, which tests would show
	}
	defer mux.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		stream, err := mux.AcceptStream()
		if err != nil {
			return
		}
		go s.serveStream(ctx, stream)
	}
}

func (s *Server) serveStream(ctx context.Context, stream *yamux.Stream) {
	defer stream.Close()
	t, payload, err := readMessage(stream)
	if err != nil || t != msgRequest {
		return
	}
	req, err := decodeJSON[request](payload)
	if err == nil {
		err = s.call(ctx, stream, req)
	}
	if err != nil {
		// The host may be gone, which is all that could go wrong here.
		_ = writeJSON(stream, msgError, encodeError(err))
	}
}

func (s *Server) call(ctx context.Context, stream *yamux.Stream, req request) error {
	switch req.Method {
	case methodHello:
		return withParams(req, func(p helloParams) error {
			if p.Time != 0 {
				s.Control.SetClock(time.Unix(0, p.Time))
			}
			return writeJSON(stream, msgReply, s.Control.Hello())
		})
	case methodOutput:
		return withParams(req, func(p outputParams) error { return s.output(ctx, stream, p) })
	case methodEvents:
		return s.events(ctx, stream)
	case methodSignal:
		return withParams(req, func(p signalParams) error {
			return reply(stream, s.Control.Signal(p.Signal))
		})
	case methodStop:
		return withParams(req, func(p stopParams) error {
			return answer(stream, func() (stopReply, error) {
				signal, err := s.Control.Stop(p.Grace)
				return stopReply{Signal: signal}, err
			})
		})
	case methodExec:
		return withParams(req, func(p ExecRequest) error { return s.exec(ctx, stream, p) })
	case methodAttach:
		return withParams(req, func(p AttachRequest) error { return s.attach(ctx, stream, p) })
	case methodStat:
		return withParams(req, func(p pathParams) error { return s.stat(stream, p) })
	case methodLocate:
		return withParams(req, func(p pathParams) error { return s.locate(stream, p) })
	case methodCopyOut:
		return withParams(req, func(p pathParams) error { return s.copyOut(ctx, stream, p) })
	case methodCopyIn:
		return withParams(req, func(p pathParams) error { return s.copyIn(ctx, stream, p) })
	case methodStats:
		return answer(stream, s.Control.Stats)
	case methodTop:
		return s.top(stream)
	case methodFreeze:
		return reply(stream, s.Control.Freeze())
	case methodThaw:
		return reply(stream, s.Control.Thaw())
	case methodClock:
		return withParams(req, func(p clockParams) error {
			now, err := s.Control.Clock(p.Step)
			if err != nil {
				return err
			}
			return writeJSON(stream, msgReply, clockReply{Time: now.UnixNano()})
		})
	case methodLinks:
		return withParams(req, func(p interfacesParams) error {
			return reply(stream, s.Control.SetInterfaces(p.Interfaces))
		})
	case methodAssign:
		return withParams(req, func(p assignParams) error {
			s.Control.Assign(time.Unix(0, p.Time))
			return reply(stream, nil)
		})
	case methodShutdown:
		return s.shutdown(stream)
	}
	return fmt.Errorf("%w: call %q", ErrUnsupported, req.Method)
}

func (s *Server) shutdown(stream io.Writer) error {
	powerOff, err := s.Control.Shutdown()
	if err != nil {
		return err
	}
	if !s.Output.Acknowledged() {
		return ErrOutputKept
	}
	// A host that asks has recorded everything, and one that reads the answer may
	// close the session before this end knows that the answer was sent. So an
	// answer that could not be sent changes nothing.
	err = reply(stream, nil)
	powerOff()
	return err
}

func withParams[T any](req request, call func(T) error) error {
	params, err := decodeJSON[T](req.Params)
	if err != nil {
		return fmt.Errorf("%w: parameters of %s: %w", ErrInvalid, req.Method, err)
	}
	return call(params)
}

func answer[T any](stream io.Writer, get func() (T, error)) error {
	v, err := get()
	if err != nil {
		return err
	}
	return writeJSON(stream, msgReply, v)
}

func (s *Server) top(stream io.Writer) error {
	list, err := s.Control.Top()
	if err != nil {
		return err
	}
	for _, p := range list[:min(len(list), maxProcesses)] {
		p.Command = p.Command[:min(len(p.Command), 4096)]
		if err := writeJSON(stream, msgEvent, p); err != nil {
			return err
		}
	}
	return reply(stream, nil)
}

// reply answers a call that has no result.
func reply(stream io.Writer, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(stream, msgReply, struct{}{})
}

// output sends the log from the given offsets, as it grows, until all of it
// has been acknowledged.
func (s *Server) output(ctx context.Context, stream *yamux.Stream, p outputParams) error {
	// What the host has got already it has kept, but its last words to us may
	// have been lost with the session: without this the window could stay full
	// of output that nobody will ask for again.
	for st, offset := range map[Stream]int64{Stdout: p.Stdout, Stderr: p.Stderr} {
		if err := s.Output.ack(st, offset); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(s.takeAcks(stream)) }()
	offsets := [2]int64{p.Stdout, p.Stderr}
	var ended [2]bool
	for {
		pieces, _, changed, err := s.Output.read(offsets, maxData)
		if err != nil {
			return err
		}
		sent := false
		for i, piece := range pieces {
			c := chunk{stream: Stdout + Stream(i), offset: offsets[i], data: piece.data}
			if len(piece.data) > 0 {
				if err := writeMessage(stream, msgData, c.encode()); err != nil {
					return err
				}
				offsets[i] += int64(len(piece.data))
				sent = true
			}
			if piece.ended && !ended[i] {
				c.offset, c.data = offsets[i], nil
				if err := writeMessage(stream, msgEnd, c.encode()); err != nil {
					return err
				}
				ended[i], sent = true, true
			}
		}
		if sent {
			continue
		}
		if s.Output.Acknowledged() && ended[0] && ended[1] {
			return reply(stream, nil)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Server) takeAcks(stream *yamux.Stream) error {
	for {
		t, payload, err := readMessage(stream)
		if err != nil {
			return err
		}
		c, err := decodeChunk(payload)
		if err != nil {
			return err
		}
		if t != msgAck || c.stream == Stdin {
			return fmt.Errorf("%w: message %d in output", errProtocol, t)
		}
		if err := s.Output.ack(c.stream, c.offset); err != nil {
			return err
		}
	}
}

func (s *Server) events(ctx context.Context, stream *yamux.Stream) error {
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _, _ = readMessage(stream) // the host says no more: this ends with the stream
	}()
	for n := 0; ; {
		events, changed := s.Events.since(n)
		for _, e := range events {
			if err := writeJSON(stream, msgEvent, e); err != nil {
				return err
			}
			if e.final() {
				return reply(stream, nil)
			}
		}
		if len(events) > 0 {
			n = events[len(events)-1].Seq + 1
		}
		select {
		case <-changed:
		case <-gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// muxBacklog is how many streams may wait to be accepted.
const muxBacklog = 256

func muxConfig() *yamux.Config {
	return &yamux.Config{
		AcceptBacklog: muxBacklog,
		// A guest may be paused for long, and the link below tells the ends
		// when the other has gone; so nothing here gives up by the clock
		// except a write that nobody takes.
		EnableKeepAlive:        false,
		KeepAliveInterval:      time.Minute,
		ConnectionWriteTimeout: time.Minute,
		MaxStreamWindowSize:    256 << 10,
		StreamOpenTimeout:      0,
		StreamCloseTimeout:     time.Minute,
		LogOutput:              io.Discard,
	}
}

// closedByPeer tells the normal end of a stream or session from trouble.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, yamux.ErrSessionShutdown) ||
		errors.Is(err, yamux.ErrStreamClosed) || errors.Is(err, ErrDisconnected) ||
		errors.Is(err, yamux.ErrConnectionReset)
}
