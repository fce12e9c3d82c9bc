package catalog

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Launcher makes images ready to be booted; *launcher.Manager is one.
type Launcher interface {
	Pull(ctx context.Context, ref, policy string, auth *launcher.Credentials, progress func(launcher.PullProgress)) (launcher.Image, error)
	DeleteImage(ctx context.Context, ref string, force bool) error
	SaveImage(ctx context.Context, ref, name string, auth *launcher.Credentials) (*images.Archive, error)
}

// Referred are the images that are known by reference; *compute.Images are such.
type Referred interface {
	All(ctx context.Context) ([]compute.Image, error)
	Find(ctx context.Context, id string) (compute.Image, error)
	Named(ctx context.Context, name string) (compute.Image, error)
	Delete(ctx context.Context, id string) error
}

// Config is what a catalog works with.
type Config struct {
	Dir      string // of the data; absolute
	Store    records.Store
	Launcher Launcher
	Referred Referred
	Download Download
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: none
}

// Catalog holds images. Its methods are safe for concurrent use.
type Catalog struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	images records.Table[Image]
	tasks  records.Table[Task]
	saved  records.Table[Saved] // by reference
	// running are the imports under way, by the image's ID.
	running map[string]context.CancelFunc

	// imports are those that run, which end with ctx.
	imports sync.WaitGroup
	ctx     context.Context //nolint:containedctx // what runs without a caller
	cancel  context.CancelFunc
}

