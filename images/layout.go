package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// files is a directory or an archive of files.
type files interface {
	// file opens a file by its slash-separated name and tells its size.
	file(name string) (io.ReadCloser, int64, error)
	Close() error
}

// directory reads below a directory, and no link leads out of it.
type directory struct{ *os.Root }

func (d directory) file(name string) (io.ReadCloser, int64, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// layoutBlobs are the blobs of an OCI layout.
type layoutBlobs struct{ files }

func (b layoutBlobs) open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	rc, size, err := b.file(path.Join("blobs", d.Digest.Algorithm, d.Digest.Hex))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	if size != d.Size {
		return nil, errors.Join(fmt.Errorf("blob %s has %d bytes, not %d: %w", d.Digest, size, d.Size, ErrCorrupt), rc.Close())
	}
	return rc, nil
}

func openLayout(ctx context.Context, r Reference) (blobs, document, error) {
	root, err := os.OpenRoot(r.Path)
	if err != nil {
		return nil, document{}, fileError(err)
	}
	return layoutDocument(ctx, directory{root}, r)
}

func fileError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

const (
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name" // the whole, as docker save has it too
)

// layoutDocument reads the index of a layout and what its tag means there.
func layoutDocument(ctx context.Context, f files, r Reference) (blobs, document, error) {
	b := layoutBlobs{f}
	doc, err := layoutEntry(ctx, b, r.Tag)
	if err != nil {
		return nil, document{}, errors.Join(err, f.Close())
	}
	return b, doc, nil
}

func layoutEntry(ctx context.Context, b layoutBlobs, tag string) (document, error) {
	raw, err := readFile(b.files, "index.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return document{}, fmt.Errorf("not an OCI layout: no index.json: %w", ErrNotFound)
	}
	if err != nil {
		return document{}, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return document{}, fmt.Errorf("index.json: %w: %w", ErrCorrupt, err)
	}
	if tag == "" {
		// The one image; of several, those of one platform are told apart by
		// the platform, and "latest" otherwise.
		if len(index.Manifests) != 1 {
			for _, d := range index.Manifests {
				if d.Annotations[refName] == "latest" {
					return layoutManifest(ctx, b, d)
				}
			}
			return document{raw: raw, mediaType: index.MediaType}, nil
		}
		return layoutManifest(ctx, b, index.Manifests[0])
	}
	for _, d := range index.Manifests {
		if d.Annotations[refName] == tag || d.Digest.String() == tag {
			return layoutManifest(ctx, b, d)
		}
	}
	return document{}, fmt.Errorf("no image tagged %q in the layout: %w", tag, ErrNotFound)
}

func layoutManifest(ctx context.Context, b layoutBlobs, d v1.Descriptor) (document, error) {
	raw, err := readBlob(ctx, b, d, maxManifest)
	doc := document{raw: raw, mediaType: d.MediaType, name: d.Annotations[imageName]}
	// A tag alone is no name.
	if tag := d.Annotations[refName]; doc.name == "" && strings.ContainsAny(tag, ":/") {
		doc.name = tag
	}
	return doc, err
}

func readFile(f files, name string, limit int64) ([]byte, error) {
	rc, size, err := f.file(name)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if size > limit {
		return nil, fmt.Errorf("%s of %d bytes: %w", name, size, ErrCorrupt)
	}
	b, err := io.ReadAll(rc)
	if err != nil {
		return nil, err
	}
	if err := crowded(b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}
