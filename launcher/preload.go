package launcher

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/dockerd"
	"github.com/slipway-vm/slipway/launcher/domain"
	"github.com/slipway-vm/slipway/rootfs"
	diskimage "github.com/slipway-vm/slipway/rootfs/disk"
)

// PreloadSpec says which images are to be on a disk.
type PreloadSpec struct {
	Images []PreloadImage   `json:"images"`
	Format diskimage.Format `json:"format,omitempty"`
	Pull   string           `json:"pull,omitempty"`
}

// PreloadImage is one of them; a container engine will know it by its name.
type PreloadImage struct {
	Reference string       `json:"reference"`
	Name      string       `json:"name,omitempty"` // empty: the reference's
	Auth      *Credentials `json:"credentials,omitempty"`
}

// Preload makes a disk of images in a file without a name, at whose beginning it is
// left: one read-only file system, in which container engines find them unpacked.
func (m *Manager) Preload(ctx context.Context, s PreloadSpec) (_ *os.File, err error) {
	if s.Format == "" {
		s.Format = diskimage.FormatQCOW2
	}
	switch {
	case len(s.Images) == 0:
		return nil, errorf(ErrInvalid, "no image is named")
	case s.Format != diskimage.FormatQCOW2 && s.Format != diskimage.FormatRaw:
		return nil, errorf(ErrInvalid, "format %q: use qcow2 or raw", s.Format)
	}
	release, err := m.cfg.Roots.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	docker := dockerd.New()
	for _, i := range s.Images {
		if err := m.preloadImage(ctx, docker, i, s.Pull); err != nil {
			return nil, err
		}
	}
	raw, err := diskimage.Temporary(m.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, raw.Close())
		}
	}()
	size, err := m.cfg.Roots.WriteSet(ctx, raw, setID(docker), preloadSet(docker))
	if err != nil {
		return nil, err
	}
	if err := raw.Truncate((size + seedBlock - 1) / seedBlock * seedBlock); err != nil {
		return nil, err
	}
	if s.Format == diskimage.FormatRaw {
		_, err := raw.Seek(0, io.SeekStart)
		return raw, err
	}
	out, err := diskimage.Convert(ctx, raw, s.Format, m.cfg.Dir)
	if err != nil {
		return nil, exportError(err)
	}
	return out, raw.Close()
}

// preloadSet is what is on the disk.
func preloadSet(docker *dockerd.Root) rootfs.Set {
	set := rootfs.Set{Files: map[string][]byte{}, Symlinks: map[string]string{}, Layers: map[string]v1.Hash{}}
	for name, data := range docker.Files {
		set.Files[path.Join(guest.PreloadDocker, name)] = data
	}
	for name, target := range docker.Symlinks {
		set.Symlinks[path.Join(guest.PreloadDocker, name)] = target
	}
	for name, diffID := range docker.Layers {
		set.Layers[path.Join(guest.PreloadDocker, name)] = diffID
	}
	return set
}

// setID is derived from what is on the disk.
func setID(docker *dockerd.Root) (id [16]byte) {
	sum := sha256.New()
	names := []string{}
	for name := range docker.Files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(sum, "%s %d\n", name, len(docker.Files[name]))
		sum.Write(docker.Files[name])
	}
	copy(id[:], sum.Sum(nil))
	return id
}

func (m *Manager) preloadImage(ctx context.Context, docker *dockerd.Root, i PreloadImage, pull string) error {
	when, err := pullPolicy(pull)
	if err != nil {
		return err
	}
	img, base, err := m.pull(i.Auth.with(ctx), i.Reference, images.ResolveOptions{Pull: when}, func(PullProgress) {})
	if err != nil {
		return err
	}
	defer func() { _ = img.Close() }()
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	add := dockerd.Image{Config: config, Manifest: img.Digest}
	if add.Name, err = preloadName(i); err != nil {
		return err
	}
	bytes := map[v1.Hash]int64{}
	for _, l := range base.Layers {
		bytes[l.DiffID] = l.Bytes
	}
	for n, diffID := range base.DiffIDs {
		add.Layers = append(add.Layers, dockerd.Layer{DiffID: diffID, Digest: manifest.Layers[n].Digest, Size: bytes[diffID]})
	}
	if err := docker.Add(add); err != nil {
		return errorf(ErrInvalid, "image %s: %v", i.Reference, err)
	}
	return nil
}

// preloadName is what an image is called by: what was asked for, or the reference.
func preloadName(i PreloadImage) (name.Reference, error) {
	text := i.Name
	if text == "" {
		ref, err := images.ParseReference(i.Reference)
		if err != nil {
			return nil, imageError(err)
		}
		if ref.Transport == images.Registry {
			return ref.Name, nil
		}
		text = imageStem(i.Reference)
	}
	t, err := name.NewTag(text)
	if err != nil {
		return nil, errorf(ErrInvalid, "name %q of image %s: %v: use NAME=IMAGE with another", text, i.Reference, err)
	}
	return t, nil
}

// validatePreload refuses what is no disk for a guest.
func (s *Spec) validatePreload() error {
	if len(s.Preload) > maxPreload {
		return errorf(ErrInvalid, "%d preloaded disks: there may be %d", len(s.Preload), maxPreload)
	}
	for _, file := range s.Preload {
		if !filepath.IsAbs(file) {
			return errorf(ErrInvalid, "preloaded disk %q: not an absolute path", file)
		}
		if _, err := preloadFormat(file); err != nil {
			return errorf(ErrInvalid, "preloaded disk: %v", err)
		}
	}
	return nil
}

// preloadable refuses a root mode in which the guest has no file system of its own for
// a container engine to write to.
func (s *Spec) preloadable(mode string) error {
	if len(s.Preload) > 0 && mode != string(guest.RootBlock) {
		return errorf(ErrInvalid, "preloaded images do not go with the root mode %s: use --root block", mode)
	}
	return nil
}

// preloadMounts show a guest's preloaded disks, and the data root that has them, to
// what runs in it.
func (s *Spec) preloadMounts() (all []guest.Mount) {
	for n := range s.Preload {
		number := strconv.Itoa(n)
		all = append(all, guest.Mount{
			Source: path.Join(guest.PreloadDir, number), Target: path.Join(guest.PreloadTarget, number), ReadOnly: true,
		})
	}
	if len(all) > 0 {
		all = append(all, guest.Mount{Source: guest.DockerDir, Target: guest.DockerTarget})
	}
	return all
}

// maxPreload keeps within a machine's slots.
const maxPreload = 4

// preloadFormat tells a disk's format by its beginning.
func preloadFormat(file string) (domain.Format, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4)
	if _, err := io.ReadFull(f, head); err != nil {
		return "", fmt.Errorf("%s is no disk: %w", file, err)
	}
	if string(head) == "QFI\xfb" {
		return domain.FormatQCOW2, nil
	}
	return domain.FormatRaw, nil
}

// preloadDisks are a server's preloaded disks.
func (s *Spec) preloadDisks() ([]domain.Disk, error) {
	var all []domain.Disk
	for n, file := range s.Preload {
		format, err := preloadFormat(file)
		if err != nil {
			return nil, fmt.Errorf("preloaded disk: %w", err)
		}
		all = append(all, domain.Disk{Path: file, Serial: guest.DiskPreload + strconv.Itoa(n), Format: format, ReadOnly: true})
	}
	return all, nil
}
