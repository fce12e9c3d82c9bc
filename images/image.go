package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// blobs is a place that an image's bytes come from.
type blobs interface {
	// open gives a blob's bytes, unchecked.
	open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	Close() error
}

// Image is one resolved image. Its layers are checked against digest and size
// while they are read. It must be closed.
type Image struct {
	v1.Image
	// Reference is the canonical form of what was asked for.
	Reference string
	// Digest is the manifest's.
	Digest v1.Hash
	// Local says that nothing was fetched to resolve the image: the store, or
	// a file, had it.
	Local bool

	ref    Reference
	source blobs
	origin *origin // nil where the reference says it
	made   *made   // nil: not here
}

// Close releases what the image's layers are read from.
func (i *Image) Close() error { return i.source.Close() }

// core is a v1.Image of a checked manifest and configuration.
type core struct {
	raw       []byte
	rawConfig []byte
	manifest  *v1.Manifest
	config    *v1.ConfigFile
	layers    []*imageLayer
}

// newImage puts an image together, refusing what cannot be run.
func newImage(ref Reference, raw, rawConfig []byte, source blobs) (*Image, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w: %w", ErrCorrupt, err)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(rawConfig))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w: %w", manifest.Config.Digest, ErrCorrupt, err)
	}
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return nil, fmt.Errorf("manifest %s has %d layers, its config %s names %d: %w",
			digest, len(manifest.Layers), manifest.Config.Digest, len(config.RootFS.DiffIDs), ErrCorrupt)
	}
	c := &core{raw: raw, rawConfig: rawConfig, manifest: manifest, config: config}
	for i, d := range manifest.Layers {
		if err := checkLayer(d); err != nil {
			return nil, err
		}
		c.layers = append(c.layers, &imageLayer{desc: d, diffID: config.RootFS.DiffIDs[i], source: source})
	}
	return &Image{Image: c, Reference: ref.String(), Digest: digest, ref: ref, source: source}, nil
}

// checkLayer goes by the family of media types: which compression it is, the
// bytes tell.
func checkLayer(d v1.Descriptor) error {
	kind := string(d.MediaType)
	family := strings.HasPrefix(kind, "application/vnd.docker.image.rootfs.") || strings.HasPrefix(kind, "application/vnd.oci.image.layer.")
	switch {
	case family && (strings.Contains(kind, "foreign") || strings.Contains(kind, "nondistributable")):
		return fmt.Errorf("layer %s is a foreign layer (%s), which registries do not hold: %w", d.Digest, kind, ErrUnsupported)
	case family && strings.HasSuffix(kind, "+encrypted"):
		return fmt.Errorf("layer %s is encrypted (%s): %w", d.Digest, kind, ErrUnsupported)
	case !family:
		return fmt.Errorf("layer %s has media type %q, which is no file system: %w", d.Digest, kind, ErrUnsupported)
	case d.Size < 0:
		return fmt.Errorf("layer %s of %d bytes: %w", d.Digest, d.Size, ErrCorrupt)
	}
	return nil
}

func (c *core) MediaType() (types.MediaType, error) {
	if c.manifest.MediaType == "" {
		return types.OCIManifestSchema1, nil
	}
	return c.manifest.MediaType, nil
}

func (c *core) Size() (int64, error)                { return int64(len(c.raw)), nil }
func (c *core) RawManifest() ([]byte, error)        { return c.raw, nil }
func (c *core) Manifest() (*v1.Manifest, error)     { return c.manifest.DeepCopy(), nil }
func (c *core) RawConfigFile() ([]byte, error)      { return c.rawConfig, nil }
func (c *core) ConfigFile() (*v1.ConfigFile, error) { return c.config.DeepCopy(), nil }
func (c *core) ConfigName() (v1.Hash, error)        { return c.manifest.Config.Digest, nil }
func (c *core) Digest() (v1.Hash, error)            { return partial.Digest(c) }

func (c *core) Layers() ([]v1.Layer, error) {
	layers := make([]v1.Layer, 0, len(c.layers))
	for _, l := range c.layers {
		layers = append(layers, l)
	}
	return layers, nil
}

func (c *core) LayerByDigest(h v1.Hash) (v1.Layer, error) {
	for _, l := range c.layers {
		if l.desc.Digest == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("layer %s: %w", h, ErrNotFound)
}

func (c *core) LayerByDiffID(h v1.Hash) (v1.Layer, error) {
	for _, l := range c.layers {
		if l.diffID == h {
			return l, nil
		}
	}
	return nil, fmt.Errorf("layer with diff ID %s: %w", h, ErrNotFound)
}

// imageLayer is a layer that is opened when it is read.
type imageLayer struct {
	desc   v1.Descriptor
	diffID v1.Hash
	source blobs
}

func (l *imageLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *imageLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *imageLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *imageLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *imageLayer) Compressed() (io.ReadCloser, error)  { return l.Open(context.Background()) }

// Uncompressed finds the compression by the bytes, as most readers do.
func (l *imageLayer) Uncompressed() (io.ReadCloser, error) {
	x, err := partial.CompressedToLayer(l)
	if err != nil {
		return nil, err
	}
	return x.Uncompressed()
}

// Open reads the layer as it is stored; ctx holds for the reading too.
func (l *imageLayer) Open(ctx context.Context) (io.ReadCloser, error) {
	rc, err := l.source.open(ctx, l.desc)
	if err != nil {
		return nil, err
	}
	return verify(rc, l.desc), nil
}

// verified checks digest and size before it lets io.EOF through.
type verified struct {
	io.ReadCloser
	desc v1.Descriptor
	sum  hash.Hash
	left int64
	err  error
}

func verify(rc io.ReadCloser, d v1.Descriptor) io.ReadCloser {
	return &verified{ReadCloser: rc, desc: d, sum: sha256.New(), left: d.Size}
}

func (v *verified) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.EOF
	}
	v.sum.Write(p[:n])
	v.left -= int64(n)
	switch {
	case v.left < 0:
		err = fmt.Errorf("blob %s is longer than its %d bytes: %w", v.desc.Digest, v.desc.Size, ErrCorrupt)
	case errors.Is(err, io.EOF) && v.left > 0:
		err = fmt.Errorf("blob %s ends after %d of %d bytes: %w", v.desc.Digest, v.desc.Size-v.left, v.desc.Size, ErrCorrupt)
	case errors.Is(err, io.EOF):
		if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.desc.Digest.Hex {
			err = fmt.Errorf("blob %s has digest sha256:%s: %w", v.desc.Digest, got, ErrCorrupt)
		}
	}
	if err != nil {
		v.err = err
		if !errors.Is(err, io.EOF) {
			n = 0
		}
	}
	return n, err
}
