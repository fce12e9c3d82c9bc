package launcher

import (
	"context"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/rootfs"
)

// Image is an image that is unpacked and ready.
type Image struct {
	images.Record
	// Alone and Shared are the bytes on disk of its layer images: those that would
	// be freed with it, and those that other images use too.
	Alone  int64 `json:"alone"`
	Shared int64 `json:"shared"`
	// New says that a pull changed something.
	New bool `json:"new,omitempty"`
}

// Images returns the images that are ready, by reference.
func (m *Manager) Images(ctx context.Context) ([]Image, error) {
	recs, err := m.cfg.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	layers := make([][]v1.Hash, len(recs))
	for n, rec := range recs {
		layers[n] = rec.DiffIDs
	}
	usage, _, err := m.cfg.Roots.Usage(layers...)
	if err != nil {
		return nil, err
	}
	list := make([]Image, 0, len(recs))
	for n, rec := range recs {
		list = append(list, Image{Record: rec, Alone: usage[n].Alone, Shared: usage[n].Shared})
	}
	return list, nil
}

// Image returns the image that ref names: a reference, a digest, or the beginning
// of an ID.
func (m *Manager) Image(ctx context.Context, ref string) (Image, error) {
	rec, err := m.cfg.Images.Lookup(ctx, ref)
	if err != nil {
		return Image{}, imageError(err)
	}
	all, err := m.Images(ctx)
	if err != nil {
		return Image{}, err
	}
	for _, img := range all {
		if img.Reference == rec.Reference {
			return img, nil
		}
	}
	return Image{Record: rec}, nil
}

// DeleteImage forgets an image and removes the layers that nothing else uses. An
// image that servers were made from is kept unless force is given; their layers
// stay in any case.
func (m *Manager) DeleteImage(ctx context.Context, ref string, force bool) error {
	rec, err := m.cfg.Images.Lookup(ctx, ref)
	if err != nil {
		return imageError(err)
	}
	if user := m.userOf(rec); user != "" && !force {
		return errorf(ErrConflict, "image %s is in use by server %s: delete that first, or use --force", rec.Reference, user)
	}
	if _, err := m.cfg.Images.Delete(ctx, rec.Reference); err != nil {
		return imageError(err)
	}
	_, err = m.collect(ctx, 0)
	return err
}

// userOf names a server that was made from an image, if there is one.
func (m *Manager) userOf(rec images.Record) string {
	for _, srv := range m.Servers() {
		if srv.ImageDigest == rec.Digest.String() || srv.ImageDigest == "" && srv.Spec.Image == rec.Reference && !srv.settled() {
			return srv.Name
		}
	}
	return ""
}

// Pruned is what PruneImages removed.
type Pruned struct {
	Images []string `json:"images"` // references
	Layers int      `json:"layers"`
	Bytes  int64    `json:"bytes"`
	// Busy says that all layers stay, since images were being pulled or read.
	Busy bool `json:"busy,omitempty"`
}

// PruneImages removes the layer images that no image and no server uses; with all,
// the images that no server was made from as well, but for those that were made here
// and are nowhere else.
func (m *Manager) PruneImages(ctx context.Context, all bool) (Pruned, error) {
	p := Pruned{Images: []string{}}
	if all {
		recs, err := m.cfg.Images.List(ctx)
		if err != nil {
			return p, err
		}
		for _, rec := range recs {
			if rec.Own || m.userOf(rec) != "" {
				continue
			}
			if _, err := m.cfg.Images.Delete(ctx, rec.Reference); err != nil {
				return p, imageError(err)
			}
			p.Images = append(p.Images, rec.Reference)
		}
	}
	collected, err := m.collect(ctx, 0)
	collected.Images = p.Images
	return collected, err
}

// VerifyImage reads all that is kept of an image again, and compares it with its
// digests. What is damaged is named, and made anew when the image is pulled again.
func (m *Manager) VerifyImage(ctx context.Context, ref string) error {
	rec, err := m.cfg.Images.Lookup(ctx, ref)
	if err != nil {
		return imageError(err)
	}
	var errs []error
	for _, id := range rec.DiffIDs {
		errs = append(errs, m.cfg.Roots.Verify(ctx, id))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("verify image %s: %w: pull it again, which makes the layer anew", rec.Reference, err)
	}
	if err := m.cfg.Images.Verify(ctx, rec); err != nil {
		return fmt.Errorf("verify image %s: %w", rec.Reference, err)
	}
	return nil
}

// SaveImage gives an image as one file; see [images.Archive]. Empty, its name there is
// its reference, where that is one of a registry's. The caller closes it.
func (m *Manager) SaveImage(ctx context.Context, ref, name string, auth *Credentials) (*images.Archive, error) {
	img, err := m.cfg.Images.Resolve(auth.with(ctx), ref, images.ResolveOptions{})
	if err != nil {
		return nil, imageError(err)
	}
	if r, err := images.ParseReference(img.Reference); err == nil && r.Transport == images.Registry && name == "" {
		name = r.Tagged()
	}
	a, err := img.Archive(name)
	if err != nil {
		return nil, errors.Join(imageError(err), img.Close())
	}
	return a, nil
}

// trim makes room where the layer images take more than they may, sparing those
// that have just been asked for.
func (m *Manager) trim(ctx context.Context, spare []v1.Hash) {
	if m.cfg.MaxImages == 0 {
		return
	}
	if _, err := m.collect(ctx, m.cfg.MaxImages, spare...); err != nil {
		m.log.Warn("layer images not collected", "err", err)
	}
}

// collect removes the layer images that neither an image nor a server uses, or,
// where limit is not 0, as many of those that no server uses as it takes to come
// down to limit bytes, the least recently used first, with the images that need
// them; never those of spare. While something is being pulled it leaves all to the
// next call.
func (m *Manager) collect(ctx context.Context, limit int64, spare ...v1.Hash) (Pruned, error) {
	var recs []images.Record
	keep := func() (keep []v1.Hash, err error) {
		keep = append(keep, spare...)
		if recs, err = m.cfg.Images.List(ctx); err != nil {
			return nil, err
		}
		if limit == 0 {
			for _, rec := range recs {
				keep = append(keep, rec.DiffIDs...)
			}
		}
		for _, i := range m.all() {
			overlay, err := m.cfg.Roots.Overlay(i.dir)
			if errors.Is(err, rootfs.ErrNotFound) {
				continue // not cloned yet, or failed before that
			}
			if err != nil {
				return nil, err
			}
			keep = append(keep, overlay.Base.DiffIDs...)
		}
		return keep, nil
	}
	removed, err := m.cfg.Roots.Collect(ctx, rootfs.CollectOptions{Keep: keep, MaxBytes: limit})
	if errors.Is(err, rootfs.ErrBusy) {
		return Pruned{Busy: true}, nil
	}
	collected := Pruned{Layers: len(removed.Layers), Bytes: removed.Bytes}
	if err != nil || limit == 0 {
		return collected, err
	}
	for _, rec := range recs {
		if _, err := m.cfg.Roots.Base(rec.DiffIDs); rec.Own || !errors.Is(err, rootfs.ErrNotFound) {
			continue
		}
		m.log.Info("image removed to make room", "image", rec.Reference)
		if _, err := m.cfg.Images.Delete(ctx, rec.Reference); err != nil {
			return collected, err
		}
	}
	return collected, nil
}
