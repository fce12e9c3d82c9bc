package images

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/slipway-vm/slipway/images/glance"
)

// origin is what an image was made from whose reference alone does not say so. The
// data of a Glance image do not change; what its name means may.
type origin struct {
	ID       string `json:"id"`
	Checksum string `json:"checksum"`
}

// resolveGlance finds the image that Glance has under an ID or a name. Its data are
// only asked for where nothing that was made of them is remembered.
func (s *Store) resolveGlance(ctx context.Context, r Reference, o ResolveOptions) (*Image, error) {
	if s.config.Glance == nil {
		return nil, fmt.Errorf("%w: %s: no Glance is configured (image.url)", ErrInvalidReference, r)
	}
	found, err := s.config.Glance.Find(ctx, r.Path)
	if err != nil {
		return nil, glanceError(err)
	}
	if err := checkGlance(found); err != nil {
		return nil, err
	}
	from := originOf(found)
	i, err := s.sameOrigin(ctx, r, from, o)
	if err == nil || !errors.Is(err, ErrNotFound) {
		return i, err
	}
	source, top, err := s.glanceDocument(ctx, found)
	if err != nil {
		return nil, err
	}
	if i, err = assemble(ctx, r, source, top, o.Platform); err != nil {
		return nil, errors.Join(err, source.Close())
	}
	i.origin = &from
	return i, nil
}

func originOf(i glance.Image) origin { return origin{i.ID, i.HashAlgo + ":" + i.HashValue} }

// sameOrigin answers from what any reference to the same data has left here.
func (s *Store) sameOrigin(ctx context.Context, r Reference, from origin, o ResolveOptions) (*Image, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return nil, err
	}
	defer release()
	all, err := s.entries()
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(all, func(e entry) bool { return e.Origin != nil && *e.Origin == from })
	if n < 0 {
		return nil, ErrNotFound
	}
	raw, config, err := s.read(all[n])
	if errors.Is(err, ErrCorrupt) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	source, err := s.sourceOf(all[n], r)
	if err != nil {
		return nil, err
	}
	i, err := newImage(r, raw, config, source)
	if err != nil {
		return nil, err
	}
	i.Local, i.origin = true, &from
	return i, checkPlatform(i, o.Platform)
}

// checkGlance refuses what cannot be a container's image.
func checkGlance(i glance.Image) error {
	switch {
	case i.Status != "active":
		return fmt.Errorf("image %s (%s) is %s in Glance: %w", i.ID, i.Name, i.Status, ErrUnavailable)
	case i.Disk != "" && i.Disk != "raw":
		return fmt.Errorf("image %s (%s) is a disk (%s), not a container's image: %w", i.ID, i.Name, i.Disk, ErrUnsupported)
	case hashOf(i.HashAlgo) == nil:
		return fmt.Errorf("image %s (%s) has no checksum that is known here (os_hash_algo %q): %w", i.ID, i.Name, i.HashAlgo, ErrUnsupported)
	}
	return nil
}

// glanceDocument reads what a Glance image is: a manifest that was pushed, or an
// archive with everything in it.
func (s *Store) glanceDocument(ctx context.Context, i glance.Image) (blobs, document, error) {
	kind := types.MediaType(i.MediaType)
	switch {
	case kind.IsImage() || kind.IsIndex():
		raw, err := glanceManifest(ctx, s.config.Glance, i)
		return pushedBlobs{s.config.Glance}, document{raw: raw, mediaType: kind}, err
	case kind != "":
		return nil, document{}, fmt.Errorf("image %s is a part of images (%s), none itself: %w", i.ID, i.MediaType, ErrUnsupported)
	}
	a, err := s.glanceArchive(ctx, i)
	if err != nil {
		return nil, document{}, fmt.Errorf("image %s (%s) in Glance: %w", i.ID, i.Name, err)
	}
	// What docker save writes today is a layout too; its own manifest comes first, as
	// it names the image.
	r := Reference{Transport: DockerArchive, Path: i.ID}
	if _, ok := a.members["manifest.json"]; !ok {
		r.Transport = LayoutArchive
	}
	source, top, err := readArchive(ctx, a, r)
	if errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("image %s (%s) in Glance is neither what docker save writes nor an OCI archive: %w", i.ID, i.Name, ErrUnsupported)
	}
	return source, top, err
}

func glanceManifest(ctx context.Context, client *glance.Client, i glance.Image) ([]byte, error) {
	if i.Size > maxManifest {
		return nil, fmt.Errorf("manifest %s of %d bytes: %w", i.ID, i.Size, ErrCorrupt)
	}
	rc, err := openGlance(ctx, client, i)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	raw, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	return raw, sameDigest(raw, i.Digest)
}

