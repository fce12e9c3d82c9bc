package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
)

// Exec runs a process in a server, beside its entrypoint, and returns how it
// ended. The end of ctx ends the process.
func (c *Client) Exec(ctx context.Context, ref string, req agent.ExecRequest, streams agent.ExecIO) (agent.Exit, error) {
	req.Stdin = streams.Stdin != nil
	return c.process(ctx, server(ref)+"/exec", req, streams)
}

// Attach copies stdin to a server's entrypoint, which must have been given an
// input, until that has ended or streams.Detach says so; its output is read with
// [Client.Output].
func (c *Client) Attach(ctx context.Context, ref string, req agent.AttachRequest, streams agent.ExecIO) (detached bool, err error) {
	exit, err := c.process(ctx, server(ref)+"/attach", req, streams)
	return exit.Detached, err
}

// Stat describes a file of a server's root.
func (c *Client) Stat(ctx context.Context, ref, path string) (agent.FileInfo, error) {
	var info agent.FileInfo
	return info, c.call(ctx, http.MethodGet, server(ref)+"/file", url.Values{"path": {path}}, nil, &info)
}

// CopyFrom writes a file or tree of a server to w as a tar stream. The stream is
// the guest's: extract it with package guest/archive. With follow, a link is copied
// as what it leads to.
func (c *Client) CopyFrom(ctx context.Context, ref, path string, follow bool, w io.Writer) error {
	_, err := c.process(ctx, server(ref)+"/copy-from", api.CopyBody{Path: path, Follow: follow}, agent.ExecIO{Stdout: w})
	return err
}

// CopyTo extracts a tar stream into a directory of a server. Where r fails, so does
// the copy.
func (c *Client) CopyTo(ctx context.Context, ref, dir string, r io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	_, err := c.process(ctx, server(ref)+"/copy-to", api.CopyBody{Path: dir}, agent.ExecIO{Stdin: failing{r, cancel}})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// failing is a reader whose failure is not taken for its end.
type failing struct {
	io.Reader
	fail context.CancelCauseFunc
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.fail(err)
	}
	return n, err
}

// Stats returns what a server uses.
func (c *Client) Stats(ctx context.Context, ref string) (launcher.Stats, error) {
	var stats launcher.Stats
	return stats, c.call(ctx, http.MethodGet, server(ref)+"/stats", nil, nil, &stats)
}

// Top returns the processes of a server.
func (c *Client) Top(ctx context.Context, ref string) ([]agent.ProcessInfo, error) {
	var list []agent.ProcessInfo
	return list, c.call(ctx, http.MethodGet, server(ref)+"/top", nil, nil, &list)
}

// process speaks api.ProcessProtocol over a connection of its own.
func (c *Client) process(ctx context.Context, path string, req any, streams agent.ExecIO) (agent.Exit, error) {
	conn, err := c.open(ctx, path)
	if err != nil {
		return agent.Exit{}, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	b, err := json.Marshal(req)
	if err != nil {
		return agent.Exit{}, err
	}
	if err := conn.Send(api.MessageRequest, b); err != nil {
		return agent.Exit{}, err
	}
	ended := make(chan struct{})
	defer close(ended)
	if streams.Stdin != nil {
		go func() {
			_, err := io.Copy(api.NewMessageWriter(conn, api.MessageStdin), streams.Stdin)
			if err != nil {
				return // what is not whole has no end
			}
			_ = conn.Send(api.MessageStdin, nil)
		}()
	}
	go sendControl(conn, streams, ended)
	exit, err := receive(conn, streams)
	if ctx.Err() != nil {
		return exit, ctx.Err()
	}
	return exit, err
}

// upgrade makes a request on the engine's socket whose connection then carries
// messages.
func (c *Client) upgrade(ctx context.Context, path string) (api.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the engine: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, http.NoBody)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", api.ProcessProtocol)
	if err := req.Write(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("ask the engine: %w", err), conn.Close())
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ask the engine: %w", err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		return nil, errors.Join(failure(resp), conn.Close())
	}
	return api.NewStreamConn(conn, r), nil
}

// sendControl sends resizes and signals until the process has ended.
func sendControl(conn api.Conn, streams agent.ExecIO, ended <-chan struct{}) {
	send := func(m api.Message, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			return // numbers can be marshalled
		}
		_ = conn.Send(m, b)
	}
	for detach := streams.Detach; ; {
		select {
		case <-detach:
			detach = nil
			send(api.MessageDetach, nil)
		case size := <-streams.Resize:
			send(api.MessageResize, size)
		case n := <-streams.Signals:
			send(api.MessageSignal, n)
		case <-ended:
			return
		}
	}
}

// receive takes output until the process's end.
func receive(conn api.Conn, streams agent.ExecIO) (agent.Exit, error) {
	for {
		m, data, err := conn.Receive()
		if err != nil {
			return agent.Exit{}, fmt.Errorf("the engine has gone: %w", err)
		}
		var w io.Writer
		switch m {
		case api.MessageStdout:
			w = streams.Stdout
		case api.MessageStderr:
			w = streams.Stderr
		case api.MessageExit:
			var exit agent.Exit
			return exit, json.Unmarshal(data, &exit)
		case api.MessageError:
			e := new(api.Error)
			if err := json.Unmarshal(data, e); err != nil {
				return agent.Exit{}, err
			}
			return agent.Exit{}, e
		default:
			return agent.Exit{}, fmt.Errorf("the engine sent a message of kind %d", m)
		}
		if w == nil {
			continue
		}
		if _, err := w.Write(data); err != nil {
			return agent.Exit{}, err
		}
	}
}
