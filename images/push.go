package images

import (
	"context"
	"fmt"
	"io"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
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
// kept of them here is unpacked, but for those of images that were made here.
func (s *Store) Push(ctx context.Context, i *Image, to Reference, o PushOptions) (Pushed, error) {
	p := &pushing{image: i, report: o.Progress}
	if p.report == nil {
		p.report = func(PushProgress) {}
	}
	p.done.Digest = i.Digest
	var err error
	switch to.Transport {
	case Glance:
		err = s.pushToGlance(ctx, p, to, o)
	case Registry:
		err = s.pushToRegistry(ctx, p, to, o)
	default:
		err = fmt.Errorf("images are pushed to registries and to glance:NAME: %w", ErrUnsupported)
	}
	if err != nil {
		return Pushed{}, fmt.Errorf("push image %s to %s: %w", i.Reference, to, err)
	}
	return p.done, nil
}

// pushing is one push.
type pushing struct {
	image *Image

	mu     sync.Mutex
	report func(PushProgress)
	done   Pushed
}

// opener opens a layer, whose reading is reported.
type opener = func(context.Context) (io.ReadCloser, error)

// layers uploads those that are missing. A layer that comes twice is one.
func (p *pushing) layers(ctx context.Context, upload func(ctx context.Context, l *imageLayer, open opener) (missing bool, err error)) error {
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
			missing, err := upload(ctx, l, func(ctx context.Context) (io.ReadCloser, error) {
				rc, err := l.Open(ctx)
				if err != nil {
					return nil, fmt.Errorf("it is not there, and here it is kept unpacked alone: %w", err)
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

// counted reports what is read of a layer.
type counted struct {
	io.ReadCloser
	push *pushing
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
