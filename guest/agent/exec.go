package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/yamux"
)

// ExecRequest is a process to be run beside the entrypoint: in its namespaces,
// with its environment and then Env.
type ExecRequest struct {
	Args []string   `json:"args"`
	Env  []string   `json:"env,omitempty"`
	User string     `json:"user,omitempty"` // as guest.Spec.User; empty means the entrypoint's
	Dir  string     `json:"dir,omitempty"`  // empty means the entrypoint's
	TTY  bool       `json:"tty,omitempty"`
	Size WindowSize `json:"size,omitzero"` // of the terminal, zero for the default
	// Stdin is set by the client: without it the process reads /dev/null.
	Stdin bool `json:"stdin,omitempty"`
	// Detach leaves the process to itself once it runs, its output thrown away.
	Detach bool `json:"detach,omitempty"`
	// Privileged gives the process all capabilities, whatever the entrypoint has.
	Privileged bool `json:"privileged,omitempty"`
}

// WindowSize is a terminal's.
type WindowSize struct {
	Rows    uint16 `json:"rows"`
	Columns uint16 `json:"columns"`
}

// ExecIO is what the host's side of a process is connected to. Nil fields are
// left out: no input, output thrown away, no resizes, no signals.
type ExecIO struct {
	// Stdin is copied to the process, whose input is closed at its end. It is
	// read by a goroutine that lasts until Stdin returns from a Read.
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer // stays empty with a terminal
	Resize  <-chan WindowSize
	Signals <-chan int
	Detach  <-chan struct{} // lets the process run on by itself
}

// Process is a process in the guest, as Control makes it.
type Process interface {
	// Stdin is nil where the process has none to be written.
	Stdin() io.WriteCloser
	// Outputs are stdout and stderr, or a terminal and nil. They end at the
	// latest when the process has ended and what it had written is read.
	Outputs() [2]io.Reader
	Signal(sig int) error
	Resize(size WindowSize) error
	// Wait returns when the process has ended.
	Wait() Exit
	// Close kills a process that still runs and frees what it holds.
	Close()
}

// StartError says that a process could not be started for a reason that lies
// in the request or the root, with the exit status that stands for it.
type StartError struct {
	Code    int
	Message string
}

func (e *StartError) Error() string { return e.Message }

// Exec runs a process and returns how it ended; Exit.Err tells why one was not
// started. When ctx is done or the session ends, the process is killed, unless it
// is detached.
func (c *Client) Exec(ctx context.Context, req ExecRequest, streams ExecIO) (Exit, error) {
	if req.Detach || req.Privileged {
		if err := c.requires(versionDetach); err != nil {
			return Exit{}, fmt.Errorf("execute %q: %w", req.Args, err)
		}
	}
	req.Stdin = streams.Stdin != nil
	stream, stop, err := c.open(ctx, methodExec, req)
	if err != nil {
		return Exit{}, fmt.Errorf("execute %q: %w", req.Args, err)
	}
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	send := &sender{w: stream}
	if streams.Stdin != nil {
		go func() { _ = send.copy(Stdin, streams.Stdin) }()
	}
	go send.control(streams, ended)
	if streams.Detach != nil && c.requires(versionDetach) == nil {
		go func() {
			select {
			case <-streams.Detach:
				_ = send.message(msgDetach, nil)
			case <-ended:
			}
		}()
	}
	exit, err := receiveProcess(stream, streams.Stdout, streams.Stderr)
	if err != nil {
		return Exit{}, fmt.Errorf("execute %q: %w", req.Args, c.explain(ctx, err))
	}
	return exit, nil
}

// receiveProcess takes a process's output until its exit.
func receiveProcess(stream io.Reader, stdout, stderr io.Writer) (Exit, error) {
	sinks := map[Stream]io.Writer{Stdout: stdout, Stderr: stderr}
	messages := messageReader{r: stream}
	for {
		t, payload, err := messages.next()
		if err != nil {
			return Exit{}, err
		}
		switch t {
		case msgReply:
			return decodeJSON[Exit](payload)
		case msgError:
			return Exit{}, decodeError(payload)
		case msgData:
			piece, err := decodeChunk(payload)
			if err != nil {
				return Exit{}, err
			}
			if w := sinks[piece.stream]; w != nil {
				if _, err := w.Write(piece.data); err != nil {
					return Exit{}, err
				}
			}
		default:
			return Exit{}, fmt.Errorf("%w: message %d from a process", errProtocol, t)
		}
	}
}

// sender writes messages of several goroutines to one stream.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) message(t messageType, payload []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return writeMessage(s.w, t, payload)
}

// raw sends a message that is complete with its header.
func (s *sender) raw(message []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.w.Write(message)
	return err
}

func (s *sender) json(t messageType, v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return writeJSON(s.w, t, v)
}

// copy sends what r gives as data of the stream, and its end.
func (s *sender) copy(st Stream, r io.Reader) error {
	end, readErr, err := s.data(st, r)
	if err != nil {
		return err
	}
	endErr := s.message(msgEnd, end.encode())
	if errors.Is(readErr, io.EOF) {
		return endErr
	}
	return readErr
}

