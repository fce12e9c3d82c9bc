package images

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Archive is an image as one tar file: an OCI layout that docker load takes too, as
// docker save writes it. The same image under the same name makes the same bytes, and
// layers are as in a registry, with the digests of the manifest.
type Archive struct {
	image   *Image
	members []member
}

// member is one file of an archive: some bytes, or a layer.
type member struct {
	name  string
	size  int64
	data  []byte
	layer *imageLayer
}

// Archive prepares the image as an archive, under a name; empty: it has none. Closing
// it closes the image.
func (i *Image) Archive(name string) (*Archive, error) {
	a := &Archive{image: i}
	if err := a.fill(name); err != nil {
		return nil, fmt.Errorf("save image %s: %w", i.Reference, err)
	}
	return a, nil
}

func (a *Archive) fill(name string) error {
	raw, err := a.image.RawManifest()
	if err != nil {
		return err
	}
	manifest, err := a.image.Manifest()
	if err != nil {
		return err
	}
	config, err := a.image.RawConfigFile()
	if err != nil {
		return err
	}
	kind, err := a.image.MediaType()
	if err != nil {
		return err
	}
	layers, err := a.image.Layers()
	if err != nil {
		return err
	}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{
		{MediaType: kind, Size: int64(len(raw)), Digest: a.image.Digest},
	}}
	// What docker load reads.
	docker := dockerImage{Config: blobName(manifest.Config.Digest), Layers: []string{}}
	if name != "" {
		index.Manifests[0].Annotations = map[string]string{imageName: name, refName: tagOf(name)}
		docker.RepoTags = []string{name}
	}
	for _, d := range manifest.Layers {
		docker.Layers = append(docker.Layers, blobName(d.Digest))
	}
	for _, m := range []struct {
		name  string
		value any
	}{{"oci-layout", json.RawMessage(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", index}, {"manifest.json", []dockerImage{docker}}} {
		b, err := json.Marshal(m.value)
		if err != nil {
			return err
		}
		a.add(member{name: m.name, size: int64(len(b)), data: b})
	}
	a.add(member{name: blobName(a.image.Digest), size: int64(len(raw)), data: raw})
	a.add(member{name: blobName(manifest.Config.Digest), size: int64(len(config)), data: config})
	for _, l := range layers {
		l := l.(*imageLayer)
		a.add(member{name: blobName(l.desc.Digest), size: l.desc.Size, layer: l})
	}
	return nil
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// tagOf is what an OCI layout calls an image: the tag, where the name has one.
func tagOf(name string) string {
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[at+1:]
	}
	return name
}

// add adds a file, a blob that comes twice once.
func (a *Archive) add(m member) {
	for _, before := range a.members {
		if before.name == m.name {
			return
		}
	}
	a.members = append(a.members, m)
}

const tarBlock = 512

// Size is how many bytes the archive has.
func (a *Archive) Size() int64 {
	size := int64(2 * tarBlock) // the end
	for _, m := range a.members {
		size += tarBlock + (m.size+tarBlock-1)/tarBlock*tarBlock
	}
	return size
}

// Digest is that of the image's manifest.
func (a *Archive) Digest() v1.Hash { return a.image.Digest }

// Close releases what layers are read from.
func (a *Archive) Close() error { return a.image.Close() }

// Write writes the archive. Layers that are not kept here as they were are read from
// where the image came from.
func (a *Archive) Write(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	for _, m := range a.members {
		if err := m.write(ctx, t); err != nil {
			return fmt.Errorf("save image %s: %w", a.image.Reference, err)
		}
	}
	return t.Close()
}

func (m member) write(ctx context.Context, t *tar.Writer) error {
	// ustar has one block for it, whatever its size here.
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: m.name, Size: m.size, Mode: 0o644, Format: m.format()}); err != nil {
		return err
	}
	if m.layer == nil {
		_, err := io.Copy(t, bytes.NewReader(m.data))
		return err
	}
	rc, err := m.layer.Open(ctx)
	if err != nil {
		return fmt.Errorf("layer %s: it is kept unpacked alone: %w", m.layer.desc.Digest, err)
	}
	defer rc.Close()
	if _, err := io.Copy(t, rc); err != nil {
		return fmt.Errorf("layer %s: %w", m.layer.desc.Digest, err)
	}
	return nil
}

// format is one whose header is a block: ustar has eleven digits for a size.
func (m member) format() tar.Format {
	if m.size < 1<<33 {
		return tar.FormatUSTAR
	}
	return tar.FormatGNU
}
