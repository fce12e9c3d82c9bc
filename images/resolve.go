package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-vm/slipway/images/content"
)

// Pull says when a registry is asked.
type Pull int

const (
	// PullMissing asks it for what is not remembered.
	PullMissing Pull = iota
	// PullAlways asks it whether the reference still means the same.
	PullAlways
	// PullNever never does.
	PullNever
)

// ResolveOptions change how a reference is resolved.
type ResolveOptions struct {
	Pull Pull
	// Platform is wanted of an index; nil means Linux on this processor.
	Platform *v1.Platform
	// Archive is what a reference to the standard input (docker-archive:-,
	// oci-archive:-) means. It is read to its end, and the image is then known by
	// the name that the archive gives it, if it gives one.
	Archive io.Reader
}

const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	// What is read of a document takes many times its size, where that is full of
	// empty values; no honest one has so many.
	maxValues  = 100_000
	maxNesting = 4 // of indexes

	// A prefix of an ID shorter than that may as well be an image's name.
	minID = 12
)

// Resolve finds the image a reference means. Of a remembered image, and of
// one in a file, the network is not asked.
func (s *Store) Resolve(ctx context.Context, ref string, o ResolveOptions) (*Image, error) {
	i, err := s.resolve(ctx, ref, o)
	if err != nil {
		return nil, fmt.Errorf("resolve image %s: %w", ref, err)
	}
	return i, nil
}

