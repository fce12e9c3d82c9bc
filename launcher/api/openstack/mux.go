package openstack

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
)

// Func answers a request. Where it returns an error it must not have begun to.
type Func func(w http.ResponseWriter, r *http.Request) error

// Route is a request that a service answers.
type Route struct {
	Method string
	Path   string // as http.ServeMux has it: "/v2.1/servers/{id}"
	Serve  Func
}

// Mux routes the requests of one service. What leads nowhere, and errors, are
// answered in the service's dialect.
type Mux struct {
	dialect Dialect
	log     *slog.Logger
	mux     *http.ServeMux
}

// NewMux makes a Mux. A nil log discards.
func NewMux(d Dialect, log *slog.Logger, routes []Route) *Mux {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := &Mux{dialect: d, log: log, mux: http.NewServeMux()}
	for _, r := range routes {
		m.mux.Handle(r.Method+" "+r.Path, m.handler(r.Serve))
	}
	return m
}

// ServeHTTP answers a request. A slash at the end of its path makes no difference, but
// where there is a route with one.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if x := ExchangeOf(r.Context()); x == nil {
		_, r = Begin(w, r)
	}
	if m.dialect.idHeader != "" {
		w.Header().Set(m.dialect.idHeader, RequestIDOf(r.Context()))
	}
	answer, pattern := m.mux.Handler(r)
	if path := r.URL.Path; pattern == "" && len(path) > 1 && strings.HasSuffix(path, "/") {
		r = withoutSlash(r)
		if answer, pattern = m.mux.Handler(r); pattern == "" {
			answer = http.NotFoundHandler() // also where another method has a route: what is named has no ID
		}
	}
	if pattern == "" {
		m.nowhere(w, r, answer)
		return
	}
	ExchangeOf(r.Context()).Route = pattern
	m.mux.ServeHTTP(w, r)
}

func withoutSlash(r *http.Request) *http.Request {
	r = r.Clone(r.Context())
	r.URL.Path = strings.TrimRight(r.URL.Path, "/")
	r.URL.RawPath = strings.TrimRight(r.URL.RawPath, "/")
	if r.URL.Path == "" {
		r.URL.Path = "/"
	}
	return r
}

// nowhere answers what has no route: answer is what ServeMux would say.
func (m *Mux) nowhere(w http.ResponseWriter, r *http.Request, answer http.Handler) {
	said := statusOnly{header: http.Header{}}
	answer.ServeHTTP(&said, r)
	if said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", said.header.Get("Allow"))
		WriteFault(w, r, m.dialect, Faultf(said.status, "The method specified is not allowed for this resource."))
		return
	}
	WriteFault(w, r, m.dialect, NotFound("The resource could not be found."))
}

// statusOnly is a ResponseWriter that keeps no body.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }

// handler turns f's error into the answer.
func (m *Mux) handler(f Func) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // panics are compared, not unwrapped
					panic(p)
				}
				m.log.ErrorContext(r.Context(), "request panicked", "request_id", RequestIDOf(r.Context()), "panic", p)
				WriteFault(w, r, m.dialect, &Fault{Code: http.StatusInternalServerError, Message: internalMessage})
			}
		}()
		err := f(w, r)
		if err == nil {
			return
		}
		fault := FaultOf(err)
		WriteFault(w, r, m.dialect, fault)
		m.logFault(r.Context(), fault)
	})
}

func (m *Mux) logFault(ctx context.Context, f *Fault) {
	level := slog.LevelDebug
	if f.Code == http.StatusInternalServerError && !errors.Is(f.Err, context.Canceled) {
		level = slog.LevelError
	}
	m.log.Log(ctx, level, "request failed", "request_id", RequestIDOf(ctx), "code", f.Code, "message", f.Message, "err", f.Err)
}
