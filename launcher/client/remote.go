package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/coder/websocket"

	"github.com/slipway-vm/slipway/launcher/api"
)

// NewRemote makes a client of a network service, which has a part of what an engine
// has for its own host. The URL is that of the API in the catalog, and requester
// authenticates what it sends.
func NewRemote(base string, requester *http.Client) *Client {
	c := &Client{http: requester, base: strings.TrimSuffix(base, "/"), remote: true}
	c.open = c.socket
	return c
}

// Remote reports whether the client speaks to a network service.
func (c *Client) Remote() bool { return c.remote }

// socket opens a websocket at a path.
func (c *Client) socket(ctx context.Context, path string) (api.Conn, error) {
	ws, resp, err := websocket.Dial(ctx, c.base+path, &websocket.DialOptions{
		HTTPClient: c.http, Subprotocols: []string{api.ProcessProtocol},
	})
	if err == nil {
		return api.NewSocketConn(ctx, ws), nil
	}
	if resp != nil && resp.StatusCode >= http.StatusBadRequest && resp.Body != nil {
		return nil, failure(resp)
	}
	return nil, unreached(err)
}

// unreached words the failure of a request that was not answered.
func unreached(err error) error {
	var uerr *url.Error
	if errors.As(err, &uerr) {
		err = uerr.Err
	}
	return fmt.Errorf("ask the engine: %w", err)
}
