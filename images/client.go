package images

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// baseTransport reaches hosts, and refuses plain HTTP to those it is not
// meant for: go-containerregistry would try it for any private address.
type baseTransport struct {
	secure, lax *http.Transport
	insecure    []string
	agent       string
}

func newBaseTransport(c Config) (*baseTransport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       time.Minute,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true, // digests are of the bytes as they come
		ForceAttemptHTTP2:     true,
	}
	if len(c.CAFiles) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, err
		}
		for _, f := range c.CAFiles {
			pem, err := os.ReadFile(f)
			if err != nil {
				return nil, fmt.Errorf("authorities: %w", err)
			}
			if !pool.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("authorities: %s: no certificate", f)
			}
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	lax := t.Clone()
	if lax.TLSClientConfig == nil {
		lax.TLSClientConfig = &tls.Config{}
	}
	lax.TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // only for hosts the configuration names
	agent := c.UserAgent
	if agent == "" {
		agent = "slipway"
	}
	return &baseTransport{secure: t, lax: lax, insecure: c.Insecure, agent: agent}, nil
}

func (t *baseTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	named := slices.Contains(t.insecure, r.URL.Host)
	if r.URL.Scheme == "http" && !named && !loopback(r.URL.Hostname()) {
		return nil, fmt.Errorf("plain HTTP to %s is refused: the registry is not configured as insecure", r.URL.Host)
	}
	r.Header.Set("User-Agent", t.agent)
	if named {
		return t.lax.RoundTrip(r)
	}
	return t.secure.RoundTrip(r)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// client speaks to one repository, logged in.
type client struct {
	key  string
	repo name.Repository
	http *http.Client
}

// client gives the repository's client, made once: logging in takes round
// trips.
func (s *Store) client(ctx context.Context, repo name.Repository) (*client, error) {
	key := repo.Name()
	if given, ok := ctx.Value(credentialsKey{repo.RegistryStr()}).(credentials); ok {
		key += " " + given.identity()
	}
	s.mu.Lock()
	c := s.clients[key]
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	auth, err := s.authenticator(ctx, repo)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", repo.RegistryStr(), err)
	}
	var rt http.RoundTripper
	reg := repo.Registry
	if slices.Contains(s.config.Insecure, reg.RegistryStr()) {
		if reg, err = name.NewRegistry(reg.RegistryStr(), name.Insecure); err != nil {
			return nil, err
		}
	}
	err = retry(ctx, func() error {
		rt, err = transport.NewWithContext(ctx, reg, auth, s.base, []string{repo.Scope(transport.PullScope)})
		return requestError(err)
	})
	if err != nil {
		return nil, fmt.Errorf("registry %s: %w", repo.RegistryStr(), err)
	}
	c = &client{key: key, repo: repo, http: &http.Client{Transport: rt}}
	s.mu.Lock()
	s.clients[key] = c
	s.mu.Unlock()
	return c, nil
}

// url is that of a repository's resource; the transport makes it http where
// the registry speaks that.
func (c *client) url(kind, identifier string) string {
	return "https://" + c.repo.RegistryStr() + "/v2/" + c.repo.RepositoryStr() + "/" + kind + "/" + identifier
}

// get asks until there is an answer, and gives one with status 200 or 206.
func (c *client) get(ctx context.Context, url string, prepare func(*http.Request)) (*http.Response, error) {
	var resp *http.Response
	err := retry(ctx, func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if prepare != nil {
			prepare(r)
		}
		if resp, err = c.http.Do(r); err != nil {
			return requestError(err)
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
			return nil
		}
		defer resp.Body.Close()
		err = statusError(resp)
		if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
			return &transientError{error: err, after: retryAfter(resp)}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// transientError may be gone at the next try, which the registry may want to be
// no sooner than after a while.
type transientError struct {
	error
	after time.Duration
}

func (e *transientError) Unwrap() error { return e.error }

// retryAfter reads how long a registry wants to be left alone, within reason.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(seconds)*time.Second, maxAfter)
}

// requestError sorts what a round trip failed with. Nobody listening, no such
// host and a certificate nobody vouches for do not change by asking again.
func requestError(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var status *transport.Error
	if errors.As(err, &status) {
		switch {
		case status.StatusCode == http.StatusUnauthorized, status.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w: %w", ErrUnauthorized, err)
		case status.StatusCode == http.StatusNotFound:
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		case status.StatusCode == http.StatusTooManyRequests, status.StatusCode >= 500:
			return &transientError{error: fmt.Errorf("%w: %w", ErrUnavailable, err)}
		}
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	wrapped := fmt.Errorf("%w: %w", ErrUnavailable, err)
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return wrapped
	}
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.As(err, &timeout) && timeout.Timeout() && !errors.Is(err, context.DeadlineExceeded):
		return &transientError{error: wrapped}
	}
	return wrapped
}

const (
	maxTries  = 4
	firstWait = 200 * time.Millisecond
	maxAfter  = 10 * time.Second
)

// retry tries again what failed for a transient reason, waiting twice as
// long each time.
func retry(ctx context.Context, f func() error) error {
	wait := firstWait
	for try := 1; ; try++ {
		err := f()
		var transient *transientError
		if err == nil || !errors.As(err, &transient) || try == maxTries {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(max(wait, transient.after)):
		}
		wait *= 2
	}
}
