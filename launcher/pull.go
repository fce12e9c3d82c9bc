package launcher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/rootfs"
)

// PullProgress is how far the pull of an image is.
type PullProgress struct {
	Step string `json:"step"`
	// Done and Total are compressed bytes of the layers that were missing.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Layers counts all layers; Missing those that were not there.
	Layers  int `json:"layers"`
	Missing int `json:"missing"`
	// Layer is the layer that this report is about, if it is about one.
	Layer *rootfs.Progress `json:"layer,omitempty"`

	Resolve time.Duration `json:"resolve"`
	Fetch   time.Duration `json:"fetch"`
	Unpack  time.Duration `json:"unpack"`
}

// String is the progress in a few words.
func (p PullProgress) String() string {
	if p.Missing == 0 {
		return p.Step
	}
	return fmt.Sprintf("%s: %d of %d layers missing, %.1f of %.1f MB",
		p.Step, p.Missing, p.Layers, float64(p.Done)/1e6, float64(p.Total)/1e6)
}

// Pull makes an image ready, fetching what is missing.
func (m *Manager) Pull(ctx context.Context, ref string, policy string, progress func(PullProgress)) (Image, error) {
	release, err := m.cfg.Roots.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	img, err := m.pullHeld(ctx, ref, policy, progress)
	release()
	if err == nil {
		m.trim(ctx, img.DiffIDs)
	}
	return img, err
}

func (m *Manager) pullHeld(ctx context.Context, ref string, policy string, progress func(PullProgress)) (Image, error) {
	fetched := false
	before, berr := m.cfg.Images.Lookup(ctx, ref)
	img, _, err := m.pull(ctx, ref, policy, func(p PullProgress) {
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
func (m *Manager) pull(ctx context.Context, ref string, policy string, report func(PullProgress)) (_ *images.Image, _ *rootfs.Base, err error) {
	when, err := pullPolicy(policy)
	if err != nil {
		return nil, nil, err
	}
	begin := time.Now()
	p := &pullMeter{report: report, sofar: PullProgress{Step: StepResolve}, done: map[v1.Hash]int64{}}
	report(p.sofar)
	img, err := m.cfg.Images.Resolve(ctx, ref, images.ResolveOptions{Pull: when})
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
	done   map[v1.Hash]int64
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
	if _, known := p.done[l.DiffID]; !known {
		p.sofar.Layers++
		if l.Phase != rootfs.PhaseExists {
			p.sofar.Missing++
			p.sofar.Total += l.Total
		}
	}
	if l.Complete > p.done[l.DiffID] && l.Phase != rootfs.PhaseExists {
		p.last = time.Now()
		p.sofar.Done += l.Complete - p.done[l.DiffID]
	}
	p.done[l.DiffID] = l.Complete
	p.sofar.Layer = &l
	p.report(p.sofar)
}

func (p *pullMeter) end(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sofar.Layer = nil
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
		images.ErrUnavailable:      ErrUnavailable,
	} {
		if errors.Is(err, from) {
			return &kindError{kind: to, msg: err.Error()}
		}
	}
	return err
}
