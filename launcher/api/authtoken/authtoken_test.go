package authtoken

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// server answers about one token as Keystone does.
type server struct {
	*httptest.Server
	asked  atomic.Int64
	status atomic.Int64
}

func newServer(t *testing.T, expires time.Time) *server {
	t.Helper()
	s := &server{}
	s.status.Store(http.StatusOK)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if r.URL.Path != "/v3/auth/tokens" || r.Header.Get("X-Auth-Token") != "ours" || r.Header.Get("X-Subject-Token") != "theirs" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.WriteHeader(int(s.status.Load()))
		domain := map[string]string{"id": "default", "name": "Default"}
		_ = json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
			"user": map[string]any{"id": "u", "name": "ann", "domain": domain}, "project": map[string]any{"id": "p", "name": "demo", "domain": domain},
			"roles": []map[string]string{{"id": "r", "name": "member"}}, "expires_at": expires.UTC().Format("2006-01-02T15:04:05.000000Z"),
		}})
	}))
	t.Cleanup(s.Close)
	return s
}

func newTokens(s *server, now func() time.Time) *Tokens {
	return New(Config{
		URL: s.URL + "/v3/", Keep: 10 * time.Second, Now: now,
		Login: func(context.Context) (*gophercloud.ProviderClient, error) {
			return &gophercloud.ProviderClient{TokenID: "ours"}, nil
		},
	})
}

func TestAuthenticate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newServer(t, now.Add(time.Hour))
	tokens := newTokens(s, func() time.Time { return now })
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			c, err := tokens.Authenticate(t.Context(), "theirs")
			if err != nil || c.UserID != "u" || c.ProjectID != "p" || c.UserDomainID != "default" || !c.Has(openstack.Member) || c.Has(openstack.Admin) {
				t.Errorf("got %+v, %v", c, err)
				return
			}
			c.RequestID = "of one request" // must be nobody else's
		})
	}
	all.Wait()
	first := s.asked.Load()
	c, err := tokens.Authenticate(t.Context(), "theirs")
	if err != nil || c.RequestID != "" || s.asked.Load() != first {
		t.Errorf("the second time: %+v, %v, asked %d times instead of %d", c, err, s.asked.Load(), first)
	}

	// Revoked, it is good for as long as the answer is believed, and not longer.
	s.status.Store(http.StatusNotFound)
	if _, err := tokens.Authenticate(t.Context(), "theirs"); err != nil {
		t.Errorf("while the answer is believed: %v", err)
	}
	now = now.Add(10 * time.Second)
	if _, err := tokens.Authenticate(t.Context(), "theirs"); !errors.Is(err, openstack.ErrToken) {
		t.Errorf("a revoked token: %v", err)
	}
	if _, err := tokens.Authenticate(t.Context(), "nonsense"); !errors.Is(err, openstack.ErrToken) {
		t.Errorf("no token: %v", err)
	}
	// Keystone's own trouble is not the caller's.
	s.status.Store(http.StatusForbidden)
	if _, err := tokens.Authenticate(t.Context(), "theirs"); err == nil || errors.Is(err, openstack.ErrToken) {
		t.Errorf("Keystone refuses us: %v", err)
	}
}

// An answer is not believed beyond the token's own end.
func TestExpires(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := newServer(t, now.Add(time.Second))
	tokens := newTokens(s, func() time.Time { return now })
	for want := int64(1); want <= 2; want++ {
		if _, err := tokens.Authenticate(t.Context(), "theirs"); err != nil || s.asked.Load() != want {
			t.Errorf("%v, asked %d times, want %d", err, s.asked.Load(), want)
		}
		now = now.Add(2 * time.Second)
	}
}
