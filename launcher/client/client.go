// Package client speaks to an engine over its socket, and starts one where none
// runs.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// Client is a connection to one engine. Its methods may be called at once.
type Client struct {
	http *http.Client
	base string // URL of the API
	// remote says that it is the network's.
	remote bool
	dial   func(context.Context) (net.Conn, error)
	// open makes a connection of messages at a path.
	open func(ctx context.Context, path string) (api.Conn, error)
}

// New makes a client of the engine at a socket; it does not connect yet.
func New(socket string) *Client {
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression: true,
	}
	c := &Client{http: &http.Client{Transport: transport}, base: "http://engine" + api.Prefix, dial: dial}
	c.open = c.upgrade
	return c
}

// do makes a request; a status of 400 and more becomes an *api.Error.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(b)
	}
	return c.send(ctx, method, path, query, send)
}

// send makes a request with any body.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := c.base + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreached(err)
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, failure(resp)
}

// failure reads the error that the engine answered with.
func failure(resp *http.Response) error {
	var e api.ErrorBody
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Error == nil {
		return fmt.Errorf("the engine answered %s", resp.Status)
	}
	return e.Error
}

// call makes a request whose answer is one JSON value, decoded into result unless
// that is nil.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, result any) error {
	resp, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if result == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(result)
}

func server(ref string) string { return "/servers/" + url.PathEscape(ref) }

// Info describes the engine.
func (c *Client) Info(ctx context.Context) (api.Info, error) {
	var info api.Info
	return info, c.call(ctx, http.MethodGet, "/info", nil, nil, &info)
}

// Servers lists all servers, oldest first.
func (c *Client) Servers(ctx context.Context) ([]launcher.Server, error) {
	var list []launcher.Server
	return list, c.call(ctx, http.MethodGet, "/servers", nil, nil, &list)
}

// Server returns the server with an ID or name.
func (c *Client) Server(ctx context.Context, ref string) (launcher.Server, error) {
	var srv launcher.Server
	return srv, c.call(ctx, http.MethodGet, server(ref), nil, nil, &srv)
}

// Create begins to boot a server.
func (c *Client) Create(ctx context.Context, body api.CreateBody) (launcher.Server, error) {
	var srv launcher.Server
	return srv, c.call(ctx, http.MethodPost, "/servers", nil, body, &srv)
}

// Set changes a server.
func (c *Client) Set(ctx context.Context, ref string, body api.SetBody) error {
	return c.call(ctx, http.MethodPatch, server(ref), nil, body, nil)
}

// RootModes lists the ways in which a root reaches its guest.
func (c *Client) RootModes(ctx context.Context) ([]rootfs.Mode, error) {
	var list []rootfs.Mode
	return list, c.call(ctx, http.MethodGet, "/root-modes", nil, nil, &list)
}

// Delete ends a server at once and removes it.
func (c *Client) Delete(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, server(ref), nil, nil, nil)
}

// Start boots a stopped server; [Client.Watch] tells how that goes.
func (c *Client) Start(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/start", nil, nil, nil)
}

// Stop stops a server and returns when it has stopped. A nil grace is the
// server's own.
func (c *Client) Stop(ctx context.Context, ref string, grace *time.Duration) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/stop", nil, api.StopBody{Grace: grace}, nil)
}

// Reboot ends a server's entrypoint, hard or as Stop does, and begins to boot the
// server again; one that has stopped is started. [Client.Watch] tells how that goes.
func (c *Client) Reboot(ctx context.Context, ref string, hard bool) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/reboot", nil, api.RebootBody{Hard: hard}, nil)
}

// Pause holds a server's processors until [Client.Unpause].
func (c *Client) Pause(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/pause", nil, nil, nil)
}

// Unpause lets a paused server go on.
func (c *Client) Unpause(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/unpause", nil, nil, nil)
}

// Signal sends a signal to a server's entrypoint.
func (c *Client) Signal(ctx context.Context, ref, signal string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/signal", nil, api.SignalBody{Signal: signal}, nil)
}

