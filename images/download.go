package images

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const (
	// A download may break off this often without a byte arriving between.
	maxResumes = 5
	// stall is how long a connection may be silent.
	stall = 30 * time.Second
)

// download reads a blob and, when the connection breaks, goes on where it
// broke off.
type download struct {
	ctx    context.Context
	cancel context.CancelFunc
	client *client
	desc   v1.Descriptor

	body   io.ReadCloser
	silent *time.Timer
	at     int64
	fails  int
	err    error
}

// download starts reading a blob; ctx holds until it is closed. It is kept in
// a struct because io.Reader has no place for it.
func (c *client) download(ctx context.Context, desc v1.Descriptor) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &download{ctx: ctx, cancel: cancel, client: c, desc: desc}
	if err := d.connect(); err != nil {
		cancel()
		return nil, err
	}
	return d, nil
}

func (d *download) connect() error {
	resp, err := d.client.get(d.ctx, d.client.url("blobs", d.desc.Digest.String()), func(r *http.Request) {
		if d.at > 0 {
			r.Header.Set("Range", "bytes="+strconv.FormatInt(d.at, 10)+"-")
		}
	})
	if err != nil {
		return err
	}
	body := resp.Body
	d.silent = time.AfterFunc(stall, func() { body.Close() })
	d.body = body
	if d.at == 0 {
		if n := resp.ContentLength; n >= 0 && n != d.desc.Size {
			d.drop()
			return fmt.Errorf("blob %s: registry sends %d bytes, manifest says %d: %w", d.desc.Digest, n, d.desc.Size, ErrCorrupt)
		}
		return nil
	}
	if resp.StatusCode == http.StatusPartialContent {
		if want := "bytes " + strconv.FormatInt(d.at, 10) + "-"; !strings.HasPrefix(resp.Header.Get("Content-Range"), want) {
			d.drop()
			return fmt.Errorf("%w: %s answers another range than asked for", ErrUnavailable, resp.Request.URL.Host)
		}
		return nil
	}
	// It does not know ranges: what is known is read again.
	if _, err := io.CopyN(io.Discard, d.alive(), d.at); err != nil {
		d.drop()
		return &transientError{error: fmt.Errorf("%w: %w", ErrUnavailable, err)}
	}
	return nil
}

func (d *download) drop() {
	if d.body != nil {
		d.silent.Stop()
		d.body.Close()
		d.body = nil
	}
}

// alive reads the body and notes each sign of life.
func (d *download) alive() io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := d.body.Read(p)
		if n > 0 {
			d.silent.Reset(stall)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (d *download) Read(p []byte) (int, error) {
	for d.err == nil {
		if d.body == nil {
			if d.err = d.resume(); d.err != nil {
				break
			}
		}
		n, err := d.alive().Read(p)
		d.at += int64(n)
		if n > 0 {
			d.fails = 0
		}
		if err == io.EOF && d.at >= d.desc.Size {
			d.err = io.EOF
			return n, d.err
		}
		if err != nil {
			d.drop()
			d.fails++
			if d.fails > maxResumes {
				d.err = fmt.Errorf("%w: %w at byte %d of %d: %w", ErrUnavailable, errInterrupted, d.at, d.desc.Size, err)
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, d.err
}

func (d *download) resume() error {
	wait := firstWait << max(d.fails-1, 0)
	for {
		select {
		case <-d.ctx.Done():
			return d.ctx.Err()
		case <-time.After(wait):
		}
		err := d.connect()
		if err == nil || d.ctx.Err() != nil {
			return err
		}
		if d.fails++; d.fails > maxResumes {
			return fmt.Errorf("%w at byte %d of %d: %w", errInterrupted, d.at, d.desc.Size, err)
		}
		wait *= 2
	}
}

func (d *download) Close() error {
	d.cancel()
	d.drop()
	return nil
}
