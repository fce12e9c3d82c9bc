package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/slipway-vm/slipway/cmd/internal/cloud"
	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/launcher/api/keystone"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/identity"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

// mount is one of OpenStack's services on the one port of the network service.
type mount struct {
	// typ, name and about are what the catalog says, which adds version to the URL.
	typ, name, about string
	prefix           string // of all paths: "/compute"; the handler does not see it
	version          string // "/v2.1"
	dialect          openstack.Dialect
	handler          http.Handler
	public           func(*http.Request) bool // what needs no token
	authenticates    bool                     // the handler looks at tokens itself
	uploads          bool                     // bodies may be larger than openstack.MaxBody
}

// mounts is everything that OpenStack's clients reach, in the order of the catalog.
func (s *service) mounts(e *engine) []mount {
	all := []mount{s.computeMount(e), s.imageMount(e)}
	if !e.networks.Remote() {
		all = append(all, s.networkMount(e))
	}
	all = append(all, s.slipwayMount(e))
	if s.keystone != nil {
		return all
	}
	return append([]mount{{
		typ: "identity", name: "keystone", about: "Slipway's users and projects",
		prefix: "/identity", version: "/v3", dialect: openstack.Identity,
		handler: s.identity, authenticates: true,
	}}, all...)
}

// service is the network side of an engine.
type service struct {
	cfg      config.API
	log      *slog.Logger
	dir      *identity.Directory
	identity *keystone.API
	keystone *cloud.Cloud // whose Keystone is used instead of our own; nil: none
	mounted  []mount
	limits   *projectLimits
	metrics  *metrics
	tokens   openstack.Authenticator
	listener net.Listener
	server   *http.Server
	compute  *compute.Compute
	images   *catalog.Catalog
	metadefs *metadefs.Definitions
	host     string // this machine's name
	base     string // the public URL, or empty for what each client has used
}

// openService brings the network side up as far as its listener.
func openService(ctx context.Context, e *engine, reset bool) (_ *service, err error) {
	s := &service{cfg: e.cfg.API, log: e.log, limits: newProjectLimits(e.cfg.API.RateLimit), base: strings.TrimRight(e.cfg.API.PublicURL, "/")}
	if err := s.openIdentity(ctx, e, reset); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.listener.Close())
		}
	}()
	if err := s.openCompute(ctx, e); err != nil {
		return nil, err
	}
	s.mounted = s.mounts(e)
	s.metrics = newMetrics(e)
	s.server = &http.Server{
		Handler:           s.handler(e),
		BaseContext:       func(net.Listener) context.Context { return e.ctx },
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// listen opens the port, with TLS where it is configured.
func (s *service) listen(ctx context.Context) (err error) {
	var certificates []tls.Certificate
	if s.cfg.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("api.tls_cert, api.tls_key: %w", err)
		}
		certificates = append(certificates, pair)
	}
	s.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("api.listen: %w", err)
	}
	if certificates != nil {
		s.listener = tls.NewListener(s.listener, &tls.Config{
			Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		})
	}
	return nil
}

// localURL is where a client on this host reaches the service.
func (s *service) localURL() string {
	if s.base != "" {
		return s.base
	}
	host, port, _ := net.SplitHostPort(s.listener.Addr().String())
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if s.cfg.TLSCert != "" {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// root is the URL of the service as a request's client reaches it.
func (s *service) root(r *http.Request) string {
	if s.base != "" {
		return s.base
	}
	return openstack.HostURL(r)
}

func (s *service) catalog(r *http.Request) []keystone.Entry {
	var entries []keystone.Entry
	for _, m := range s.mounted {
		entries = append(entries, keystone.Entry{Type: m.typ, Name: m.name, Description: m.about, URL: s.root(r) + m.prefix + m.version})
	}
	return entries
}

// handler routes by prefix. What it answers itself is for people and for monitors.
func (s *service) handler(e *engine) http.Handler {
	mux := http.NewServeMux()
	for _, m := range s.mounted {
		h := s.mount(m)
		mux.Handle(m.prefix, h)
		mux.Handle(m.prefix+"/", h)
	}
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { e.healthz(w, r) })
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		openstack.WriteFault(w, r, openstack.Identity, openstack.NotFound("The resource could not be found. Slipway's services are listed at %s/.", s.root(r)))
	})
	return s.observed(mux)
}

// mount puts a service behind what all of them need.
func (s *service) mount(m mount) http.Handler {
	h := m.handler
	if !m.authenticates {
		h = openstack.Authentication{
			Tokens: s.tokens, IdentityURL: s.identityURL,
			Public: m.public, Service: m.typ, Dialect: m.dialect, Log: s.log,
		}.Middleware(s.limits.middleware(m.dialect, s.asCaller(h)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := openstack.ExchangeOf(r.Context())
		x.Base = s.root(r) + m.prefix
		if b, ok := r.Body.(*timedBody); ok && m.uploads {
			b.long = true
		} else if !m.uploads {
			r.Body = http.MaxBytesReader(w, r.Body, openstack.MaxBody)
		}
		inner := r.Clone(r.Context())
		inner.URL.Path = strings.TrimPrefix(r.URL.Path, m.prefix)
		inner.URL.RawPath = strings.TrimPrefix(r.URL.RawPath, m.prefix)
		if inner.URL.Path == "" {
			inner.URL.Path = "/"
		}
		h.ServeHTTP(w, inner)
		if method, path, ok := strings.Cut(x.Route, " "); ok {
			x.Route = method + " " + m.prefix + path // it was told without
		}
	})
}

// index lists the services for whoever asks for the root.
func (s *service) index(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Type string `json:"type"`
		Name string `json:"name"`
		URL  string `json:"url"`
	}
	var all []entry
	for _, c := range s.catalog(r) {
		all = append(all, entry{c.Type, c.Name, c.URL})
	}
	_ = openstack.WriteJSON(w, http.StatusOK, map[string]any{"slipway": version, "services": all})
}

// serve answers until the server is shut down.
func (s *service) serve() error {
	s.log.Info("service ready", "url", s.localURL(), "listen", s.listener.Addr().String())
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.cfg.Listen, err)
	}
	return nil
}

// close lets requests end that are being answered, for a while.
func (s *service) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	defer func() { _ = s.listener.Close() }() // it may never have been served
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(ignoreTimeout(err), s.server.Close())
	}
	return errors.Join(err, s.images.Close())
}
