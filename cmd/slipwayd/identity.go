package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher/api/authtoken"
	"github.com/slipway-vm/slipway/launcher/api/keystone"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// openIdentity finds out who says whom a token stands for, and opens the listener:
// the first start of our own identity service tells where that is.
func (s *service) openIdentity(ctx context.Context, e *engine, reset bool) error {
	if e.cfg.Identity.URL != "" {
		if reset {
			return errors.New("--reset-admin-password: users are those of identity.url")
		}
		s.keystone = e.cloud
		s.tokens = authtoken.New(authtoken.Config{
			URL: e.cloud.IdentityURL, Login: e.cloud.Login, Keep: e.cfg.Identity.TokenCache,
		})
		return s.listen(ctx)
	}
	keys, err := identity.OpenKeys(identity.KeysConfig{Dir: e.path("keys"), Keep: s.cfg.TokenLife + time.Hour})
	if err != nil {
		return err
	}
	s.dir, err = identity.Open(ctx, identity.Config{Store: e.store.Identities(), Keys: keys, TokenLife: s.cfg.TokenLife})
	if err != nil {
		return err
	}
	if err := s.listen(ctx); err != nil {
		return err
	}
	if s.dir.Empty() || reset {
		if err := s.firstRun(ctx, e.cfg.StateDir); err != nil {
			return errors.Join(err, s.listener.Close())
		}
	}
	s.identity = keystone.New(keystone.Config{Directory: s.dir, Catalog: s.catalog, Log: e.log})
	s.tokens = s.identity
	return nil
}

// identityURL is where a request's client gets a token.
func (s *service) identityURL(r *http.Request) string {
	if s.keystone != nil {
		return s.keystone.IdentityURL
	}
	return s.root(r) + "/identity"
}

// asCaller has Glance asked in the caller's name, where it knows him.
func (s *service) asCaller(next http.Handler) http.Handler {
	if s.keystone == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := openstack.CallerOf(r.Context()); c != nil {
			r = r.WithContext(glance.WithCaller(r.Context(), glance.Caller{
				Token: r.Header.Get(openstack.TokenHeader), Project: c.ProjectID,
			}))
		}
		next.ServeHTTP(w, r)
	})
}
