package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// registryBlobs are the blobs of one repository, at the registry or a mirror.
type registryBlobs struct {
	store *Store
	repos []name.Repository // in the order they are asked
}

func (s *Store) registryBlobs(r Reference) *registryBlobs {
	origin := r.Name.Context()
	b := &registryBlobs{store: s}
	host := origin.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	for _, m := range s.config.Mirrors[host] {
		repo, err := name.NewRepository(strings.TrimSuffix(m, "/") + "/" + origin.RepositoryStr())
		if err != nil {
			s.log.Warn("mirror ignored", "mirror", m, "err", err)
			continue
		}
		b.repos = append(b.repos, repo)
	}
	b.repos = append(b.repos, origin)
	return b
}

func (b *registryBlobs) Close() error { return nil }

// each asks the mirrors and then the registry until one answers, and gives the
// registry's own error if none does.
func (b *registryBlobs) each(ctx context.Context, f func(*client) error) error {
	var err error
	for _, repo := range b.repos {
		var c *client
		if c, err = b.store.client(ctx, repo); err == nil {
			err = f(c)
		}
		if c != nil && errors.Is(err, ErrUnauthorized) {
			b.store.forget(c)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		if len(b.repos) > 1 {
			b.store.log.Warn("registry did not serve", "registry", repo.RegistryStr(), "err", err)
		}
	}
	return err
}

// open starts a blob's download, which mends itself when it breaks off.
func (b *registryBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	var rc io.ReadCloser
	err := b.each(ctx, func(c *client) (err error) {
		rc, err = c.download(ctx, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return rc, nil
}

// openRegistry reads the manifest or index a registry has for a reference.
func (s *Store) openRegistry(ctx context.Context, r Reference) (blobs, document, error) {
	b := s.registryBlobs(r)
	var doc document
	err := b.each(ctx, func(c *client) (err error) {
		doc, err = c.manifest(ctx, r.Name.Identifier())
		return err
	})
	if err != nil {
		return nil, document{}, err
	}
	return manifestBlobs{b}, doc, nil
}

// manifestBlobs knows that registries keep manifests apart from other blobs.
type manifestBlobs struct{ *registryBlobs }

func (b manifestBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
		return b.registryBlobs.open(ctx, d)
	}
	var doc document
	err := b.each(ctx, func(c *client) (err error) {
		doc, err = c.manifest(ctx, d.Digest.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return io.NopCloser(strings.NewReader(string(doc.raw))), nil
}

var accepted = []string{
	string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	string(types.OCIImageIndex), string(types.DockerManifestList),
}

// manifest reads a manifest or index by tag or digest. One asked for by
// digest must have it.
func (c *client) manifest(ctx context.Context, identifier string) (document, error) {
	resp, err := c.get(ctx, c.url("manifests", identifier), func(r *http.Request) {
		r.Header["Accept"] = []string{strings.Join(accepted, ", ")}
	})
	if err != nil {
		return document{}, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return document{}, fmt.Errorf("%w: manifest: %w", ErrUnavailable, err)
	}
	if len(raw) > maxManifest {
		return document{}, fmt.Errorf("manifest of more than %d bytes: %w", maxManifest, ErrCorrupt)
	}
	want, err := v1.NewHash(identifier)
	if err != nil {
		want, err = v1.NewHash(resp.Header.Get("Docker-Content-Digest"))
	}
	if err == nil && want.Algorithm == "sha256" {
		got, _, err := v1.SHA256(strings.NewReader(string(raw)))
		if err != nil {
			return document{}, err
		}
		if got != want {
			return document{}, fmt.Errorf("manifest %s has digest %s: %w", want, got, ErrCorrupt)
		}
	}
	return document{raw: raw, mediaType: types.MediaType(resp.Header.Get("Content-Type"))}, nil
}

// statusError translates what a registry answers.
func statusError(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	detail := strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, string(body)))
	kind := ErrUnavailable
	switch resp.StatusCode {
	case http.StatusNotFound:
		kind = ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = ErrUnauthorized
	}
	if detail == "" {
		return fmt.Errorf("%w: %s answered %s", kind, resp.Request.URL.Host, resp.Status)
	}
	return fmt.Errorf("%w: %s answered %s: %.300s", kind, resp.Request.URL.Host, resp.Status, detail)
}

var errInterrupted = errors.New("download interrupted")
