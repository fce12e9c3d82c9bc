package compute

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher"
)

// ofGlance returns what Glance has that can be a container's image.
func (m *Images) ofGlance(ctx context.Context) ([]Image, error) {
	if m.glance == nil {
		return nil, nil
	}
	found, err := m.glance.List(ctx, url.Values{"status": {"active"}})
	if err != nil {
		return nil, glanceError(err)
	}
	var list []Image
	for _, g := range found {
		kind := types.MediaType(g.MediaType)
		if g.Disk == "raw" && (kind == "" || kind.IsImage() || kind.IsIndex()) {
			list = append(list, fromGlance(g))
		}
	}
	return list, nil
}

func (m *Images) findInGlance(ctx context.Context, name string) (Image, error) {
	g, err := m.glance.Find(ctx, name)
	if err != nil {
		return Image{}, glanceError(err)
	}
	return fromGlance(g), nil
}

func fromGlance(g glance.Image) Image {
	ref := images.Reference{Transport: images.Glance, Path: g.ID}
	return Image{
		ID: g.ID, Name: g.Name, Reference: ref.String(), Digest: g.Digest, Size: g.Size, Arch: g.Arch,
		Created: g.Created, Updated: g.Updated, Glance: true, Visibility: g.Visibility, Owner: g.Owner,
	}
}

func glanceError(err error) error {
	var ambiguous *glance.AmbiguousError
	switch {
	case errors.Is(err, glance.ErrNotFound), gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return launcher.Errorf(launcher.ErrNotFound, "%s", err)
	case errors.As(err, &ambiguous):
		return launcher.Errorf(launcher.ErrConflict, "%s", err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return launcher.Errorf(launcher.ErrUnavailable, "Glance: %s", err)
}

// glanceByID does not take a name for an ID.
func (m *Images) glanceByID(ctx context.Context, id string) (Image, error) {
	if !glance.IsID(id) {
		return Image{}, launcher.Errorf(launcher.ErrNotFound, "Image %s could not be found.", id)
	}
	return m.findInGlance(ctx, id)
}
