package images

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// credentials are somebody's for one registry.
type credentials struct{ config authn.AuthConfig }

// credentialsKey is that of a registry's.
type credentialsKey struct{ registry string }

// WithCredentials gives a context whose requests to one registry (as in
// name.Registry.RegistryStr) are made with these credentials instead of the
// keychain's: those of whoever asks, where the store serves several. Empty ones are for
// requests without any.
func WithCredentials(ctx context.Context, registry string, config authn.AuthConfig) context.Context {
	return context.WithValue(ctx, credentialsKey{registry}, credentials{config})
}

// identity tells credentials from others without showing them.
func (c credentials) identity() string {
	b, err := json.Marshal(c.config)
	if err != nil {
		return "" // of strings alone: it cannot fail
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// authenticator finds the credentials for a repository.
func (s *Store) authenticator(ctx context.Context, repo name.Repository) (authn.Authenticator, error) {
	if c, ok := ctx.Value(credentialsKey{repo.RegistryStr()}).(credentials); ok {
		if c.config == (authn.AuthConfig{}) {
			return authn.Anonymous, nil
		}
		return authn.FromConfig(c.config), nil
	}
	return authn.Resolve(ctx, s.config.Keychain, repo)
}

// forget drops a client that a registry refused: the next request asks for
// credentials again, which may be others by then.
func (s *Store) forget(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c.key] == c {
		delete(s.clients, c.key)
	}
}
