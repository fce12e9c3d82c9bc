package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"

	"github.com/slipway-vm/slipway/images/content"
)

// Commit remembers under a reference an image that has one more layer than another:
// the tar stream that write writes. Nobody else has that layer, so it is kept as a
// registry would hold it; the others are had from where they came from.
func (s *Store) Commit(ctx context.Context, base *Image, reference, comment string, write func(io.Writer) error) (Record, error) {
	r, err := s.commit(ctx, base, reference, comment, write)
	if err != nil {
		return Record{}, fmt.Errorf("commit image %s: %w", reference, err)
	}
	return r, nil
}

func (s *Store) commit(ctx context.Context, base *Image, reference, comment string, write func(io.Writer) error) (Record, error) {
	ref, err := ParseReference(reference)
	if err != nil {
		return Record{}, err
	}
	if ref.Transport != Registry {
		return Record{}, fmt.Errorf("%w: %q: a new image has a name like a registry's, NAME[:TAG]", ErrInvalidReference, reference)
	}
	f, err := content.Temporary(filepath.Join(s.dir, "tmp"), "layer-*")
	if err != nil {
		return Record{}, err
	}
	defer content.Discard(f)
	layer, diffID, err := compressLayer(f, write)
	if err != nil {
		return Record{}, err
	}
	raw, config, err := base.with(layer, diffID, comment, time.Now().UTC())
	if err != nil {
		return Record{}, err
	}
	img, err := newImage(ref, raw, config, base.source)
	if err != nil {
		return Record{}, err
	}
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return Record{}, err
	}
	defer release()
	if err := s.blobs.Adopt(layer.Digest, f); err != nil {
		return Record{}, err
	}
	img.made = &made{Layers: []v1.Hash{layer.Digest}, Base: base.Reference, Origin: base.origin}
	if m := base.made; m != nil {
		img.made.Layers = append(img.made.Layers, m.Layers...)
		img.made.Base, img.made.Origin = m.Base, m.Origin
	}
	return s.enter(img)
}

// Verify reads the layers again that are kept as they are, of an image that was made
// here, and compares them with their digests.
func (s *Store) Verify(ctx context.Context, r Record) error {
	all, err := s.entries()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		if e.Reference != r.Reference || e.Made == nil {
			continue
		}
		for _, h := range e.Made.Layers {
			errs = append(errs, s.blobs.Verify(ctx, h))
		}
	}
	return errors.Join(errs...)
}

// compressLayer compresses what write writes.
func compressLayer(f *os.File, write func(io.Writer) error) (layer v1.Descriptor, diffID v1.Hash, err error) {
	compressed, plain := &summed{Hash: sha256.New()}, sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(f, compressed), gzip.BestSpeed)
	if err != nil {
		return layer, diffID, err
	}
	if err := write(io.MultiWriter(z, plain)); err != nil {
		return layer, diffID, err
	}
	if err := z.Close(); err != nil {
		return layer, diffID, err
	}
	layer = v1.Descriptor{MediaType: types.OCILayer, Size: compressed.n, Digest: sum256(compressed)}
	return layer, sum256(plain), nil
}

func sum256(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// summed counts what it sums up.
type summed struct {
	hash.Hash
	n int64
}

func (s *summed) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	return s.Hash.Write(b)
}

// with gives the manifest and the configuration of an image with one more layer. Of
// the configuration, what is not known here stays too.
func (i *Image) with(layer v1.Descriptor, diffID v1.Hash, comment string, now time.Time) (manifest, config []byte, err error) {
	m, err := i.Manifest()
	if err != nil {
		return nil, nil, err
	}
	raw, err := i.RawConfigFile()
	if err != nil {
		return nil, nil, err
	}
	c, err := i.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diffID)
	c.History = append(c.History, v1.History{Created: v1.Time{Time: now}, CreatedBy: "slipway", Comment: comment})
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, nil, fmt.Errorf("config: %w: %w", ErrCorrupt, err)
	}
	for name, value := range map[string]any{"rootfs": c.RootFS, "history": c.History, "created": now} {
		if members[name], err = json.Marshal(value); err != nil {
			return nil, nil, err
		}
	}
	if config, err = json.Marshal(members); err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(string(m.MediaType), "application/vnd.docker.") {
		layer.MediaType = types.DockerLayer
	}
	m.Layers = append(m.Layers, layer)
	m.Config.Size = int64(len(config))
	if m.Config.Digest, _, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return nil, nil, err
	}
	manifest, err = json.Marshal(m)
	return manifest, config, err
}

// made is what is known of an image that was made here.
type made struct {
	Layers []v1.Hash `json:"layers"` // that are kept as they are
	// Base is the reference of the image that it has the others from.
	Base   string  `json:"base"`
	Origin *origin `json:"origin,omitempty"` // of that
}

// madeBlobs are those of an image that was made here.
type madeBlobs struct {
	blobs
	kept *content.Store
	made *made
}

func (b *madeBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	if slices.Contains(b.made.Layers, d.Digest) {
		return b.kept.Open(d.Digest)
	}
	return b.blobs.open(ctx, d)
}