func (s *Store) resolve(ctx context.Context, ref string, o ResolveOptions) (*Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	if o.Platform == nil {
		o.Platform = &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	if r.Remote() && o.Pull != PullAlways {
		i, err := s.remembered(ctx, ref, r, o)
		if err == nil || o.Pull == PullNever || !errors.Is(err, ErrNotFound) {
			return i, err
		}
	}
	switch {
	case r.Piped():
		return s.piped(ctx, r, o)
	case r.Transport == Glance:
		return s.resolveGlance(ctx, r, o)
	}
	source, top, err := s.locate(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.Transport == Registry {
		source = keptBlobs{source, s.blobs}
	}
	i, err := assemble(ctx, r, source, top, o.Platform)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	i.Local = r.Transport != Registry
	return i, nil
}

// document is a manifest or an index, checked against its digest.
type document struct {
	raw       []byte
	mediaType types.MediaType
	name      string // what the archive that it is in calls it, if that is a name
}

// locate opens where a reference points and reads the document there.
func (s *Store) locate(ctx context.Context, r Reference) (blobs, document, error) {
	switch r.Transport {
	case Layout:
		return openLayout(ctx, r)
	case LayoutArchive, DockerArchive:
		if r.Piped() {
			return nil, document{}, fmt.Errorf("the archive came from standard input and is gone: pull it again: %w", ErrNotFound)
		}
		a, err := s.openArchive(ctx, r.Path)
		if err != nil {
			return nil, document{}, err
		}
		return readArchive(ctx, a, r)
	}
	return s.openRegistry(ctx, r)
}

// piped reads an archive that is no file.
func (s *Store) piped(ctx context.Context, r Reference, o ResolveOptions) (*Image, error) {
	if o.Archive == nil {
		return nil, fmt.Errorf("%w: %s needs an archive in the standard input", ErrInvalidReference, r)
	}
	a, err := s.spoolArchive(ctx, o.Archive)
	if err != nil {
		return nil, err
	}
	source, top, err := readArchive(ctx, a, r)
	if err != nil {
		return nil, err
	}
	i, err := assemble(ctx, r, source, top, o.Platform)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	i.Local = true
	if n, err := name.ParseReference(top.name); top.name != "" && err == nil {
		i.Reference = Reference{Transport: Registry, Name: n}.String()
	}
	return i, nil
}

// remembered answers from the store.
func (s *Store) remembered(ctx context.Context, ref string, r Reference, o ResolveOptions) (*Image, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return nil, err
	}
	defer release()
	found, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	e := found[0]
	if e.Reference != r.String() && len(ref) < minID {
		return nil, ErrNotFound
	}
	raw, config, err := s.read(e)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		s.log.Warn("image record incomplete", "image", e.Reference, "err", err)
		return nil, fmt.Errorf("%w: record incomplete", ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	if e.Reference != r.String() {
		// Found by ID or digest: its layers are where its name says.
		if r, err = ParseReference(e.Reference); err != nil {
			return nil, err
		}
	}
	source, err := s.sourceOf(e, r)
	if err != nil {
		return nil, err
	}
	i, err := newImage(r, raw, config, source)
	if err != nil {
		return nil, err
	}
	i.origin = e.Origin
	i.made = e.Made
	if err := checkPlatform(i, o.Platform); err != nil {
		// Another platform's was remembered.
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	i.Local = true
	return i, nil
}

// sourceOf is where the blobs of a remembered image are to be had again.
func (s *Store) sourceOf(e entry, r Reference) (blobs, error) {
	if e.Made != nil {
		base, err := ParseReference(e.Made.Base)
		if err != nil {
			return nil, err
		}
		source, err := s.sourceOf(entry{Origin: e.Made.Origin}, base)
		return &madeBlobs{source, s.blobs, e.Made}, err
	}
	if e.Origin != nil {
		return &glanceBlobs{store: s, id: e.Origin.ID}, nil
	}
	return &lazyBlobs{store: s, ref: r}, nil
}

// lazyBlobs opens where a reference points when the first blob is asked for.
type lazyBlobs struct {
	store *Store
	ref   Reference
}

func (l *lazyBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if l.ref.Transport == Registry {
		return l.store.registryBlobs(l.ref).open(ctx, d)
	}
	source, _, err := l.store.locate(ctx, l.ref)
	if err != nil {
		return nil, err
	}
	rc, err := source.open(ctx, d)
	if err != nil {
		return nil, errors.Join(err, source.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{rc, closers{rc, source}}, nil
}

func (l *lazyBlobs) Close() error { return nil }

// keptBlobs asks a place only for what is not kept here: the manifest and the
// configuration of an image that has not changed are.
type keptBlobs struct {
	blobs
	kept *content.Store
}

func (k keptBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if b, err := k.kept.Bytes(d.Digest); err == nil {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	return k.blobs.open(ctx, d)
}

type closers []io.Closer

func (c closers) Close() error {
	var errs []error
	for _, x := range c {
		errs = append(errs, x.Close())
	}
	return errors.Join(errs...)
}

// assemble goes down indexes to the platform's manifest and reads what it
// names.
func assemble(ctx context.Context, r Reference, source blobs, top document, p *v1.Platform) (*Image, error) {
	if err := crowded(top.raw); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	for range maxNesting {
		if !isIndex(top) {
			return assembleManifest(ctx, r, source, top, p)
		}
		index, err := v1.ParseIndexManifest(bytes.NewReader(top.raw))
		if err != nil {
			return nil, fmt.Errorf("index: %w: %w", ErrCorrupt, err)
		}
		d, err := selectPlatform(index, p)
		if err != nil {
			return nil, err
		}
		raw, err := readBlob(ctx, source, d, maxManifest)
		if err != nil {
			return nil, err
		}
		top = document{raw: raw, mediaType: d.MediaType}
	}
	return nil, fmt.Errorf("index in more than %d others: %w", maxNesting, ErrUnsupported)
}

func assembleManifest(ctx context.Context, r Reference, source blobs, top document, p *v1.Platform) (*Image, error) {
	m, err := v1.ParseManifest(bytes.NewReader(top.raw))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrCorrupt, err)
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest of schema version %d: %w", m.SchemaVersion, ErrUnsupported)
	}
	if !m.Config.MediaType.IsConfig() {
		return nil, fmt.Errorf("config %s has media type %q, which is no image: %w", m.Config.Digest, m.Config.MediaType, ErrUnsupported)
	}
	config, err := readBlob(ctx, source, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	i, err := newImage(r, top.raw, config, source)
	if err != nil {
		return nil, err
	}
	return i, checkPlatform(i, p)
}

// isIndex trusts the document's own words over the media type it came with.
func isIndex(d document) bool {
	var probe struct {
		MediaType types.MediaType  `json:"mediaType"`
		Manifests *json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(d.raw, &probe) == nil && probe.MediaType != "" {
		return probe.MediaType.IsIndex()
	}
	return probe.Manifests != nil || d.mediaType.IsIndex()
}

// readBlob reads a small blob whole, checked.
func readBlob(ctx context.Context, source blobs, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("blob %s of %d bytes: %w", d.Digest, d.Size, ErrCorrupt)
	}
	rc, err := source.open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	b, err := io.ReadAll(verify(rc, d))
	if err != nil {
		return nil, err
	}
	if err := crowded(b); err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return b, nil
}

// crowded refuses a document of JSON with more values than maxValues. What is in
// strings counts too, which honest documents have room for.
func crowded(b []byte) error {
	n := 0
	for _, c := range b {
		if c == ',' || c == '{' || c == '[' {
			n++
		}
	}
	if n > maxValues {
		return fmt.Errorf("more than %d values in one document: %w", maxValues, ErrCorrupt)
	}
	return nil
}
