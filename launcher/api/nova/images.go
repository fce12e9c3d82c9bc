package nova

import (
	"context"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// ImagesOf makes servers from the catalog's images: by ID, as clients that ask the
// image service first, by name or by reference.
func ImagesOf(images *catalog.Catalog) Images { return found{images} }

type found struct{ images *catalog.Catalog }

func (f found) Image(ctx context.Context, who *openstack.Caller, id string) (Image, error) {
	x, err := f.images.Bootable(ctx, asked(who), id)
	return Image{ID: x.ID, Reference: x.Reference, MinDisk: int64(x.MinDisk) << 30, MinMemory: int64(x.MinRAM) << 20}, err
}

func (f found) NewSnapshot(ctx context.Context, who *openstack.Caller, s catalog.Snapshot) (id, reference string, err error) {
	x, err := f.images.NewSnapshot(ctx, asked(who), s)
	return x.ID, x.Reference, err
}

func (f found) EndSnapshot(ctx context.Context, id string, img launcher.Image, failed error) error {
	return f.images.EndSnapshot(ctx, id, img, failed)
}

func (f found) Rotate(ctx context.Context, who *openstack.Caller, s catalog.Snapshot) error {
	return f.images.Rotate(ctx, asked(who), s)
}

func asked(who *openstack.Caller) catalog.Caller {
	return catalog.Caller{Project: who.ProjectID, Admin: who.Has(openstack.Admin)}
}