// glanceArchive fetches an archive whole, since only the whole has a checksum.
func (s *Store) glanceArchive(ctx context.Context, i glance.Image) (*archive, error) {
	rc, err := openGlance(ctx, s.config.Glance, i)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	z, compressed, err := plain(bufio.NewReaderSize(rc, 1<<20))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	f, err := s.spool(ctx, z, compressed)
	if err != nil {
		return nil, err
	}
	// What follows a compressed archive belongs to the checksum.
	if _, err := io.Copy(io.Discard, rc); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return newArchive(f, i.ID)
}

// openGlance reads the data of a Glance image, checked against its size and checksum
// before io.EOF is let through.
func openGlance(ctx context.Context, client *glance.Client, i glance.Image) (io.ReadCloser, error) {
	rc, err := client.Open(ctx, i.ID)
	if err != nil {
		return nil, glanceError(err)
	}
	return &checked{ReadCloser: rc, image: i, sum: hashOf(i.HashAlgo)}, nil
}

func hashOf(algo string) hash.Hash {
	switch algo {
	case "sha512":
		return sha512.New()
	case "sha384":
		return sha512.New384()
	case "sha256":
		return sha256.New()
	}
	return nil
}

// checked compares what is read with what Glance has said of it.
type checked struct {
	io.ReadCloser
	image glance.Image
	sum   hash.Hash
	n     int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	if c.n += int64(n); c.n > c.image.Size {
		return 0, fmt.Errorf("image %s is longer than its %d bytes: %w", c.image.ID, c.image.Size, ErrCorrupt)
	}
	if err == nil {
		return n, nil
	}
	if !errors.Is(err, io.EOF) {
		return n, fmt.Errorf("%w: image %s at byte %d of %d: %w", ErrUnavailable, c.image.ID, c.n, c.image.Size, err)
	}
	if c.n < c.image.Size {
		return 0, fmt.Errorf("image %s ends after %d of %d bytes: %w", c.image.ID, c.n, c.image.Size, ErrCorrupt)
	}
	if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.image.HashValue {
		return 0, fmt.Errorf("image %s has the checksum %s:%s, not %s: %w", c.image.ID, c.image.HashAlgo, got, c.image.HashValue, ErrCorrupt)
	}
	return n, io.EOF
}

// pushedBlobs are blobs that are each an image of Glance's.
type pushedBlobs struct{ client *glance.Client }

func (b pushedBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	found, err := b.client.Blob(ctx, d.Digest.String(), d.Size)
	if err != nil {
		return nil, glanceError(err)
	}
	rc, err := b.client.Open(ctx, found.ID)
	return rc, glanceError(err)
}

func (b pushedBlobs) Close() error { return nil }

// glanceBlobs are those of an image that is remembered: Glance is asked when the
// first of them is.
type glanceBlobs struct {
	store *Store
	id    string

	mu     sync.Mutex
	source blobs
}

func (g *glanceBlobs) open(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	source, err := g.ask(ctx)
	if err != nil {
		return nil, err
	}
	return source.open(ctx, d)
}

func (g *glanceBlobs) ask(ctx context.Context) (blobs, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.source != nil {
		return g.source, nil
	}
	if g.store.config.Glance == nil {
		return nil, fmt.Errorf("%w: no Glance is configured (image.url)", ErrNotFound)
	}
	found, err := g.store.config.Glance.Find(ctx, g.id)
	if err != nil {
		return nil, glanceError(err)
	}
	if err := checkGlance(found); err != nil {
		return nil, err
	}
	g.source, _, err = g.store.glanceDocument(ctx, found)
	return g.source, err
}

func (g *glanceBlobs) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.source == nil {
		return nil
	}
	return g.source.Close()
}

// glanceError sorts what Glance answers.
func glanceError(err error) error {
	var ambiguous *glance.AmbiguousError
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, glance.ErrNotFound), gophercloud.ResponseCodeIs(err, http.StatusNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.As(err, &ambiguous):
		return fmt.Errorf("%w: %w", ErrAmbiguous, err)
	case gophercloud.ResponseCodeIs(err, http.StatusUnauthorized), gophercloud.ResponseCodeIs(err, http.StatusForbidden):
		return fmt.Errorf("%w: Glance: %w", ErrUnauthorized, err)
	}
	return fmt.Errorf("%w: Glance: %w", ErrUnavailable, err)
}

// sameDigest holds small contents against the digest that they are known by.
func sameDigest(b []byte, digest string) error {
	sum := sha256.Sum256(b)
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != digest {
		return fmt.Errorf("blob %s has digest %s: %w", digest, got, ErrCorrupt)
	}
	return nil
}
