package main

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// How long a client may take. Bodies and answers may be long, so their times are
// from one piece to the next, but for small bodies, which have one time in all.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	bodyTime   = 30 * time.Second
	pieceTime  = 60 * time.Second
)

// observed gives each request its id and its deadlines, and logs and counts it.
func (s *service) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		x, r := openstack.Begin(w, r)
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
		a.patience()
		if r.Body != nil && r.ContentLength != 0 {
			b := &timedBody{ReadCloser: r.Body, control: a.control}
			b.patience()
			r.Body = b
		}
		next.ServeHTTP(a, r)
		elapsed := time.Since(begin)
		s.metrics.answered(r, x, a.status(), elapsed)
		s.logAnswer(r, x, a, elapsed)
	})
}

// logAnswer writes the access log: changes and refusals at info, reads at debug. The
// query is left out, and headers: they may hold secrets.
func (s *service) logAnswer(r *http.Request, x *openstack.Exchange, a *answer, elapsed time.Duration) {
	level := slog.LevelDebug
	if r.Method != http.MethodGet && r.Method != http.MethodHead || a.status() >= http.StatusInternalServerError {
		level = slog.LevelInfo
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("code", a.status()),
		slog.Duration("elapsed", elapsed), slog.Int64("bytes", a.sent), slog.String("address", r.RemoteAddr),
		slog.String("request_id", x.RequestID),
	}
	if x.GlobalID != "" {
		attrs = append(attrs, slog.String("global_request_id", x.GlobalID))
	}
	if c := x.Caller; c != nil {
		attrs = append(attrs, slog.String("user", c.UserID), slog.String("project", c.ProjectID))
	}
	s.log.LogAttrs(r.Context(), level, "request", attrs...)
}

// answer notes what is sent, and gives each piece of it a deadline.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	code    int
	sent    int64
}

func (a *answer) status() int {
	if a.code == 0 {
		return http.StatusOK
	}
	return a.code
}

// patience: a connection without deadlines (in tests) is no reason to fail.
func (a *answer) patience() { _ = a.control.SetWriteDeadline(time.Now().Add(pieceTime)) }

func (a *answer) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	a.patience()
	n, err := a.ResponseWriter.Write(b)
	a.sent += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// timedBody is a request's body that must arrive in time.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
	long    bool // each piece has a deadline, instead of the whole
}

func (b *timedBody) patience() { _ = b.control.SetReadDeadline(time.Now().Add(bodyTime)) }

func (b *timedBody) Read(p []byte) (int, error) {
	if b.long {
		b.patience()
	}
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		// From here on the server waits for the client to go away, which must not be
		// taken for slowness. After another error the connection is to end.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// projectLimits bounds how many requests a project may make.
type projectLimits struct {
	perSecond float64 // 0: no limit
	mu        sync.Mutex
	limiters  map[string]*rate.Limiter
}

func newProjectLimits(perSecond int64) *projectLimits {
	return &projectLimits{perSecond: float64(perSecond), limiters: map[string]*rate.Limiter{}}
}

// of is a project's limiter. Projects are made by administrators, so there are not
// too many to remember.
func (l *projectLimits) of(project string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.limiters[project]
	if limiter == nil {
		// A client that has waited may make the requests of ten seconds at once.
		limiter = rate.NewLimiter(rate.Limit(l.perSecond), max(1, int(10*l.perSecond)))
		l.limiters[project] = limiter
	}
	return limiter
}

// middleware answers 429 to the requests of a project that come too fast.
func (l *projectLimits) middleware(d openstack.Dialect, next http.Handler) http.Handler {
	if l.perSecond == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := openstack.CallerOf(r.Context())
		if caller != nil && !l.of(caller.ProjectID).Allow() {
			wait := time.Duration(float64(time.Second) / l.perSecond)
			openstack.WriteFault(w, r, d, &openstack.Fault{
				Code: http.StatusTooManyRequests, RetryAfter: wait,
				Message: "This request was rate-limited: the project makes too many.",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}
