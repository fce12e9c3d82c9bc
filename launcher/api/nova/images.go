package nova

import (
	"context"
	"errors"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// ImagesOf makes servers from compute's images: by ID, as clients that ask the image
// service first, or by reference.
func ImagesOf(images *compute.Images) Images { return found{images} }

type found struct{ images *compute.Images }

func (f found) Image(ctx context.Context, _ *openstack.Caller, id string) (Image, error) {
	x, err := f.images.Find(ctx, id)
	if errors.Is(err, launcher.ErrNotFound) {
		x, err = f.images.Named(ctx, id)
	}
	return Image{ID: x.ID, Reference: x.Reference}, err
}
