package catalog

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
)

// snapshots is what the launcher's references of images of servers begin with. None
// of a registry does.
const snapshots = "localhost/snapshot:"

// Snapshot is an image that is to be made of a server.
type Snapshot struct {
	Name   string
	Server string // ID
	// Base is the ID of the image that the server was made from.
	Base     string
	User     string
	Metadata map[string]string
	// Backup is what kind of a backup it is, daily say; nil: none. Of a server's
	// backups of a kind only the Keep latest stay.
	Backup *string
	Keep   int
}

// NewSnapshot makes an image without data, whose reference says by what name the
// launcher is to have it. [Catalog.EndSnapshot] ends it.
func (c *Catalog) NewSnapshot(ctx context.Context, who Caller, s Snapshot) (Image, error) {
	i := Image{
		ID: uuid.NewString(), Name: s.Name, Visibility: Private, Container: Container, Disk: "raw",
		Properties: map[string]string{"image_type": "snapshot", "instance_uuid": s.Server, "base_image_ref": s.Base, "user_id": s.User},
	}
	i.Reference = snapshots + i.ID
	// What the server's image asks for, its snapshot does too.
	if base, err := c.Find(ctx, who, s.Base); err == nil {
		i.MinDisk, i.MinRAM = base.MinDisk, base.MinRAM
	}
	if s.Backup != nil {
		i.Properties["image_type"], i.Properties["backup_type"] = "backup", *s.Backup
	}
	maps.Copy(i.Properties, s.Metadata)
	return c.Create(ctx, who, i)
}

// EndSnapshot makes a snapshot active that the launcher has made, and removes one
// that it could not make.
func (c *Catalog) EndSnapshot(ctx context.Context, id string, img launcher.Image, failed error) error {
	if failed != nil {
		return c.Delete(ctx, Caller{Admin: true}, id)
	}
	_, err := c.change(ctx, Caller{Admin: true}, id, func(i *Image) error {
		if i.Status != Queued {
			return launcher.Errorf(launcher.ErrNotFound, "Image %s has got other data.", id)
		}
		i.Size, i.Status = img.Size, Active
		i.take(img.Reference, img)
		return nil
	})
	if errors.Is(err, launcher.ErrNotFound) { // it was deleted meanwhile
		return c.cfg.Launcher.DeleteImage(ctx, img.Reference, false)
	}
	return err
}

// Rotate removes a server's oldest backups of the kind that a snapshot is of.
func (c *Catalog) Rotate(ctx context.Context, who Caller, s Snapshot) error {
	all, err := c.All(ctx, who)
	if err != nil {
		return err
	}
	backups := slices.DeleteFunc(all, func(i Image) bool {
		p := i.Properties
		return i.Status != Active || p["image_type"] != "backup" || p["backup_type"] != *s.Backup || p["instance_uuid"] != s.Server
	})
	var errs []error
	for _, i := range backups[min(s.Keep, len(backups)):] {
		errs = append(errs, c.Delete(ctx, who, i.ID))
	}
	return errors.Join(errs...)
}
