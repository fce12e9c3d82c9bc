package images

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// pushToRegistry has go-containerregistry upload, which skips the blobs that are
// there and has those mounted that the registry has in another repository.
func (s *Store) pushToRegistry(ctx context.Context, p *pushing, to Reference, o PushOptions) error {
	if o.Public {
		return fmt.Errorf("%w: whom an image in a registry is for, the registry says: --public is for glance:NAME", ErrInvalidReference)
	}
	if d, ok := to.Name.(name.Digest); ok && d.DigestStr() != p.image.Digest.String() {
		return fmt.Errorf("%w: the image has digest %s: push it to a tag", ErrInvalidReference, p.image.Digest)
	}
	ref := to.Name
	if slices.Contains(s.config.Insecure, ref.Context().RegistryStr()) {
		var err error
		if ref, err = name.ParseReference(ref.Name(), name.Insecure); err != nil {
			return err
		}
	}
	auth, err := s.authenticator(ctx, ref.Context())
	if err != nil {
		return fmt.Errorf("credentials for %s: %w", ref.Context().RegistryStr(), err)
	}
	options := []remote.Option{remote.WithTransport(s.base), remote.WithAuth(auth), remote.WithContext(ctx), remote.WithJobs(pushers)}
	p.done.Reference = to.String()
	// Where this cannot be asked, the upload says what is wrong.
	if d, err := remote.Head(ref, options...); err == nil && d.Digest == p.image.Digest {
		return nil
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return requestError(err)
	}
	err = p.layers(ctx, func(ctx context.Context, l *imageLayer, open opener) (bool, error) {
		x := &pushedLayer{imageLayer: l, ctx: ctx, opener: open}
		err := pusher.Upload(ctx, ref.Context(), p.image.mountable(x, ref.Context().Registry))
		return x.result(err)
	})
	if err != nil {
		return err
	}
	// The layers are not uploaded again: the pusher remembers them.
	if err := pusher.Push(ctx, ref, p.image.Image); err != nil {
		return requestError(err)
	}
	p.done.New = true
	return nil
}

// mountable says of a layer that comes from another repository of a registry that it
// is there.
func (i *Image) mountable(l *pushedLayer, registry name.Registry) v1.Layer {
	from := i.ref
	if m := i.made; m != nil {
		base, err := ParseReference(m.Base)
		if err != nil || slices.Contains(m.Layers, l.desc.Digest) {
			return l
		}
		from = base
	}
	if from.Transport != Registry || from.Name.Context().RegistryStr() != registry.RegistryStr() {
		return l
	}
	return &remote.MountableLayer{Layer: l, Reference: from.Name}
}

// pushedLayer is opened when it is found to be missing.
type pushedLayer struct {
	*imageLayer
	ctx    context.Context //nolint:containedctx // as long as the upload
	opener opener

	mu     sync.Mutex
	opened bool
	err    error // of reading it, which is not the registry's
}

func (l *pushedLayer) Compressed() (io.ReadCloser, error) {
	rc, err := l.opener(l.ctx)
	l.failed(err)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened, l.err = true, nil
	return struct {
		io.Reader
		io.Closer
	}{readerFunc(func(b []byte) (int, error) {
		n, err := rc.Read(b)
		l.failed(err)
		return n, err
	}), rc}, nil
}

func (l *pushedLayer) failed(err error) {
	if err != nil && err != io.EOF { //nolint:errorlint // of a Reader
		l.mu.Lock()
		defer l.mu.Unlock()
		l.err = err
	}
}

// result says whether the layer was missing, and why it could not be uploaded.
func (l *pushedLayer) result(err error) (missing bool, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && l.err != nil {
		return true, l.err
	}
	return l.opened, requestError(err)
}
