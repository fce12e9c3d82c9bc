package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-vm/slipway/images/glance"
)

// PushOptions change how an image is pushed.
type PushOptions struct {
	// Public lets everybody use it, in Glance.
	Public bool
	// Progress, if set, is called when a layer has been found there and now and then
	// while one is uploaded; calls do not overlap.
	Progress func(PushProgress)
}

// PushProgress is how far one layer is.
type PushProgress struct {
	Index    int // from the bottom
	Layers   int
	Digest   v1.Hash
	Exists   bool // there before
	Complete int64
	Total    int64
}

// Pushed is what a push came to.
type Pushed struct {
	Reference string  `json:"reference"` // of the image that now is there
	Digest    v1.Hash `json:"digest"`
	// Layers and Bytes were uploaded, the configuration and the manifest apart.
	Layers int   `json:"layers"`
	Bytes  int64 `json:"bytes"`
	New    bool  `json:"new"` // else all was there
}

// pushers is how many layers are uploaded at a time.
const pushers = 2

// Push stores an image where a reference points, as far as it is not there. The
// layers that are missing are read from where the image came from, since what is
// kept of them here is unpacked.
func (s *Store) Push(ctx context.Context, i *Image, to Reference, o PushOptions) (Pushed, error) {
	if to.Transport != Glance {
		return Pushed{}, fmt.Errorf("push image %s to %s: images are pushed to glance:NAME: %w", i.Reference, to, ErrUnsupported)
	}
	p, err := s.pushToGlance(ctx, i, to, o)
	if err != nil {
		return Pushed{}, fmt.Errorf("push image %s to %s: %w", i.Reference, to, err)
	}
	return p, nil
}

// glancePush is one push to Glance.
type glancePush struct {
	client     *glance.Client
	image      *Image
	visibility string

	mu     sync.Mutex
	report func(PushProgress)
	done   Pushed
}

func (s *Store) pushToGlance(ctx context.Context, i *Image, to Reference, o PushOptions) (Pushed, error) {
	if s.config.Glance == nil {
		return Pushed{}, fmt.Errorf("%w: no Glance is configured (image.url)", ErrInvalidReference)
	}
	if glance.IsID(to.Path) {
		return Pushed{}, fmt.Errorf("%w: Glance gives the IDs: use a name", ErrInvalidReference)
	}
	p := &glancePush{client: s.config.Glance, image: i, visibility: "private", report: o.Progress}
	if o.Public {
		p.visibility = "public"
	}
	if p.report == nil {
		p.report = func(PushProgress) {}
	}
	p.done.Digest = i.Digest
	if err := p.layers(ctx); err != nil {
		return Pushed{}, err
	}
	m, err := i.Manifest()
	if err != nil {
		return Pushed{}, err
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return Pushed{}, err
	}
	if _, err := p.blob(ctx, m.Config, func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(config)), nil
	}); err != nil {
		return Pushed{}, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return p.done, p.manifest(ctx, to)
}

// layers uploads those that are missing. A layer that comes twice is one.
func (p *glancePush) layers(ctx context.Context) error {
	layers, err := p.image.Layers()
	if err != nil {
		return err
	}
	seen := map[v1.Hash]bool{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pushers)
	for n, l := range layers {
		l := l.(*imageLayer)
		if seen[l.desc.Digest] {
			continue
		}
		seen[l.desc.Digest] = true
		group.Go(func() error {
			progress := PushProgress{Index: n, Layers: len(layers), Digest: l.desc.Digest, Total: l.desc.Size}
			missing, err := p.blob(ctx, l.desc, func(ctx context.Context) (io.ReadCloser, error) {
				rc, err := l.Open(ctx)
				if err != nil {
					return nil, err
				}
				return &counted{rc, p, progress}, nil
			})
			if err != nil {
				return fmt.Errorf("layer %s: %w", l.desc.Digest, err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			if missing {
				p.done.Layers++
				p.done.Bytes += l.desc.Size
			}
			progress.Exists, progress.Complete = !missing, l.desc.Size
			p.report(progress)
			return nil
		})
	}
	return group.Wait()
}

// blob sees to it that a blob is there for all who may use the image, and says
// whether it was missing.
func (p *glancePush) blob(ctx context.Context, d v1.Descriptor, open func(context.Context) (io.ReadCloser, error)) (missing bool, err error) {
	there, err := p.client.Blob(ctx, d.Digest.String(), d.Size)
	if err == nil && p.visibility == "public" && there.Visibility != "public" {
		return false, glanceError(p.client.SetVisibility(ctx, there.ID, p.visibility))
	}
	if !errors.Is(err, glance.ErrNotFound) {
		return false, glanceError(err)
	}
	rc, err := open(ctx)
	if err != nil {
		return true, fmt.Errorf("it is not in Glance, and here it is kept unpacked alone: %w", err)
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

// machine is an architecture in Nova's words; empty where Nova has none.
func machine(arch string) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
}

// counted reports what is read of a layer.
type counted struct {
	io.ReadCloser
	push *glancePush
	PushProgress
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.Complete += int64(n)
	c.push.mu.Lock()
	defer c.push.mu.Unlock()
	c.push.report(c.PushProgress)
	return n, err
}