// Open reads the catalog, and puts right what an end in the middle has left.
func Open(ctx context.Context, cfg Config) (*Catalog, error) {
	c := &Catalog{cfg: cfg, log: cfg.Log, running: map[string]context.CancelFunc{}}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.images.Load("image")(ctx, cfg.Store); err != nil {
		return nil, err
	}
	if err := c.tasks.Load("image task")(ctx, cfg.Store); err != nil {
		return nil, err
	}
	if err := c.saved.Load("image archive")(ctx, cfg.Store); err != nil {
		return nil, err
	}
	if err := c.recover(ctx); err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

// Close ends the imports that run, and waits for them.
func (c *Catalog) Close() error {
	c.cancel()
	c.imports.Wait()
	return nil
}

// recover takes back what was under way, and removes files of no image.
func (c *Catalog) recover(ctx context.Context) error {
	var tx records.Tx
	kept := map[string]bool{}
	for id, i := range c.images.Rows {
		if i.Data {
			kept[id] = true
		}
		if i.Status == Active || i.Status == Deactivated || i.Status == Queued {
			continue
		}
		i.Status = Queued
		if err := records.Put(&tx, &c.images, id, i); err != nil {
			return err
		}
	}
	for id, t := range c.tasks.Rows {
		if t.Status == TaskProcessing || t.Status == TaskPending {
			t.Status, t.Message = TaskFailure, "The service ended before the import did."
			if err := records.Put(&tx, &c.tasks, id, t); err != nil {
				return err
			}
		}
	}
	if err := tx.Commit(ctx, c.cfg.Store); err != nil {
		return err
	}
	files, err := os.ReadDir(c.cfg.Dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !kept[f.Name()] {
			c.log.Warn("data of no image removed", "image", f.Name())
			if err := os.Remove(filepath.Join(c.cfg.Dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Catalog) path(id string) string { return filepath.Join(c.cfg.Dir, id) }

// All returns the images that a caller may know of, the newest first.
func (c *Catalog) All(ctx context.Context, who Caller) ([]Image, error) {
	pulled, err := c.cfg.Referred.All(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Image
	for _, i := range c.images.Rows {
		if who.sees(i) {
			list = append(list, c.complete(i.clone()))
		}
	}
	for _, x := range pulled {
		if _, known := c.images.Rows[x.ID]; !known && !c.own(x.Reference) {
			list = append(list, c.complete(referred(x)))
		}
	}
	slices.SortFunc(list, func(a, b Image) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return compareIDs(a, b)
	})
	return list, nil
}

func compareIDs(a, b Image) int {
	if a.ID < b.ID {
		return -1
	}
	return 1
}

// own says whether a reference is of an image of the catalog's alone: a file of its
// own, or a snapshot.
func (c *Catalog) own(reference string) bool {
	return ofFile(reference) && filepath.Dir(pathOf(reference)) == c.cfg.Dir || strings.HasPrefix(reference, snapshots)
}

// Find returns the image with an ID.
func (c *Catalog) Find(ctx context.Context, who Caller, id string) (Image, error) {
	c.mu.Lock()
	i, ok := c.images.Rows[id]
	i = c.complete(i.clone())
	c.mu.Unlock()
	if ok && who.sees(i) {
		return i, nil
	}
	if ok {
		return Image{}, missing(id)
	}
	x, err := c.cfg.Referred.Find(ctx, id)
	if errors.Is(err, launcher.ErrNotFound) || err == nil && c.own(x.Reference) {
		return Image{}, missing(id)
	}
	if err != nil {
		return Image{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.complete(referred(x)), nil
}

// Named returns the images of a name: those of the catalog or, where it has none,
// the one that the name refers to.
func (c *Catalog) Named(ctx context.Context, who Caller, name string) ([]Image, error) {
	all, err := c.All(ctx, who)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(i Image) bool { return i.Name != name })
	if len(all) > 0 {
		return all, nil
	}
	x, err := c.cfg.Referred.Named(ctx, name)
	if errors.Is(err, launcher.ErrNotFound) || err == nil && c.own(x.Reference) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Image{referred(x)}, nil
}

// Bootable returns an image that a server is to be made from, by its ID, its name
// or a reference.
func (c *Catalog) Bootable(ctx context.Context, who Caller, id string) (Image, error) {
	i, err := c.Find(ctx, who, id)
	if errors.Is(err, launcher.ErrNotFound) {
		var found []Image
		if found, err = c.Named(ctx, who, id); err != nil {
			return Image{}, err
		}
		switch len(found) {
		case 0:
			return Image{}, missing(id)
		case 1:
			i = found[0]
		default:
			return Image{}, launcher.Errorf(launcher.ErrConflict, "More than one image is named %s: name one by its ID.", id)
		}
	}
	switch {
	case err != nil:
		return Image{}, err
	case i.Status != Active:
		return Image{}, launcher.Errorf(launcher.ErrInvalid, "Image %s is not active.", i.ID)
	case i.Reference == "":
		return Image{}, launcher.Errorf(launcher.ErrInvalid, "Image %s cannot be booted: its container_format is %s, not %s.", i.ID, i.Container, Container)
	}
	return i, nil
}

func missing(id string) error {
	return launcher.Errorf(launcher.ErrNotFound, "No image found with ID %s", id)
}

// Create makes an image without data. An ID is made up where it has none.
func (c *Catalog) Create(ctx context.Context, who Caller, i Image) (Image, error) {
	if i.ID == "" {
		i.ID = uuid.NewString()
	}
	if i.Visibility == "" {
		i.Visibility = Shared
	}
	if i.Owner == "" || !who.Admin {
		i.Owner = who.Project
	}
	if i.Visibility == Public && !who.Admin {
		return Image{}, forbidden("publicize_image")
	}
	i.Status, i.Created = Queued, c.cfg.Now().UTC()
	i.Updated = i.Created
	if x, err := c.cfg.Referred.Find(ctx, i.ID); err == nil {
		return Image{}, launcher.Errorf(launcher.ErrConflict, "Image ID %s already exists!", x.ID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.images.Rows[i.ID]; ok {
		return Image{}, launcher.Errorf(launcher.ErrConflict, "Image ID %s already exists!", i.ID)
	}
	return i, c.put(ctx, i)
}

func forbidden(action string) error {
	return launcher.Errorf(launcher.ErrForbidden, "You are not authorized to complete %s action.", action)
}

func foreign(id string) error {
	return launcher.Errorf(launcher.ErrForbidden, "Image %s is stored in Glance: change it there.", id)
}

// put stores an image; c.mu is held.
func (c *Catalog) put(ctx context.Context, i Image) error {
	var tx records.Tx
	if err := records.Put(&tx, &c.images, i.ID, i); err != nil {
		return err
	}
	return tx.Commit(ctx, c.cfg.Store)
}

// Change changes an image that the caller owns. An image that was known by its
// reference enters the catalog. The function must not call the catalog.
func (c *Catalog) Change(ctx context.Context, who Caller, id, action string, change func(*Image) error) (Image, error) {
	return c.change(ctx, who, id, func(i *Image) error {
		if !who.owns(*i) {
			return forbidden(action)
		}
		return change(i)
	})
}

func (c *Catalog) change(ctx context.Context, who Caller, id string, change func(*Image) error) (Image, error) {
	i, err := c.Find(ctx, who, id)
	if err != nil {
		return Image{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.images.Rows[id]; ok {
		i = now.clone()
	} else if !i.Adopted {
		return Image{}, missing(id)
	} else {
		i.Checksum, i.Hash = "", "" // see complete
	}
	if i.Foreign {
		return Image{}, foreign(id)
	}
	before := i.Visibility
	if err := change(&i); err != nil {
		return Image{}, err
	}
	if i.Visibility == Public && before != Public && !who.Admin {
		return Image{}, forbidden("publicize_image")
	}
	i.Updated = c.cfg.Now().UTC()
	return i, c.put(ctx, i)
}

// ChangeMember notes what a project says to an image that is shared with it: the
// project itself, or an administrator for it.
func (c *Catalog) ChangeMember(ctx context.Context, who Caller, id, project, status string) (Image, error) {
	return c.change(ctx, who, id, func(i *Image) error {
		m, ok := i.Members[project]
		if !who.Admin && project != who.Project {
			return forbidden("modify_member")
		}
		if !ok {
			return launcher.Errorf(launcher.ErrNotFound, "%s not found in the member list of the image %s.", project, id)
		}
		m.Status, m.Updated = status, c.cfg.Now().UTC()
		i.Members[project] = m
		return nil
	})
}

// Delete removes an image and its data. The error matches launcher.ErrConflict while
// servers use it.
func (c *Catalog) Delete(ctx context.Context, who Caller, id string) error {
	i, err := c.Find(ctx, who, id)
	if err != nil {
		return err
	}
	switch {
	case !who.owns(i):
		return forbidden("delete_image")
	case i.Foreign:
		return foreign(id)
	case i.Protected:
		return launcher.Errorf(launcher.ErrForbidden, "Image %s is protected and cannot be deleted.", id)
	case i.Status == Saving:
		return launcher.Errorf(launcher.ErrConflict, "Image %s could not be deleted because it is in use: it is %s.", id, i.Status)
	}
	if i.Adopted {
		err = c.cfg.Referred.Delete(ctx, id)
	} else if i.Reference != "" {
		err = c.release(ctx, i)
	}
	if errors.Is(err, launcher.ErrConflict) {
		return launcher.Errorf(launcher.ErrConflict, "Image %s could not be deleted because it is in use: servers are made from it.", id)
	}
	if err != nil && !errors.Is(err, launcher.ErrNotFound) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if end := c.running[id]; end != nil {
		end() // what it has made goes with it
	}
	var tx records.Tx
	records.Drop(&tx, &c.images, id)
	records.Drop(&tx, &c.saved, i.Reference)
	if err := tx.Commit(ctx, c.cfg.Store); err != nil {
		return err
	}
	return c.discard(id)
}

// release has the launcher forget an image that no other of the catalog refers to.
func (c *Catalog) release(ctx context.Context, i Image) error {
	c.mu.Lock()
	_, shared := c.images.Find(func(o Image) bool { return o.ID != i.ID && o.Reference == i.Reference })
	c.mu.Unlock()
	if shared {
		return nil
	}
	return c.cfg.Launcher.DeleteImage(ctx, i.Reference, false)
}

// discard removes what an image has of files.
func (c *Catalog) discard(id string) error {
	for _, name := range []string{c.path(id), c.staged(id)} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
