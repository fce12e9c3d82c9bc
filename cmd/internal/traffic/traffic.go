// Package traffic stands between a client and an OpenStack's image service, and counts the
// bytes of images that pass: what tests and benchmarks say of pushes and boots.
package traffic

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// Meter passes requests on, and counts.
type Meter struct {
	// URL is the service's in place of its own.
	URL string

	server   *httptest.Server
	up, down atomic.Int64
}

// New makes a meter before the image service at a URL.
func New(to string) (*Meter, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	m := &Meter{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	m.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/file") {
			r.Body = body{r.Body, &m.up}
			w = writer{w, &m.down}
		}
		proxy.ServeHTTP(w, r)
	}))
	m.URL = m.server.URL
	return m, nil
}

// Close ends the meter.
func (m *Meter) Close() { m.server.Close() }

// Moved gives the bytes that have gone to the service and come from it since the last
// call.
func (m *Meter) Moved() (up, down int64) { return m.up.Swap(0), m.down.Swap(0) }

type body struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

type writer struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (w writer) Write(p []byte) (int, error) {
	w.n.Add(int64(len(p)))
	return w.ResponseWriter.Write(p)
}
