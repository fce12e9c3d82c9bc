package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
)

// Images lists the images that are ready.
func (c *Client) Images(ctx context.Context) ([]launcher.Image, error) {
	var list []launcher.Image
	return list, c.call(ctx, http.MethodGet, "/images", nil, nil, &list)
}

// Image returns one image.
func (c *Client) Image(ctx context.Context, ref string) (launcher.Image, error) {
	var img launcher.Image
	return img, c.call(ctx, http.MethodGet, "/image", url.Values{"ref": {ref}}, nil, &img)
}

// SaveImage gives an image as a tar file, under a name or its own, and its size. The
// caller closes it.
func (c *Client) SaveImage(ctx context.Context, ref, name string) (io.ReadCloser, int64, error) {
	q := url.Values{"ref": {ref}}
	if name != "" {
		q.Set("name", name)
	}
	resp, err := c.do(ctx, http.MethodGet, "/image/file", q, nil)
	if err != nil {
		return nil, 0, err
	}
	return resp.Body, resp.ContentLength, nil
}

// DeleteImage removes an image; force, also one that servers were made from.
func (c *Client) DeleteImage(ctx context.Context, ref string, force bool) error {
	q := url.Values{"ref": {ref}}
	if force {
		q.Set("force", "true")
	}
	return c.call(ctx, http.MethodDelete, "/image", q, nil, nil)
}

// PruneImages removes what nothing uses; all, also images without servers.
func (c *Client) PruneImages(ctx context.Context, all bool) (launcher.Pruned, error) {
	var p launcher.Pruned
	return p, c.call(ctx, http.MethodPost, "/images/prune", nil, api.PruneBody{All: all}, &p)
}

// VerifyImage compares all that is kept of an image with its digests.
func (c *Client) VerifyImage(ctx context.Context, ref string) error {
	return c.call(ctx, http.MethodPost, "/images/verify", url.Values{"ref": {ref}}, nil, nil)
}

// Pull makes an image ready, and tells how far it is.
func (c *Client) Pull(ctx context.Context, body api.PullBody, progress func(launcher.PullProgress)) (launcher.Image, error) {
	resp, err := c.do(ctx, http.MethodPost, "/images/pull", nil, body)
	if err != nil {
		return launcher.Image{}, err
	}
	return receivePull(resp, progress)
}

// Load is Pull for an archive, which it reads to its end; ref is docker-archive:- or
// oci-archive:-, and perhaps a tag.
func (c *Client) Load(ctx context.Context, ref string, archive io.Reader, progress func(launcher.PullProgress)) (launcher.Image, error) {
	resp, err := c.send(ctx, http.MethodPost, "/images/load", url.Values{"ref": {ref}}, archive)
	if err != nil {
		return launcher.Image{}, err
	}
	return receivePull(resp, progress)
}

func receivePull(resp *http.Response, progress func(launcher.PullProgress)) (launcher.Image, error) {
	defer func() { _ = resp.Body.Close() }()
	for in := json.NewDecoder(resp.Body); ; {
		var e api.PullEvent
		switch err := in.Decode(&e); {
		case err != nil:
			return launcher.Image{}, fmt.Errorf("pull: the engine has gone: %w", err)
		case e.Error != nil:
			return launcher.Image{}, e.Error
		case e.Image != nil:
			return *e.Image, nil
		case e.Progress != nil:
			progress(*e.Progress)
		}
	}
}

// Push stores an image elsewhere, and tells how far it is.
func (c *Client) Push(ctx context.Context, body api.PushBody, progress func(launcher.PullProgress)) (images.Pushed, error) {
	resp, err := c.do(ctx, http.MethodPost, "/images/push", nil, body)
	if err != nil {
		return images.Pushed{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	for in := json.NewDecoder(resp.Body); ; {
		var e api.PushEvent
		switch err := in.Decode(&e); {
		case err != nil:
			return images.Pushed{}, fmt.Errorf("push: the engine has gone: %w", err)
		case e.Error != nil:
			return images.Pushed{}, e.Error
		case e.Pushed != nil:
			return *e.Pushed, nil
		case e.Progress != nil:
			progress(*e.Progress)
		}
	}
}

// Kernels lists the guest kernels.
func (c *Client) Kernels(ctx context.Context) ([]api.Kernel, error) {
	var list []api.Kernel
	return list, c.call(ctx, http.MethodGet, "/kernels", nil, nil, &list)
}

// ImportKernel imports a kernel from an absolute path. A network service is sent the
// file.
func (c *Client) ImportKernel(ctx context.Context, file string) (api.Kernel, error) {
	var k api.Kernel
	if c.remote {
		f, err := os.Open(file)
		if err != nil {
			return k, err
		}
		defer func() { _ = f.Close() }()
		resp, err := c.send(ctx, http.MethodPost, "/kernels/import", url.Values{"name": {filepath.Base(file)}}, f)
		if err != nil {
			return k, err
		}
		defer func() { _ = resp.Body.Close() }()
		return k, json.NewDecoder(resp.Body).Decode(&k)
	}
	return k, c.call(ctx, http.MethodPost, "/kernels/import", nil, api.ImportBody{File: file}, &k)
}

// SetDefaultKernel chooses the kernel of servers that do not name one.
func (c *Client) SetDefaultKernel(ctx context.Context, ref string) (api.Kernel, error) {
	var k api.Kernel
	return k, c.call(ctx, http.MethodPost, "/kernels/default", nil, api.DefaultBody{Kernel: ref}, &k)
}
