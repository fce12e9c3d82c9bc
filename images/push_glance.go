package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images/glance"
)

// glancePush is one push to Glance.
type glancePush struct {
	*pushing
	client     *glance.Client
	visibility string
}

func (s *Store) pushToGlance(ctx context.Context, push *pushing, to Reference, o PushOptions) error {
	if s.config.Glance == nil {
		return fmt.Errorf("%w: no Glance is configured (image.url)", ErrInvalidReference)
	}
	if glance.IsID(to.Path) {
		return fmt.Errorf("%w: Glance gives the IDs: use a name", ErrInvalidReference)
	}
	p := &glancePush{push, s.config.Glance, "private"}
	if o.Public {
		p.visibility = "public"
	}
	err := p.layers(ctx, func(ctx context.Context, l *imageLayer, open opener) (bool, error) { return p.blob(ctx, l.desc, open) })
	if err != nil {
		return err
	}
	m, err := p.image.Manifest()
	if err != nil {
		return err
	}
	config, err := p.image.RawConfigFile()
	if err != nil {
		return err
	}
	if _, err := p.blob(ctx, m.Config, func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(config)), nil
	}); err != nil {
		return fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return p.manifest(ctx, to)
}

// blob sees to it that a blob is there for all who may use the image, and says
// whether it was missing.
func (p *glancePush) blob(ctx context.Context, d v1.Descriptor, open func(context.Context) (io.ReadCloser, error)) (missing bool, err error) {
	there, err := p.client.Blob(ctx, d.Digest.String(), d.Size)
	if err == nil && p.visibility == "public" && there.Visibility != "public" {
		return false, glanceError(p.client.SetVisibility(ctx, there.ID, p.visibility))
	}
	if err == nil {
		err = p.client.Renew(ctx, there)
	}
	if !errors.Is(err, glance.ErrNotFound) {
		return false, glanceError(err)
	}
	rc, err := open(ctx)
	if err != nil {
		return true, err
	}
	defer rc.Close()
	_, err = p.client.Store(ctx, glance.NewImage{
		Name: d.Digest.String(), Visibility: p.visibility, Hidden: true,
		Digest: d.Digest.String(), MediaType: string(d.MediaType),
	}, rc)
	return true, storeError(err)
}

// storeError keeps the kinds of what a blob could not be read for.
func storeError(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnavailable) {
		return err
	}
	return glanceError(err)
}

// manifest gives the image its name. An image that had it goes on, hidden, for the
// servers that were made from it.
func (p *glancePush) manifest(ctx context.Context, to Reference) error {
	raw, err := p.image.RawManifest()
	if err != nil {
		return err
	}
	kind, err := p.image.MediaType()
	if err != nil {
		return err
	}
	config, err := p.image.ConfigFile()
	if err != nil {
		return err
	}
	before, err := p.client.Named(ctx, to.Path)
	if err != nil {
		return glanceError(err)
	}
	for _, b := range before {
		switch {
		case b.MediaType == "":
			return fmt.Errorf("%w: image %s of this name was not pushed: rename or delete it first", ErrAmbiguous, b.ID)
		case b.Digest == p.image.Digest.String() && (b.Visibility == p.visibility || p.visibility == "private"):
			p.done.Reference = Reference{Transport: Glance, Path: b.ID}.String()
			return nil
		}
	}
	stored, err := p.client.Store(ctx, glance.NewImage{
		Name: to.Path, Visibility: p.visibility, Digest: p.image.Digest.String(), MediaType: string(kind),
		Arch: machine(config.Architecture),
	}, bytes.NewReader(raw))
	if err != nil {
		return glanceError(err)
	}
	p.done.Reference, p.done.New = Reference{Transport: Glance, Path: stored.ID}.String(), true
	for _, b := range before {
		if err := p.client.Hide(ctx, b.ID); err != nil {
			return fmt.Errorf("hide image %s, which had the name: %w", b.ID, glanceError(err))
		}
	}
	return nil
}

// PruneGlance deletes what pushes to Glance, and uploads of disks, have left there and
// nothing needs any more, except for what was stored since then. With all, images and
// disks that have lost their names to others go, too.
func PruneGlance(ctx context.Context, client *glance.Client, since time.Time, all bool) ([]glance.Image, error) {
	deleted, err := client.Prune(ctx, glance.PruneOptions{Since: since, All: all, References: func(ctx context.Context, i glance.Image) ([]string, error) {
		raw, err := glanceManifest(ctx, client, i)
		if err != nil {
			return nil, err
		}
		var m struct {
			Config            v1.Descriptor
			Layers, Manifests []v1.Descriptor
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			return nil, fmt.Errorf("manifest: %w: %w", ErrCorrupt, err)
		}
		var digests []string
		for _, d := range slices.Concat([]v1.Descriptor{m.Config}, m.Layers, m.Manifests) {
			digests = append(digests, d.Digest.String())
		}
		return digests, nil
	}})
	return deleted, glanceError(err)
}

// machine is an architecture in Nova's words; empty where Nova has none.
func machine(arch string) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
}
