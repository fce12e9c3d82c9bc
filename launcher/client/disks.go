package client

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
)

// ExportFacts says what an export would be.
func (c *Client) ExportFacts(ctx context.Context, body api.DiskBody) (launcher.Export, error) {
	var e launcher.Export
	body.Part = api.PartFacts
	resp, err := c.do(ctx, http.MethodPost, "/disks", nil, body)
	if err != nil {
		return e, err
	}
	defer func() { _ = resp.Body.Close() }()
	return e, json.NewDecoder(resp.Body).Decode(&e)
}

// Preload gives a disk of images, which the caller closes, and its size.
func (c *Client) Preload(ctx context.Context, spec launcher.PreloadSpec) (io.ReadCloser, int64, error) {
	resp, err := c.do(ctx, http.MethodPost, "/preloads", nil, spec)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// Export gives a part of an exported disk, which the caller closes, and its size.
func (c *Client) Export(ctx context.Context, body api.DiskBody) (io.ReadCloser, int64, error) {
	resp, err := c.do(ctx, http.MethodPost, "/disks", nil, body)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}
