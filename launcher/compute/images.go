package compute

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher"
)

// ImageStore is where images are; *launcher.Manager is one.
type ImageStore interface {
	// Images returns the images that are ready.
	Images(ctx context.Context) ([]launcher.Image, error)
	// ResolveImage looks an image up without fetching it, in a registry if need be.
	ResolveImage(ctx context.Context, ref string) (launcher.Image, error)
	// DeleteImage removes an image. The error matches launcher.ErrConflict while
	// servers use it.
	DeleteImage(ctx context.Context, ref string, force bool) error
}

// Glance is a real image service; *glance.Client is one. It is asked in the name of
// whoever the context says.
type Glance interface {
	// Find returns the image with an ID or a name, or glance.ErrNotFound.
	Find(ctx context.Context, name string) (glance.Image, error)
	// List returns the images that pass a filter.
	List(ctx context.Context, filter url.Values) ([]glance.Image, error)
}

// Image is an image as an image service shows it.
type Image struct {
	// ID is a UUID made of the reference. It stays when the reference comes to mean
	// another image, and is known before the image is here. An image of Glance's has
	// its own.
	ID        string
	Name      string // the reference, or what it was asked for by
	Reference string // canonical
	Ready     bool   // pulled; else it is when a server is made from it
	Digest    string // of the manifest; may be empty while it is not ready
	Size      int64  // bytes of its layers in a registry
	Arch      string // of the image's configuration
	Created   time.Time
	Updated   time.Time

	Glance     bool   // it is Glance's
	Visibility string // there
	Owner      string // there: a project
}

// Images are those that are ready, those of Glance's, and those that a registry has and that were
// lately asked for by name, which are found by their IDs from then on.
type Images struct {
	store  ImageStore
	glance Glance // nil: none
	now    func() time.Time
	log    *slog.Logger

	asked *table[Image] // by ID
	mu    sync.Mutex    // held while one enters
}

const (
	maxAsked = 1000
	// askTime bounds how long a registry is waited for while a name is looked up.
	askTime = 15 * time.Second
)

// imageSpace is the name space of the IDs of images.
var imageSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/slipway-vm/slipway/images"))

// ImageID is the ID of the image that a canonical reference names.
func ImageID(reference string) string {
	return uuid.NewSHA1(imageSpace, []byte(reference)).String()
}

// All returns the images that are ready and those of Glance's that the caller may
// see, the newest first.
func (m *Images) All(ctx context.Context) ([]Image, error) {
	if m.store == nil {
		return nil, nil
	}
	stored, err := m.store.Images(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Image, 0, len(stored))
	for _, img := range stored {
		// Whose those of Glance's are, Glance says.
		if ref, err := images.ParseReference(img.Reference); err != nil || ref.Transport != images.Glance {
			list = append(list, asImage(img, true))
		}
	}
	theirs, err := m.ofGlance(ctx)
	if err != nil {
		return nil, err
	}
	list = append(list, theirs...)
	slices.SortFunc(list, func(a, b Image) int { return b.Created.Compare(a.Created) })
	return list, nil
}

func asImage(img launcher.Image, ready bool) Image {
	x := Image{
		ID: ImageID(img.Reference), Name: img.Reference, Reference: img.Reference, Ready: ready,
		Digest: img.Digest.String(), Size: img.Size, Created: img.Pulled, Updated: img.Pulled,
	}
	if img.Config != nil {
		x.Arch = img.Config.Architecture
	}
	return x
}

// Find returns the image with an ID.
func (m *Images) Find(ctx context.Context, id string) (Image, error) {
	if m.glance != nil {
		if x, err := m.glanceByID(ctx, id); !errors.Is(err, launcher.ErrNotFound) {
			return x, err
		}
	}
	all, err := m.All(ctx)
	if err != nil {
		return Image{}, err
	}
	if i := slices.IndexFunc(all, func(x Image) bool { return x.ID == id }); i >= 0 {
		return all[i], nil
	}
	if x, ok := m.asked.get(id); ok {
		return x, nil
	}
	return Image{}, launcher.Errorf(launcher.ErrNotFound, "Image %s could not be found.", id)
}

// Named returns the image that a name means: one that is ready, by its reference
// as docker would write it, or one that a registry has. A registry is only asked
// about what can be nothing but a reference: a name with a tag, a digest or a
// registry's host. Without an image the error matches launcher.ErrNotFound.
//
// Where a registry cannot be asked, because it does not answer or wants other
// credentials, the image is taken to be there: the server's boot says what is wrong.
func (m *Images) Named(ctx context.Context, name string) (Image, error) {
	none := launcher.Errorf(launcher.ErrNotFound, "Image %s could not be found.", name)
	all, err := m.All(ctx)
	if err != nil {
		return Image{}, err
	}
	ref, err := images.ParseReference(name)
	if err != nil {
		return Image{}, none
	}
	for _, x := range all {
		if x.Reference == name || ref.Transport == images.Registry && x.Reference == ref.String() {
			x.Name = name
			return x, nil
		}
	}
	if m.glance != nil {
		x, err := m.findInGlance(ctx, name)
		if !errors.Is(err, launcher.ErrNotFound) {
			return x, err
		}
	}
	// A path of this host is nothing that a user of the network may name.
	if m.store == nil || ref.Transport != images.Registry || !explicit(name) {
		return Image{}, none
	}
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	img, err := m.store.ResolveImage(asking, ref.String())
	x := asImage(img, false)
	switch {
	case errors.Is(err, launcher.ErrNotFound) || errors.Is(err, launcher.ErrInvalid):
		return Image{}, none
	case ctx.Err() != nil:
		return Image{}, ctx.Err()
	case err != nil:
		m.log.Info("registry cannot be asked", "image", ref.String(), "err", err)
		x = Image{ID: ImageID(ref.String()), Reference: ref.String()}
	}
	x.Name, x.Created, x.Updated = name, m.now(), m.now()
	return x, m.remember(ctx, x)
}

// explicit tells a reference from a word: it has a tag, a digest or a host.
func explicit(name string) bool {
	first, rest, path := strings.Cut(name, "/")
	host := path && (strings.ContainsAny(first, ".:") || first == "localhost")
	if !path {
		rest = first
	}
	return host || strings.ContainsAny(rest, ":@")
}

// remember keeps an image that was asked for, in place of the one that was the longest
// ago where there are too many.
func (m *Images) remember(ctx context.Context, x Image) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.asked.get(x.ID)
	if known.Created, known.Updated = x.Created, x.Updated; ok && known == x {
		return nil // the times alone are not worth a write
	}
	if all := m.asked.all(nil); !ok && len(all) >= maxAsked {
		oldest := slices.MinFunc(all, func(a, b Image) int { return a.Updated.Compare(b.Updated) })
		if err := m.forget(ctx, oldest.ID); err != nil {
			return err
		}
	}
	_, err := m.asked.change(ctx, x.ID, func(Image, bool) (Image, error) { return x, nil })
	return err
}

func (m *Images) forget(ctx context.Context, id string) error {
	_, err := m.asked.remove(ctx, func(key string, _ Image) bool { return key == id })
	return err
}

// Delete removes the image with an ID. The error matches launcher.ErrConflict while
// servers use it.
func (m *Images) Delete(ctx context.Context, id string) error {
	x, err := m.Find(ctx, id)
	if err != nil {
		return err
	}
	if err := m.forget(ctx, id); err != nil {
		return err
	}
	switch {
	case x.Glance:
		return launcher.Errorf(launcher.ErrConflict, "image %s is Glance's", id)
	case !x.Ready:
		return nil
	}
	return m.store.DeleteImage(ctx, x.Reference, false)
}
