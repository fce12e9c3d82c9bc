package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/api"
)

// Exec runs a process in a server, beside its entrypoint, and returns how it
// ended. The end of ctx ends the process.
func (c *Client) Exec(ctx context.Context, ref string, req agent.ExecRequest, streams agent.ExecIO) (agent.Exit, error) {
	req.Stdin = streams.Stdin != nil
	return c.process(ctx, server(ref)+"/exec", req, streams)
}

// Attach copies stdin to a server's entrypoint, which must have been given an
// input, until that has ended; its output is read with [Client.Output].
func (c *Client) Attach(ctx context.Context, ref string, req agent.AttachRequest, stdin io.Reader, resize <-chan agent.WindowSize) error {
	_, err := c.process(ctx, server(ref)+"/attach", req, agent.ExecIO{Stdin: stdin, Resize: resize})
	return err
}

// process speaks api.ProcessProtocol over a connection of its own.
func (c *Client) process(ctx context.Context, path string, req any, streams agent.ExecIO) (agent.Exit, error) {
	conn, r, err := c.upgrade(ctx, path)
	if err != nil {
		return agent.Exit{}, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	b, err := json.Marshal(req)
	if err != nil {
		return agent.Exit{}, err
	}
	if err := api.WriteMessage(conn, api.MessageRequest, b); err != nil {
		return agent.Exit{}, err
	}
	var mu sync.Mutex
	ended := make(chan struct{})
	defer close(ended)
	if streams.Stdin != nil {
		go func() {
			_, _ = io.Copy(api.NewMessageWriter(conn, &mu, api.MessageStdin), streams.Stdin)
			mu.Lock()
			defer mu.Unlock()
			_ = api.WriteMessage(conn, api.MessageStdin, nil)
		}()
	}
	go sendControl(conn, &mu, streams, ended)
	exit, err := receive(r, streams)
	if ctx.Err() != nil {
		return exit, ctx.Err()
	}
	return exit, err
}

// upgrade makes a request whose connection then belongs to the caller.
func (c *Client) upgrade(ctx context.Context, path string) (net.Conn, *bufio.Reader, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("ask the engine: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://engine"+api.Prefix+path, http.NoBody)
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", api.ProcessProtocol)
	if err := req.Write(conn); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask the engine: %w", err), conn.Close())
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("ask the engine: %w", err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		return nil, nil, errors.Join(failure(resp), conn.Close())
	}
	return conn, r, nil
}

// sendControl sends resizes and signals until the process has ended.
func sendControl(w io.Writer, mu *sync.Mutex, streams agent.ExecIO, ended <-chan struct{}) {
	send := func(m api.Message, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		_ = api.WriteMessage(w, m, b)
	}
	for {
		select {
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
func receive(r io.Reader, streams agent.ExecIO) (agent.Exit, error) {
	for {
		m, data, err := api.ReadMessage(r)
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
