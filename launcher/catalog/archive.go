package catalog

import (
	"context"
	"crypto/md5" //nolint:gosec // what the API calls an image's checksum
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Saved is what is known of the archive of an image that has no data of its own, since
// it was last read: it is made as it is read, always the same.
type Saved struct {
	Digest   string `json:"digest"` // of the manifest
	Name     string `json:"name"`   // in the archive
	Size     int64  `json:"size"`
	Checksum string `json:"checksum"`
	Hash     string `json:"hash"`
}

// saveName is what an image is called in its archive.
func (i Image) saveName() string {
	ref, err := images.ParseReference(i.Name)
	if err != nil {
		return ""
	}
	return ref.Tagged()
}

// complete adds what is known of an image's archive; c.mu is held.
func (c *Catalog) complete(i Image) Image {
	if s, ok := c.saved.Rows[i.Reference]; ok && !i.Data && s.Digest == i.Digest && s.Name == i.saveName() {
		i.Size, i.Checksum, i.Hash = s.Size, s.Checksum, s.Hash
	}
	return i
}

// ErrNoData says that an image has none.
var ErrNoData = errors.New("image has no data")

// Data is what a caller reads of an image: a file, or an archive that is made.
type Data struct {
	File *os.File // nil: Write makes it
	Size int64

	archive *images.Archive
	keep    func(ctx context.Context, checksum, hash string) error
}

// Close releases what there is to read from.
func (d *Data) Close() error {
	if d.File != nil {
		return d.File.Close()
	}
	return d.archive.Close()
}

// Write writes an archive, and notes its checksums.
func (d *Data) Write(ctx context.Context, w io.Writer) error {
	md, sha := md5.New(), sha512.New() //nolint:gosec // as above
	if err := d.archive.Write(ctx, io.MultiWriter(w, md, sha)); err != nil {
		return err
	}
	return d.keep(context.WithoutCancel(ctx), hex.EncodeToString(md.Sum(nil)), hex.EncodeToString(sha.Sum(nil)))
}

// Data opens an image's data, for a caller to read. Of an image of a registry or of a
// server that is an archive, with the layers as a registry has them.
func (c *Catalog) Data(ctx context.Context, who Caller, id string) (Image, *Data, error) {
	i, err := c.Find(ctx, who, id)
	switch {
	case err != nil:
		return i, nil, err
	case i.Status == Deactivated && !who.Admin:
		return i, nil, launcher.Errorf(launcher.ErrForbidden, "The requested image has been deactivated. Image data download is forbidden.")
	case !i.Data && (i.Reference == "" || i.Foreign || i.Status != Active && i.Status != Deactivated):
		return i, nil, ErrNoData
	case !i.Data:
		d, err := c.archive(ctx, i)
		return i, d, err
	}
	f, err := os.Open(c.path(id))
	if err != nil {
		return i, nil, err
	}
	return i, &Data{File: f, Size: i.Size}, nil
}

func (c *Catalog) archive(ctx context.Context, i Image) (*Data, error) {
	name := i.saveName()
	a, err := c.cfg.Launcher.SaveImage(ctx, i.Reference, name, nil)
	if err != nil {
		return nil, err
	}
	d := &Data{Size: a.Size(), archive: a}
	d.keep = func(ctx context.Context, checksum, hash string) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		s := Saved{Digest: a.Digest().String(), Name: name, Size: d.Size, Checksum: checksum, Hash: hash}
		if c.saved.Rows[i.Reference] == s {
			return nil
		}
		var tx records.Tx
		if err := records.Put(&tx, &c.saved, i.Reference, s); err != nil {
			return err
		}
		return tx.Commit(ctx, c.cfg.Store)
	}
	return d, nil
}
