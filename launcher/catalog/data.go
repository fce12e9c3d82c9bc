package catalog

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // what the API calls an image's checksum
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/launcher"
)

// maxData bounds an image's data, as Glance's image_size_cap does.
const maxData = 1 << 40

func (c *Catalog) staged(id string) string { return c.path(id) + ".staged" }

func pathOf(reference string) string {
	_, path, _ := strings.Cut(reference, ":")
	return path
}

// move changes an image's status, from one of those that allow it.
func (c *Catalog) move(ctx context.Context, who Caller, id, action string, to Status, from ...Status) (Image, error) {
	return c.Change(ctx, who, id, action, func(i *Image) error {
		if i.Disk == "" || i.Container == "" {
			return launcher.Errorf(launcher.ErrInvalid, "Properties disk_format, container_format must be set prior to saving data.")
		}
		if !slices.Contains(from, i.Status) {
			return launcher.Errorf(launcher.ErrConflict, "Image status transition from %s to %s is not allowed", i.Status, to)
		}
		i.Status = to
		return nil
	})
}

// Upload gives an image its data, and makes it active.
func (c *Catalog) Upload(ctx context.Context, who Caller, id string, data io.Reader) error {
	i, err := c.move(ctx, who, id, "upload_image", Saving, Queued)
	if err != nil {
		return err
	}
	if err := c.write(ctx, c.staged(id), data); err != nil {
		return c.fail(ctx, i, err)
	}
	if err := c.activate(ctx, i); err != nil {
		return c.fail(ctx, i, err)
	}
	return nil
}

// Stage keeps data for an import.
func (c *Catalog) Stage(ctx context.Context, who Caller, id string, data io.Reader) error {
	i, err := c.move(ctx, who, id, "stage_image", Uploading, Queued)
	if err != nil {
		return err
	}
	if err := c.write(ctx, c.staged(id), data); err != nil {
		return c.fail(ctx, i, err)
	}
	return nil
}

// fail takes an image back to where it waits for data, for a reason.
func (c *Catalog) fail(ctx context.Context, i Image, reason error) error {
	ctx = context.WithoutCancel(ctx)
	importing := i.Status == Importing
	_, err := c.change(ctx, Caller{Admin: true}, i.ID, func(i *Image) error {
		i.Status, i.Reference, i.Digest, i.Pulled, i.Data = Queued, "", "", false, false
		i.Size, i.Checksum, i.Hash = 0, "", ""
		i.FailedImport = i.FailedImport || importing
		return nil
	})
	if errors.Is(err, launcher.ErrNotFound) { // it was deleted meanwhile
		err = nil
	}
	return errors.Join(reason, err, c.discard(i.ID))
}

// write keeps data in a file.
func (c *Catalog) write(ctx context.Context, name string, data io.Reader) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(contextReader{ctx, data}, maxData+1), make([]byte, 1<<20))
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return launcher.Errorf(launcher.ErrConflict, "Image storage media is full: there is not enough disk space for the image.")
	case err != nil:
		return fmt.Errorf("receive image: %w", err)
	case n > maxData:
		return launcher.Errorf(launcher.ErrInvalid, "Denying attempt to upload image larger than %d bytes.", int64(maxData))
	}
	return f.Sync()
}

type contextReader struct {
	ctx context.Context //nolint:containedctx // as long as the reading
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// activate takes what is staged for an image's data, has the launcher unpack what
// can be booted, and makes the image active.
func (c *Catalog) activate(ctx context.Context, i Image) error {
	size, checksum, hash, err := digests(c.staged(i.ID))
	if err != nil {
		return err
	}
	if err := os.Rename(c.staged(i.ID), c.path(i.ID)); err != nil {
		return err
	}
	var ref string
	var img launcher.Image
	if i.Container == Container {
		transport, err := archiveKind(c.path(i.ID))
		if err != nil {
			return launcher.Errorf(launcher.ErrInvalid, "The data is no image of container_format %s: %v.", Container, err)
		}
		ref = transport + ":" + c.path(i.ID)
		if img, err = c.cfg.Launcher.Pull(ctx, ref, "missing", nil, func(launcher.PullProgress) {}); err != nil {
			if launcherFault(err) {
				return err
			}
			return launcher.Errorf(launcher.ErrInvalid, "The data is no image that can be booted: %v", err)
		}
	}
	_, err = c.change(ctx, Caller{Admin: true}, i.ID, func(i *Image) error {
		i.Size, i.Checksum, i.Hash, i.Data, i.Status, i.FailedImport = size, checksum, hash, true, Active, false
		if ref != "" {
			i.take(ref, img)
		}
		return nil
	})
	if errors.Is(err, launcher.ErrNotFound) && ref != "" { // it was deleted meanwhile
		err = errors.Join(err, c.cfg.Launcher.DeleteImage(context.WithoutCancel(ctx), ref, false))
	}
	return err
}

// take notes what the launcher boots.
func (i *Image) take(ref string, img launcher.Image) {
	i.Reference, i.Digest, i.Pulled = ref, img.Digest.String(), true
	if img.Config != nil {
		i.Arch = map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[img.Config.Architecture]
		if i.Arch == "" {
			i.Arch = img.Config.Architecture
		}
	}
}

// launcherFault tells what is not the data's fault.
func launcherFault(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, launcher.ErrUnavailable)
}

// digests reads a file, for what the API tells of it.
func digests(name string) (size int64, checksum, hash string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", "", err
	}
	defer f.Close()
	md, sha := md5.New(), sha512.New() //nolint:gosec // as above
	size, err = io.CopyBuffer(io.MultiWriter(md, sha), struct{ io.Reader }{f}, make([]byte, 1<<20))
	return size, hex.EncodeToString(md.Sum(nil)), hex.EncodeToString(sha.Sum(nil)), err
}

// maxLooked is how many members of an archive are looked at.
const maxLooked = 10_000

// archiveKind finds out who wrote an archive: what docker saves has a manifest.json,
// also where it is an OCI layout besides.
func archiveKind(name string) (transport string, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := bufio.NewReader(f)
	r := io.Reader(b)
	switch magic, _ := b.Peek(4); {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		if r, err = gzip.NewReader(b); err != nil {
			return "", err
		}
	case string(magic) == "\x28\xb5\x2f\xfd":
		z, err := zstd.NewReader(b, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return "", err
		}
		defer z.Close()
		r = z
	}
	t := tar.NewReader(r)
	layout := false
	for range maxLooked {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", errors.New("it is no tar archive")
		}
		switch strings.TrimPrefix(h.Name, "./") {
		case "manifest.json":
			return "docker-archive", nil
		case "oci-layout":
			layout = true
		}
	}
	if layout {
		return "oci-archive", nil
	}
	return "", errors.New("it is an archive neither by docker nor of OCI: it has no manifest.json and no oci-layout")
}
