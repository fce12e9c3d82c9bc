package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/rootfs"
)

// PullProgress is how far the pull of an image is.
type PullProgress struct {
	Step string `json:"step"`
	// Done and Total are compressed bytes of the layers that were missing.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Layers are the image's layers as far as they are known, bottom first.
	Layers []LayerProgress `json:"layers"`
	// Missing counts the layers that were not there.
	Missing int `json:"missing"`

	Resolve time.Duration `json:"resolve"`
	Fetch   time.Duration `json:"fetch"`
	Unpack  time.Duration `json:"unpack"`
}

// Credentials are a user's for one registry. They are used and never kept.
type Credentials struct {
	Registry string           `json:"registry"` // host[:port]
	Auth     authn.AuthConfig `json:"auth"`
	// Glance is in whose name Glance is asked; nil: in Slipway's own.
	Glance *glance.Caller `json:"-"`
}

// LogValue keeps them out of logs.
func (*Credentials) LogValue() slog.Value { return slog.StringValue("redacted") }

// with gives a context for requests with these credentials, if there are any.
func (c *Credentials) with(ctx context.Context) context.Context {
	if c == nil {
		return ctx
	}
	if c.Glance != nil {
		ctx = glance.WithCaller(ctx, *c.Glance)
	}
	if c.Registry == "" {
		return ctx
	}
	return images.WithCredentials(ctx, c.Registry, c.Auth)
}

// LayerProgress is how far one layer is.
type LayerProgress struct {
	Digest string       `json:"digest,omitempty"` // of the compressed layer
	Phase  rootfs.Phase `json:"phase"`
	Done   int64        `json:"done"`  // compressed bytes
	Total  int64        `json:"total"` // of them
}

// Settled reports whether the layer is there.
func (l LayerProgress) Settled() bool {
	return l.Phase == rootfs.PhaseDone || l.Phase == rootfs.PhaseExists
}

// String is the progress in a few words.
func (p PullProgress) String() string {
	if p.Missing == 0 {
		return p.Step
	}
	return fmt.Sprintf("%s: %d of %d layers missing, %.1f of %.1f MB",
		p.Step, p.Missing, len(p.Layers), float64(p.Done)/1e6, float64(p.Total)/1e6)
}

// Pull makes an image ready, fetching what is missing. Without credentials the
// engine's own are used.
func (m *Manager) Pull(ctx context.Context, ref, policy string, auth *Credentials, progress func(PullProgress)) (Image, error) {
	when, err := pullPolicy(policy)
	if err != nil {
		return Image{}, err
	}
	return m.pullNew(auth.with(ctx), ref, images.ResolveOptions{Pull: when}, progress)
}

// Load makes the image in an archive ready that is read to its end, as the reference
// to a standard input says: docker-archive:- or oci-archive:-, and perhaps a tag. The
// image is then known by the name that it has in the archive, or else by its ID.
func (m *Manager) Load(ctx context.Context, ref string, archive io.Reader, progress func(PullProgress)) (Image, error) {
	if r, err := images.ParseReference(ref); err != nil || !r.Piped() {
		return Image{}, errorf(ErrInvalid, "image %q: an archive in the standard input is docker-archive:- or oci-archive:-", ref)
	}
	return m.pullNew(ctx, ref, images.ResolveOptions{Archive: archive}, progress)
}

// pullNew pulls an image for its own sake.
func (m *Manager) pullNew(ctx context.Context, ref string, o images.ResolveOptions, progress func(PullProgress)) (Image, error) {
	release, err := m.cfg.Roots.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	img, err := m.pullHeld(ctx, ref, o, progress)
	release()
	if err == nil {
		m.trim(ctx, img.DiffIDs)
	}
	return img, err
}

// ResolveImage looks an image up without fetching its layers, in a registry where
// it is not here already.
func (m *Manager) ResolveImage(ctx context.Context, ref string) (Image, error) {
	img, err := m.cfg.Images.Resolve(ctx, ref, images.ResolveOptions{})
	if err != nil {
		return Image{}, imageError(err)
	}
	defer func() { _ = img.Close() }()
	rec := images.Record{Reference: img.Reference, Digest: img.Digest}
	manifest, err := img.Manifest()
	if err != nil {
		return Image{}, imageError(err)
	}
	for _, l := range manifest.Layers {
		rec.Size += l.Size
	}
	rec.ID = manifest.Config.Digest.Hex
	if rec.Config, err = img.ConfigFile(); err != nil {
		return Image{}, imageError(err)
	}
	rec.Created = rec.Config.Created.Time
	return Image{Record: rec}, nil
}