// data sends what r gives until that fails, with io.EOF too, or sending does. The
// chunk that follows is the one that could mark the end.
func (s *sender) data(st Stream, r io.Reader) (next chunk, readErr, sendErr error) {
	buf := make([]byte, roomForData+maxData)
	for next.stream = st; ; {
		n, err := r.Read(buf[roomForData:])
		if n > 0 {
			if sendErr := s.raw(putData(buf[:roomForData+n], st, next.offset)); sendErr != nil {
				return next, nil, sendErr
			}
			next.offset += int64(n)
		}
		if err != nil {
			return next, err, nil
		}
	}
}

func (s *sender) control(streams ExecIO, ended <-chan struct{}) {
	for resize, signals := streams.Resize, streams.Signals; ; {
		var err error
		select {
		case size, ok := <-resize:
			if !ok {
				resize = nil
				continue
			}
			err = s.json(msgResize, size)
		case sig, ok := <-signals:
			if !ok {
				signals = nil
				continue
			}
			err = s.json(msgSignal, signalParams{Signal: sig})
		case <-ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// exec is the guest's side of Exec.
func (s *Server) exec(ctx context.Context, stream *yamux.Stream, req ExecRequest) error {
	p, err := s.Control.Exec(req)
	var start *StartError
	if errors.As(err, &start) {
		return writeJSON(stream, msgReply, Exit{Code: start.Code, Err: start.Message})
	}
	if err != nil {
		return err
	}
	if req.Detach {
		go outlive(p, p.Outputs())
		return writeJSON(stream, msgReply, Exit{Detached: true})
	}
	// The host's messages end when it has gone, and then so does the process,
	// unless the host has let it go.
	detached := make(chan struct{})
	end := func() {
		select {
		case <-detached:
		default:
			p.Close()
		}
	}
	go func() {
		if feedProcess(stream, p) {
			close(detached)
		}
		end()
	}()
	stop := context.AfterFunc(ctx, end)
	defer stop()
	send := &sender{w: stream}
	var outputs sync.WaitGroup
	for i, r := range p.Outputs() {
		if r == nil {
			continue
		}
		outputs.Go(func() {
			// A process's output ends in several ways, and its end goes without
			// saying: the reply stands for it.
			if _, _, err := send.data(Stdout+Stream(i), r); err != nil {
				end()
				_, _ = io.Copy(io.Discard, r)
			}
		})
	}
	ended := make(chan Exit, 1)
	go func() {
		exit := p.Wait()
		outputs.Wait()
		p.Close()
		ended <- exit
	}()
	select {
	case exit := <-ended:
		return send.json(msgReply, exit)
	case <-detached:
		return send.json(msgReply, Exit{Detached: true})
	}
}

// outlive stays with a detached process to its end.
func outlive(p Process, outputs [2]io.Reader) {
	defer p.Close()
	var read sync.WaitGroup
	for _, r := range outputs {
		if r != nil {
			read.Go(func() { _, _ = io.Copy(io.Discard, r) })
		}
	}
	p.Wait()
	read.Wait()
}

// feedProcess hands the host's messages to a process, until they end or say that
// the process is to run on by itself.
func feedProcess(stream io.Reader, p Process) (detached bool) {
	stdin := p.Stdin()
	messages := messageReader{r: stream}
	for {
		t, payload, err := messages.next()
		if err != nil {
			return false
		}
		switch t {
		case msgDetach:
			return true
		case msgData:
			piece, err := decodeChunk(payload)
			if err != nil {
				return false
			}
			if stdin == nil {
				continue
			}
			if _, err := stdin.Write(piece.data); err != nil {
				stdin = nil // the process has closed its input
			}
		case msgEnd:
			if stdin != nil {
				stdin.Close()
				stdin = nil
			}
		case msgResize:
			if size, err := decodeJSON[WindowSize](payload); err == nil {
				_ = p.Resize(size)
			}
		case msgSignal:
			if sig, err := decodeJSON[signalParams](payload); err == nil {
				_ = p.Signal(sig.Signal)
			}
		}
	}
}

// AttachRequest asks for the entrypoint's input.
type AttachRequest struct {
	Size WindowSize `json:"size,omitzero"`
}

// Attach copies stdin to the entrypoint, and closes the entrypoint's input at
// its end, until the entrypoint has ended, ctx is done or the session ends.
// Output comes by Output. The entrypoint must have been given an input
// (guest.Spec.Stdin).
func (c *Client) Attach(ctx context.Context, req AttachRequest, stdin io.Reader, resize <-chan WindowSize) error {
	stream, stop, err := c.open(ctx, methodAttach, req)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	send := &sender{w: stream}
	if stdin != nil {
		go func() { _ = send.copy(Stdin, stdin) }()
	}
	go send.control(ExecIO{Resize: resize}, ended)
	if _, err := receiveProcess(stream, nil, nil); err != nil {
		return fmt.Errorf("attach: %w", c.explain(ctx, err))
	}
	return nil
}

// attach is the guest's side of Attach. The entrypoint outlives it.
func (s *Server) attach(ctx context.Context, stream *yamux.Stream, req AttachRequest) error {
	p, err := s.Control.Attach()
	if err != nil {
		return err
	}
	if req.Size != (WindowSize{}) {
		_ = p.Resize(req.Size)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		feedProcess(stream, p)
	}()
	ended := make(chan Exit, 1)
	go func() { ended <- p.Wait() }()
	select {
	case exit := <-ended:
		return writeJSON(stream, msgReply, exit)
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
