package glance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// Grace is how long at least what seems to be garbage should be spared.
const Grace = 24 * time.Hour

// renewal is the age at which a push renews what is there: well within [Grace].
const renewal = time.Hour

// PruneOptions say what is garbage.
type PruneOptions struct {
	// What was stored or pushed since is spared: who pushes it may be about to store the
	// manifest.
	Since time.Time
	// All takes away images and disks that have lost their names to others, too.
	All bool
	// References gives the digests of what a manifest needs.
	References func(context.Context, Image) ([]string, error)
}

// Prune deletes the blobs of the caller's own project that no manifest needs, and the
// kernels and ramdisks of its disks that no image does. It gives what it has deleted, with
// an error too. It deletes nothing where a manifest cannot be read.
func (c *Client) Prune(ctx context.Context, o PruneOptions) (deleted []Image, err error) {
	project, err := c.project(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.everything(ctx)
	if err != nil {
		return nil, err
	}
	var garbage []Image
	needed := map[string]bool{} // digests, and IDs of kernels and ramdisks
	for _, i := range all {
		own := i.Owner == project && (i.Digest != "" || i.Export != "") && i.Updated.Before(o.Since)
		named := i.named() && i.Status == "active" && (!i.Hidden || !o.All)
		switch {
		case own && !named:
			garbage = append(garbage, i)
			continue
		case i.isManifest() && i.Status == "active":
			digests, err := o.References(ctx, i)
			if err != nil {
				return nil, fmt.Errorf("image %s (%s): %w", i.ID, i.Name, err)
			}
			for _, d := range digests {
				needed[d] = true
			}
		}
		needed[i.Kernel], needed[i.Ramdisk] = true, true
	}
	garbage = slices.DeleteFunc(garbage, func(i Image) bool {
		return i.Status == "active" && (needed[i.ID] || i.Digest != "" && needed[i.Digest])
	})
	return c.deleteAll(ctx, garbage)
}

// everything is what the caller sees: others' manifests may need blobs that are public.
func (c *Client) everything(ctx context.Context) (all []Image, err error) {
	for _, hidden := range []string{"false", "true"} {
		found, err := c.List(ctx, url.Values{"visibility": {"all"}, "os_hidden": {hidden}})
		if err != nil {
			return nil, err
		}
		for n := range found {
			found[n].Hidden = hidden == "true"
		}
		all = append(all, found...)
	}
	return all, nil
}

// isManifest tells a pushed image from its blobs.
func (i *Image) isManifest() bool {
	kind := types.MediaType(i.MediaType)
	return kind.IsImage() || kind.IsIndex()
}

// named tells what has a name of its own, an image or a disk, from what belongs to it.
func (i *Image) named() bool {
	return i.isManifest() || i.Export != "" && i.Disk != "aki" && i.Disk != "ari"
}

func (c *Client) deleteAll(ctx context.Context, garbage []Image) (deleted []Image, err error) {
	service, err := c.service(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, i := range garbage {
		err := images.Delete(ctx, service, i.ID).ExtractErr()
		switch {
		case err == nil:
			deleted = append(deleted, i)
		case !gophercloud.ResponseCodeIs(err, http.StatusNotFound):
			errs = append(errs, fmt.Errorf("delete image %s (%s): %w", i.ID, i.Name, err))
		}
	}
	return deleted, errors.Join(errs...)
}