func (m *Manager) pullHeld(ctx context.Context, ref string, o images.ResolveOptions, progress func(PullProgress)) (Image, error) {
	fetched := false
	before, berr := m.cfg.Images.Lookup(ctx, ref)
	img, _, err := m.pull(ctx, ref, o, func(p PullProgress) {
		fetched = fetched || p.Missing > 0
		progress(p)
	})
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = img.Close() }()
	rec, err := m.cfg.Images.Lookup(ctx, img.Reference)
	if err != nil {
		return Image{}, imageError(err)
	}
	return Image{Record: rec, New: fetched || berr != nil || before.Digest != rec.Digest}, nil
}

// pull resolves an image, unpacks the layers that are missing and records it.
// Whoever calls it holds the root store until what it made is referred to, and
// closes the image.
func (m *Manager) pull(ctx context.Context, ref string, o images.ResolveOptions, report func(PullProgress)) (_ *images.Image, _ *rootfs.Base, err error) {
	begin := time.Now()
	p := &pullMeter{report: report, sofar: PullProgress{Step: StepResolve}}
	report(p.sofar)
	img, err := m.cfg.Images.Resolve(ctx, ref, o)
	if err != nil {
		return nil, nil, imageError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, img.Close())
		}
	}()
	resolved := time.Now()
	p.start(resolved.Sub(begin))
	base, err := m.cfg.Roots.Unpack(ctx, img.Image, rootfs.UnpackOptions{Progress: p.layer})
	if err != nil {
		return nil, nil, imageError(err)
	}
	if _, err := m.cfg.Images.Save(ctx, img); err != nil {
		return nil, nil, imageError(err)
	}
	p.end(time.Since(resolved))
	return img, base, nil
}

// pullPolicy reads a pull policy; empty is missing.
func pullPolicy(s string) (images.Pull, error) {
	switch s {
	case "", "missing":
		return images.PullMissing, nil
	case "always":
		return images.PullAlways, nil
	case "never":
		return images.PullNever, nil
	}
	return 0, errorf(ErrInvalid, "pull policy %q: use missing, always or never", s)
}

// pullMeter adds up what the layers of one pull report.
type pullMeter struct {
	mu     sync.Mutex
	report func(PullProgress)
	began  time.Time
	last   time.Time // when the last byte arrived
	sofar  PullProgress
}

func (p *pullMeter) start(resolve time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
	p.sofar.Step, p.sofar.Resolve = StepFetch, resolve
	p.report(p.sofar)
}

// layer is told of the progress of each layer, from several goroutines.
func (p *pullMeter) layer(l rootfs.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	layers := slices.Clone(p.sofar.Layers) // whoever has the last report keeps it
	for len(layers) < l.Layers {
		layers = append(layers, LayerProgress{Phase: rootfs.PhaseWaiting})
	}
	before := layers[l.Index]
	layers[l.Index] = LayerProgress{Digest: l.Digest.String(), Phase: l.Phase, Done: l.Complete, Total: l.Total}
	p.sofar.Layers = layers
	if l.Phase != rootfs.PhaseExists {
		if before.Total == 0 && l.Total > 0 {
			p.sofar.Missing++
			p.sofar.Total += l.Total
		}
		if l.Complete > before.Done {
			p.last = time.Now()
			p.sofar.Done += l.Complete - before.Done
		}
	}
	p.report(p.sofar)
}

func (p *pullMeter) end(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sofar.Missing > 0 {
		if !p.last.IsZero() {
			p.sofar.Fetch = p.last.Sub(p.began)
		}
		p.sofar.Unpack = max(0, took-p.sofar.Fetch)
	}
	p.report(p.sofar)
}

// imageError puts the kinds of package images into those of this one.
func imageError(err error) error {
	for from, to := range map[error]error{
		images.ErrNotFound:         ErrNotFound,
		images.ErrInvalidReference: ErrInvalid,
		images.ErrAmbiguous:        ErrConflict,
		images.ErrUnavailable:      ErrUnavailable,
	} {
		if errors.Is(err, from) {
			return &kindError{kind: to, msg: err.Error()}
		}
	}
	return err
}
