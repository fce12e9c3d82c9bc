package images

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/images/content"
)

// archive is an uncompressed tar file whose members are found by an index made
// once; reading one is a seek.
type archive struct {
	f       *os.File
	members map[string]section
}

type section struct{ at, size int64 }

const maxMembers = 100_000

func (s *Store) openArchive(ctx context.Context, name string) (*archive, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError(err)
	}
	if f, err = s.seekable(ctx, f); err != nil {
		return nil, fmt.Errorf("archive %s: %w", name, err)
	}
	return newArchive(f, name)
}

// newArchive makes the index, and closes the file where it cannot.
func newArchive(f *os.File, name string) (*archive, error) {
	a := &archive{f: f, members: map[string]section{}}
	if err := a.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("archive %s: %w", name, err), f.Close())
	}
	return a, nil
}

// spoolArchive opens the archive that r reads.
func (s *Store) spoolArchive(ctx context.Context, r io.Reader) (*archive, error) {
	z, compressed, err := plain(bufio.NewReaderSize(r, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("archive in standard input: %w", err)
	}
	defer z.Close()
	f, err := s.spool(ctx, z, compressed)
	if err != nil {
		return nil, fmt.Errorf("archive in standard input: %w", err)
	}
	return newArchive(f, "in standard input")
}

// maxArchive bounds what is spooled of an archive that cannot be read in place.
const maxArchive = 64 << 30

// seekable gives an archive that can be read in place as it is. A pipe, standard
// input or a compressed archive is first written out plain, to a file without
// a name.
func (s *Store) seekable(ctx context.Context, f *os.File) (_ *os.File, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	b := bufio.NewReaderSize(f, 1<<20)
	z, compressed, err := plain(b)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if st.Mode().IsRegular() && !compressed {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	defer f.Close()
	defer z.Close()
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })() //nolint:errcheck // not every file can be interrupted
	return s.spool(ctx, z, compressed)
}

// spool writes an archive out, to a file without a name, which goes with whoever
// has it open.
func (s *Store) spool(ctx context.Context, z io.Reader, compressed bool) (*os.File, error) {
	spool, err := content.Temporary(filepath.Join(s.dir, "tmp"), "archive-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(spool.Name()); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	n, err := io.Copy(spool, io.LimitReader(contextReader{ctx, z}, maxArchive+1))
	switch {
	case err != nil && compressed && ctx.Err() == nil:
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	case n > maxArchive:
		err = fmt.Errorf("unpacks to more than %d bytes: %w", int64(maxArchive), ErrCorrupt)
	}
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	return spool, nil
}

// plain decompresses what is compressed.
func plain(b *bufio.Reader) (io.ReadCloser, bool, error) {
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, true, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return z, true, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, true, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return z.IOReadCloser(), true, nil
	}
	return io.NopCloser(b), false, nil
}

// contextReader stops when its context does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

func (a *archive) scan() error {
	links := map[string]string{}
	r := tar.NewReader(a.f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if n == maxMembers {
			return fmt.Errorf("%w: more than %d members", ErrCorrupt, maxMembers)
		}
		name := path.Clean("/" + h.Name)[1:]
		switch h.Typeflag {
		case tar.TypeReg:
			at, err := a.f.Seek(0, io.SeekCurrent)
			if err != nil {
				return err
			}
			a.members[name] = section{at, h.Size}
		case tar.TypeSymlink:
			// docker save links a layer that comes twice.
			links[name] = path.Join("/", path.Dir(name), h.Linkname)[1:]
		case tar.TypeLink:
			links[name] = path.Clean("/" + h.Linkname)[1:]
		}
	}
	for name, to := range links {
		if s, ok := a.members[to]; ok {
			a.members[name] = s
		}
	}
	return nil
}

func (a *archive) file(name string) (io.ReadCloser, int64, error) {
	s, ok := a.members[path.Clean("/" + name)[1:]]
	if !ok {
		return nil, 0, fmt.Errorf("%s in %s: %w", name, a.f.Name(), fs.ErrNotExist)
	}
	return io.NopCloser(io.NewSectionReader(a.f, s.at, s.size)), s.size, nil
}

func (a *archive) Close() error { return a.f.Close() }

