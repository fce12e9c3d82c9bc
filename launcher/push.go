package launcher

import (
	"context"
	"slices"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/rootfs"
)

// PhaseUpload is that of a layer that is being pushed.
const PhaseUpload rootfs.Phase = "uploading"

// PushOrder says what is pushed where.
type PushOrder struct {
	Image       string `json:"image"`
	Destination string `json:"destination"`
	Public      bool   `json:"public,omitempty"` // in Glance: for everybody to use
}

// Push stores an image elsewhere, as far as it is not there yet. Without credentials
// for where it comes from, or for where it goes, the engine's own are used.
func (m *Manager) Push(ctx context.Context, order PushOrder, from, there *Credentials, progress func(PullProgress)) (images.Pushed, error) {
	to, err := images.ParseReference(order.Destination)
	if err != nil {
		return images.Pushed{}, imageError(err)
	}
	ctx = there.with(from.with(ctx))
	img, err := m.cfg.Images.Resolve(ctx, order.Image, images.ResolveOptions{})
	if err != nil {
		return images.Pushed{}, imageError(err)
	}
	defer func() { _ = img.Close() }()
	sofar := PullProgress{Step: StepPush}
	pushed, err := m.cfg.Images.Push(ctx, img, to, images.PushOptions{Public: order.Public, Progress: func(p images.PushProgress) {
		layers := slices.Clone(sofar.Layers) // whoever has the last report keeps it
		for len(layers) < p.Layers {
			layers = append(layers, LayerProgress{Phase: rootfs.PhaseWaiting})
		}
		l := &layers[p.Index]
		l.Digest, l.Done, l.Total, l.Phase = p.Digest.String(), p.Complete, p.Total, PhaseUpload
		switch {
		case p.Exists:
			l.Phase = rootfs.PhaseExists
		case p.Complete == p.Total:
			l.Phase = rootfs.PhaseDone
		}
		sofar.Layers = layers
		progress(sofar)
	}})
	return pushed, imageError(err)
}
