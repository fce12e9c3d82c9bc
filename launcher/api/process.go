package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
)

func (a *API) execServer(w http.ResponseWriter, r *http.Request) error {
	return a.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		var req agent.ExecRequest
		if err := p.request(&req); err != nil {
			return nil, err
		}
		streams := agent.ExecIO{
			Stdout:  NewMessageWriter(p.conn, MessageStdout),
			Stderr:  NewMessageWriter(p.conn, MessageStderr),
			Resize:  p.resize,
			Signals: p.signals,
			Detach:  p.detach,
		}
		if req.Stdin {
			streams.Stdin = p.stdin
		} else {
			_ = p.stdin.Close() // or what is sent for it would hold up all else
		}
		go p.receive(ctx)
		exit, err := a.manager.Exec(ctx, ref, req, streams)
		return &exit, err
	})
}

func (a *API) attachServer(w http.ResponseWriter, r *http.Request) error {
	return a.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		var req agent.AttachRequest
		if err := p.request(&req); err != nil {
			return nil, err
		}
		go p.receive(ctx)
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			select {
			case <-p.detach:
				cancel(launcher.ErrDetached)
			case <-ctx.Done():
			}
		}()
		err := a.manager.Attach(ctx, ref, req, p.stdin, p.resize)
		if errors.Is(err, launcher.ErrDetached) {
			return &agent.Exit{Detached: true}, nil
		}
		return &agent.Exit{}, err
	})
}

// CopyBody is the request that begins a copy: what to copy, or the directory to
// extract into.
type CopyBody struct {
	Path   string `json:"path"`
	Follow bool   `json:"follow,omitempty"` // copy what a link leads to
}

// copyFromServer sends a tar stream as MessageStdout.
func (a *API) copyFromServer(w http.ResponseWriter, r *http.Request) error {
	return a.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		var req CopyBody
		if err := p.request(&req); err != nil {
			return nil, err
		}
		go p.receive(ctx)
		return &agent.Exit{}, a.manager.CopyFrom(ctx, ref, req.Path, req.Follow, NewMessageWriter(p.conn, MessageStdout))
	})
}

// copyToServer takes a tar stream as MessageStdin.
func (a *API) copyToServer(w http.ResponseWriter, r *http.Request) error {
	return a.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		var req CopyBody
		if err := p.request(&req); err != nil {
			return nil, err
		}
		go p.receive(ctx)
		return &agent.Exit{}, a.manager.CopyTo(ctx, ref, req.Path, p.stdin)
	})
}

func (a *API) statFile(w http.ResponseWriter, r *http.Request) error {
	info, err := a.manager.Stat(r.Context(), r.PathValue("server"), r.URL.Query().Get("path"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

func (a *API) serverStats(w http.ResponseWriter, r *http.Request) error {
	stats, err := a.manager.Stats(r.Context(), r.PathValue("server"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, stats)
}

func (a *API) serverTop(w http.ResponseWriter, r *http.Request) error {
	list, err := a.manager.Top(r.Context(), r.PathValue("server"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *API) freezeServer(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.manager.Freeze(r.Context(), r.PathValue("server")))
}

func (a *API) thawServer(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.manager.Thaw(r.Context(), r.PathValue("server")))
}

// done answers a request that has no result.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// process upgrades a request's connection and runs a process over it.
func (a *API) process(w http.ResponseWriter, r *http.Request, run func(context.Context, string, *peer) (*agent.Exit, error)) error {
	srv, err := a.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	conn, err := a.upgrade(ctx, w, r)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	p := newPeer(conn, cancel)
	defer p.close()
	exit, err := run(ctx, srv.ID, p)
	if err != nil {
		e, _ := asError(guestError(err))
		b, _ := json.Marshal(e)
		return conn.Send(MessageError, b)
	}
	b, _ := json.Marshal(exit)
	return conn.Send(MessageExit, b)
}

// upgradeStream makes a connection of messages of a request on the engine's socket.
func upgradeStream(_ context.Context, w http.ResponseWriter, r *http.Request) (Conn, error) {
	if r.Header.Get("Upgrade") != ProcessProtocol {
		return nil, &Error{"invalid", "ask for an upgrade to " + ProcessProtocol}
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n",
		http.StatusSwitchingProtocols, http.StatusText(http.StatusSwitchingProtocols), ProcessProtocol)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return NewStreamConn(conn, buffered.Reader), nil
}

// guestError puts the kinds of a guest's errors into the launcher's.
func guestError(err error) error {
	for from, to := range map[error]error{
		agent.ErrInvalid: launcher.ErrInvalid, agent.ErrNotFound: launcher.ErrNotFound,
		agent.ErrNotRunning: launcher.ErrConflict,
		agent.ErrOlder:      launcher.ErrConflict, agent.ErrBusy: launcher.ErrUnavailable,
		agent.ErrDisconnected: launcher.ErrUnavailable,
	} {
		if errors.Is(err, from) {
			return fmt.Errorf("%w: %w", to, err)
		}
	}
	return err
}

// peer is the client's end of a process, as the service sees it.
type peer struct {
	conn Conn
	gone func()

	stdin   *io.PipeReader
	feed    *io.PipeWriter
	resize  chan agent.WindowSize
	signals chan int
	detach  chan struct{} // closed when the client wants to leave
}

func newPeer(c Conn, gone func()) *peer {
	p := &peer{conn: c, gone: gone, resize: make(chan agent.WindowSize), signals: make(chan int), detach: make(chan struct{})}
	p.stdin, p.feed = io.Pipe()
	return p
}

func (p *peer) close() { _ = p.stdin.Close() }

func (p *peer) request(v any) error {
	m, data, err := p.conn.Receive()
	if err != nil {
		return err
	}
	if m != MessageRequest {
		return &Error{"invalid", "the first message is no request"}
	}
	if err := json.Unmarshal(data, v); err != nil {
		return &Error{"invalid", "request: " + err.Error()}
	}
	return nil
}

// receive passes on what the client sends, until it goes, which ends the process.
func (p *peer) receive(ctx context.Context) {
	defer p.gone()
	for detached := false; ; {
		m, data, err := p.conn.Receive()
		if err != nil {
			return
		}
		switch m {
		case MessageStdin:
			if len(data) == 0 {
				_ = p.feed.Close()
			} else if _, err := p.feed.Write(data); err != nil {
				continue // the process reads no more
			}
		case MessageResize:
			var size agent.WindowSize
			if json.Unmarshal(data, &size) == nil {
				pass(ctx, p.resize, size)
			}
		case MessageSignal:
			var n int
			if json.Unmarshal(data, &n) == nil {
				pass(ctx, p.signals, n)
			}
		case MessageDetach:
			if !detached {
				detached = true
				_, _ = p.feed.Write(nil) // until all that came before has been passed on
				close(p.detach)
			}
		default:
			return
		}
	}
}

func pass[T any](ctx context.Context, to chan<- T, v T) {
	select {
	case to <- v:
	case <-ctx.Done():
	}
}