// Watch calls see with the server as it is and at each change, until see says
// that it has seen enough, or the server has been deleted.
func (c *Client) Watch(ctx context.Context, ref string, see func(launcher.Server) (enough bool)) error {
	resp, err := c.do(ctx, http.MethodGet, server(ref)+"/watch", nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for in := json.NewDecoder(resp.Body); ; {
		var srv launcher.Server
		if err := in.Decode(&srv); err != nil {
			return fmt.Errorf("watch server: the engine has gone: %w", err)
		}
		if see(srv) || srv.VMState == launcher.VMDeleted {
			return nil
		}
	}
}

// OutputQuery says which output to read; see [output.Query].
type OutputQuery struct {
	Stream string // stdout or stderr; both where empty
	Run    string // "latest"; all where empty
	Since  time.Time
	Until  time.Time
	Tail   string // a number of lines; all where empty
	Follow bool
	Hold   bool // nothing is dropped unread: the entrypoint waits instead
}

func (q OutputQuery) values() url.Values {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	set("stream", q.Stream)
	set("run", q.Run)
	set("tail", q.Tail)
	setTimes(v, map[string]time.Time{"since": q.Since, "until": q.Until})
	for name, on := range map[string]bool{"follow": q.Follow, "hold": q.Hold} {
		if on {
			v.Set(name, "true")
		}
	}
	return v
}

// setTimes adds the times that are not zero to a query.
func setTimes(v url.Values, times map[string]time.Time) {
	for name, at := range times {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
}

// Output reads what a server's entrypoint has written.
func (c *Client) Output(ctx context.Context, ref string, q OutputQuery, emit func(output.Record) error) error {
	resp, err := c.do(ctx, http.MethodGet, server(ref)+"/output", q.values(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for {
		rec, err := api.ReadFrame(resp.Body)
		if errors.Is(err, io.EOF) {
			return nil
		}
		var failed *api.Error
		if errors.As(err, &failed) {
			return fmt.Errorf("read output: %w", failed)
		}
		if err != nil {
			return fmt.Errorf("read output: the engine has gone: %w", err)
		}
		if err := emit(rec); err != nil {
			return err
		}
	}
}

// Console copies the end of a server's console log to w.
func (c *Client) Console(ctx context.Context, ref string, w io.Writer) error {
	resp, err := c.do(ctx, http.MethodGet, server(ref)+"/console", nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(w, resp.Body)
	return err
}

// FollowConsole copies the end of a server's console log to w, and then what is added
// to it, until its guest has ended.
func (c *Client) FollowConsole(ctx context.Context, ref string, w io.Writer) error {
	conn, err := c.open(ctx, server(ref)+"/console")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, err = receive(conn, agent.ExecIO{Stdout: w})
	return err
}

// Events calls see with what happens to servers, until see says that it has seen
// enough or q.Until has come.
func (c *Client) Events(ctx context.Context, q events.Query, see func(events.Event) error) error {
	filter, err := json.Marshal(q.Filter)
	if err != nil {
		return err
	}
	v := url.Values{"filter": {string(filter)}}
	setTimes(v, map[string]time.Time{"since": q.Since, "until": q.Until})
	resp, err := c.do(ctx, http.MethodGet, "/events", v, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	for in := json.NewDecoder(resp.Body); ; {
		var e events.Event
		err := in.Decode(&e)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: the engine has gone: %w", err)
		}
		if err := see(e); err != nil {
			return err
		}
	}
}

// Freeze stops a server's processes until [Client.Thaw].
func (c *Client) Freeze(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/freeze", nil, nil, nil)
}

// Thaw lets a frozen server's processes run on.
func (c *Client) Thaw(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, server(ref)+"/thaw", nil, nil, nil)
}

// CreateImage makes an image of a server, under a reference.
func (c *Client) CreateImage(ctx context.Context, ref, reference string) (launcher.Image, error) {
	var img launcher.Image
	return img, c.call(ctx, http.MethodPost, server(ref)+"/image", nil, api.ImageBody{Reference: reference}, &img)
}

// Networks lists the networks.
func (c *Client) Networks(ctx context.Context) ([]api.Network, error) {
	var list []api.Network
	return list, c.call(ctx, http.MethodGet, "/networks", nil, nil, &list)
}

// Network returns the network that ref names.
func (c *Client) Network(ctx context.Context, ref string) (api.Network, error) {
	var n api.Network
	return n, c.call(ctx, http.MethodGet, "/networks/"+url.PathEscape(ref), nil, nil, &n)
}

// CreateNetwork makes a network.
func (c *Client) CreateNetwork(ctx context.Context, body api.NetworkBody) (api.Network, error) {
	var n api.Network
	return n, c.call(ctx, http.MethodPost, "/networks", nil, body, &n)
}

// DeleteNetwork removes a network that no server is on.
func (c *Client) DeleteNetwork(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodDelete, "/networks/"+url.PathEscape(ref), nil, nil, nil)
}

// Publish changes what is published of a server.
func (c *Client) Publish(ctx context.Context, ref string, body api.PublishBody) (launcher.Server, error) {
	var s launcher.Server
	return s, c.call(ctx, http.MethodPost, server(ref)+"/publish", nil, body, &s)
}
