package nova

import (
	"context"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// ImagesOf makes servers from the catalog's images: by ID, as clients that ask the
// image service first, by name or by reference.
func ImagesOf(images *catalog.Catalog) Images { return found{images} }

type found struct{ images *catalog.Catalog }

func (f found) Image(ctx context.Context, who *openstack.Caller, id string) (Image, error) {
	x, err := f.images.Bootable(ctx, catalog.Caller{Project: who.ProjectID, Admin: who.Has(openstack.Admin)}, id)
	return Image{ID: x.ID, Reference: x.Reference, MinDisk: int64(x.MinDisk) << 30, MinMemory: int64(x.MinRAM) << 20}, err
}
