//go:build guest

package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// hub is a registry on the loopback interface, spoken to over http. What goes
// through it can be watched, held up and falsified.
type hub struct {
	host     string
	registry http.Handler

	mu   sync.Mutex
	wrap func(next http.Handler) http.Handler // nil: nothing
	seen []string                             // the paths that were asked for
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{registry: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	h.host = strings.TrimPrefix(server.URL, "http://")
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	next := h.registry
	if h.wrap != nil {
		next = h.wrap(next)
	}
	h.seen = append(h.seen, r.Method+" "+r.URL.Path)
	h.mu.Unlock()
	next.ServeHTTP(w, r)
}

// through sets what requests go through from now on.
func (h *hub) through(wrap func(http.Handler) http.Handler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrap, h.seen = wrap, nil
}

// asked counts the requests whose path contains s since the last call of through.
func (h *hub) asked(s string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, path := range h.seen {
		if strings.Contains(path, s) {
			n++
		}
	}
	return n
}

// push stores an image and returns its reference.
func (h *hub) push(t *testing.T, repository string, img v1.Image, options ...remote.Option) string {
	t.Helper()
	ref, err := name.ParseReference(h.host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, options...); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

// stuck holds up the requests whose path contains part: for an answer without a
// body before it begins, for one with a body in its middle. It lets go when the
// test or the client ends.
func stuck(t *testing.T, part string) func(http.Handler) http.Handler {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, part) {
				next.ServeHTTP(w, r)
				return
			}
			hold := func() {
				select {
				case <-done:
				case <-r.Context().Done():
				}
			}
			if r.Method != http.MethodGet || !strings.Contains(part, "blobs") {
				hold()
				return
			}
			next.ServeHTTP(&halfway{ResponseWriter: w, hold: hold, left: 100}, r)
		})
	}
}

// halfway passes on the beginning of a body and then holds.
type halfway struct {
	http.ResponseWriter
	hold func()
	left int
}

func (h *halfway) Write(b []byte) (int, error) {
	n, err := h.ResponseWriter.Write(b[:min(len(b), h.left)])
	if h.left -= n; err != nil || h.left > 0 {
		return n, err
	}
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	h.hold()
	return n, io.ErrClosedPipe
}
