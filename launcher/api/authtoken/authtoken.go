// Package authtoken finds out whom a token of a real Keystone stands for, as
// keystonemiddleware does for OpenStack's own services: by asking Keystone, and by
// believing its answer for a short while.
package authtoken

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"golang.org/x/sync/singleflight"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// Config says how Keystone is asked.
type Config struct {
	URL string // with its version: http://127.0.0.1:5000/v3
	// Login gives a client that may validate the tokens of others.
	Login func(context.Context) (*gophercloud.ProviderClient, error)
	// Keep is how long an answer is believed.
	Keep time.Duration
	Now  func() time.Time // nil: time.Now
}

// Tokens is an openstack.Authenticator.
type Tokens struct {
	cfg  Config
	asks singleflight.Group

	mu    sync.Mutex
	known map[[sha256.Size]byte]known
}

// known is what a token said when it was asked about.
type known struct {
	caller openstack.Caller
	until  time.Time
}

// maxKnown bounds the tokens that are remembered; the oldest matter least, and go
// first by themselves.
const maxKnown = 10_000

// New makes one. It connects when it is first asked.
func New(cfg Config) *Tokens {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	return &Tokens{cfg: cfg, known: map[[sha256.Size]byte]known{}}
}

// Authenticate returns what a token says. What Keystone refuses matches
// openstack.ErrToken, and is not remembered.
func (t *Tokens) Authenticate(ctx context.Context, token string) (*openstack.Caller, error) {
	key := sha256.Sum256([]byte(token))
	if c, ok := t.recall(key); ok {
		return &c, nil
	}
	// Whoever asks first may go away: his request is not the others'.
	answer := t.asks.DoChan(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTime)
		defer cancel()
		return t.ask(ctx, key, token)
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case a := <-answer:
		if a.Err != nil {
			return nil, a.Err
		}
		c := a.Val.(openstack.Caller)
		return &c, nil
	}
}

// askTime bounds how long Keystone is waited for.
const askTime = 20 * time.Second

func (t *Tokens) recall(key [sha256.Size]byte) (openstack.Caller, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.known[key]
	return k.caller, ok && t.cfg.Now().Before(k.until)
}

func (t *Tokens) remember(key [sha256.Size]byte, k known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.cfg.Now()
	if len(t.known) >= maxKnown {
		maps.DeleteFunc(t.known, func(_ [sha256.Size]byte, k known) bool { return !now.Before(k.until) })
	}
	if len(t.known) < maxKnown && now.Before(k.until) {
		t.known[key] = k
	}
}

// said is what Keystone says of a token.
type said struct {
	User struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Domain named  `json:"domain"`
	} `json:"user"`
	Project *struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Domain named  `json:"domain"`
	} `json:"project"`
	Domain  *named         `json:"domain"`
	System  map[string]any `json:"system"`
	Roles   []named        `json:"roles"`
	Expires time.Time      `json:"expires_at"`
}

type named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (t *Tokens) ask(ctx context.Context, key [sha256.Size]byte, token string) (openstack.Caller, error) {
	asked := t.cfg.Now()
	provider, err := t.cfg.Login(ctx)
	if err != nil {
		return openstack.Caller{}, err
	}
	service := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: t.cfg.URL + "/", Type: "identity"}
	var s said
	err = tokens.Get(ctx, service, token).ExtractInto(&s)
	switch {
	case gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return openstack.Caller{}, openstack.ErrToken
	case gophercloud.ResponseCodeIs(err, http.StatusForbidden):
		return openstack.Caller{}, fmt.Errorf("keystone lets Slipway's own user see no tokens, he needs the role admin: %w", err)
	case err != nil:
		return openstack.Caller{}, fmt.Errorf("ask keystone about a token: %w", err)
	case s.User.ID == "":
		return openstack.Caller{}, errors.New("ask keystone about a token: the answer names no user")
	}
	c := s.caller()
	until := asked.Add(t.cfg.Keep)
	if s.Expires.Before(until) {
		until = s.Expires
	}
	t.remember(key, known{c, until})
	return c, nil
}

func (s *said) caller() openstack.Caller {
	c := openstack.Caller{UserID: s.User.ID, UserName: s.User.Name, UserDomainID: s.User.Domain.ID, System: len(s.System) > 0}
	if s.Project != nil {
		c.ProjectID, c.ProjectName, c.ProjectDomainID = s.Project.ID, s.Project.Name, s.Project.Domain.ID
	}
	if s.Domain != nil {
		c.DomainID = s.Domain.ID
	}
	for _, r := range s.Roles {
		c.Roles = append(c.Roles, r.Name)
	}
	return c
}