// readArchive finds the image that a reference means in an archive, which it closes
// where it cannot.
func readArchive(ctx context.Context, a *archive, r Reference) (blobs, document, error) {
	if r.Transport == LayoutArchive {
		return layoutDocument(ctx, a, r)
	}
	b := &dockerBlobs{archive: a, names: map[v1.Hash]string{}}
	doc, err := b.manifest(r.Tag)
	if err != nil {
		return nil, document{}, errors.Join(fmt.Errorf("archive %s: %w", r.Path, err), a.Close())
	}
	return b, doc, nil
}

// dockerBlobs are the blobs of an archive that docker save wrote, under the
// digests of a manifest made for them.
type dockerBlobs struct {
	*archive
	names map[v1.Hash]string
}

func (b *dockerBlobs) open(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	name, ok := b.names[d.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, ErrNotFound)
	}
	rc, _, err := b.file(name)
	return rc, err
}

// dockerImage is one entry of an archive's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// manifest makes the manifest the archive lacks. Its layers are as a rule
// uncompressed, so that their digests are the diff IDs that the
// configuration names: nothing need be read to know them, and they are checked
// when it is.
func (b *dockerBlobs) manifest(tag string) (document, error) {
	entry, err := b.entry(tag)
	if err != nil {
		return document{}, err
	}
	config, err := readFile(b.archive, entry.Config, maxConfig)
	if err != nil {
		return document{}, fmt.Errorf("config: %w", err)
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return document{}, fmt.Errorf("config: %w: %w", ErrCorrupt, err)
	}
	if len(c.RootFS.DiffIDs) != len(entry.Layers) {
		return document{}, fmt.Errorf("manifest.json has %d layers, the config names %d: %w", len(entry.Layers), len(c.RootFS.DiffIDs), ErrCorrupt)
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.DockerManifestSchema2,
		Config: v1.Descriptor{MediaType: types.DockerConfigJSON, Size: int64(len(config))}}
	if m.Config.Digest, _, err = v1.SHA256(bytes.NewReader(config)); err != nil {
		return document{}, err
	}
	b.names[m.Config.Digest] = entry.Config
	for i, name := range entry.Layers {
		d, err := b.layer(name, c.RootFS.DiffIDs[i])
		if err != nil {
			return document{}, err
		}
		b.names[d.Digest] = name
		m.Layers = append(m.Layers, d)
	}
	doc := document{mediaType: types.DockerManifestSchema2}
	if tag != "" {
		doc.name = tag
	} else if len(entry.RepoTags) > 0 {
		doc.name = entry.RepoTags[0]
	}
	doc.raw, err = json.Marshal(m)
	return doc, err
}

func (b *dockerBlobs) entry(tag string) (dockerImage, error) {
	raw, err := readFile(b.archive, "manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return dockerImage{}, fmt.Errorf("not an archive of docker save: no manifest.json: %w", ErrNotFound)
	}
	if err != nil {
		return dockerImage{}, err
	}
	var all []dockerImage
	if err := json.Unmarshal(raw, &all); err != nil {
		return dockerImage{}, fmt.Errorf("manifest.json: %w: %w", ErrCorrupt, err)
	}
	if tag == "" {
		if len(all) != 1 {
			return dockerImage{}, fmt.Errorf("archive of %d images, which needs a tag: %w", len(all), ErrAmbiguous)
		}
		return all[0], nil
	}
	for _, i := range all {
		if slices.Contains(i.RepoTags, tag) || slices.Contains(i.RepoTags, tag+":latest") {
			return i, nil
		}
	}
	return dockerImage{}, fmt.Errorf("no image tagged %q in the archive: %w", tag, ErrNotFound)
}

// layer describes a layer; a compressed one, which some tools write, is read
// for its digest.
func (b *dockerBlobs) layer(name string, diffID v1.Hash) (v1.Descriptor, error) {
	rc, size, err := b.file(name)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("layer: %w", err)
	}
	defer rc.Close()
	var magic [4]byte
	n, err := io.ReadFull(rc, magic[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return v1.Descriptor{}, err
	}
	gzip, zstd := bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}), string(magic[:n]) == "\x28\xb5\x2f\xfd"
	d := v1.Descriptor{MediaType: types.DockerUncompressedLayer, Size: size, Digest: diffID}
	if !gzip && !zstd {
		return d, nil
	}
	d.MediaType = types.DockerLayer
	if zstd {
		d.MediaType = types.OCILayerZStd
	}
	d.Digest, _, err = v1.SHA256(io.MultiReader(bytes.NewReader(magic[:n]), rc))
	return d, err
}
