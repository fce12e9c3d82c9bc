package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/rootfs"
)

// CreateImage makes an image, under a reference, of a server's image and of what the
// server has written. A running server's processes are frozen while that is copied,
// not while the image is made of it; a paused server's are held anyway, and what its
// guest had not written out is not in the image. done is told how it ended.
func (m *Manager) CreateImage(ctx context.Context, ref, reference string, done func(Image, error)) error {
	if r, err := images.ParseReference(reference); err != nil || r.Transport != images.Registry {
		return errorf(ErrInvalid, "image %q: name it as in a registry, NAME[:TAG]", reference)
	}
	if m.cfg.Rootless {
		return errorf(ErrUnsupported, "images of servers are made by engines that run as root: this one cannot mount what a server has written")
	}
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, ActionCreateImage, nil); err != nil {
		return err
	}
	if !m.background(i, snapshotTime, func(ctx context.Context) {
		img, err := m.snapshot(ctx, i, reference)
		if err != nil {
			m.giveUp(ctx, i, err, nil)
			done(img, err)
			return
		}
		i.insist(context.WithoutCancel(ctx), m.cfg.Store, m.log, func(s *Server) {
			if s.TaskState == TaskImageSnapshot { // else it has ended meanwhile
				s.TaskState = TaskNone
			}
		})
		done(img, nil)
	}) {
		done(Image{}, errorf(ErrConflict, "server %s is being deleted", ref))
	}
	return nil
}

// snapshotTime bounds the making of an image.
const snapshotTime = time.Hour

func (m *Manager) snapshot(ctx context.Context, i *instance, reference string) (Image, error) {
	overlay, err := m.cfg.Roots.Overlay(i.dir)
	if errors.Is(err, rootfs.ErrNotFound) {
		return Image{}, errorf(ErrConflict, "the server has no files yet: it has never been booted")
	}
	if err != nil {
		return Image{}, err
	}
	srv, _ := i.snapshot()
	base, err := m.imageOf(ctx, &srv)
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = base.Close() }()
	if c, err := base.ConfigFile(); err != nil || !slices.Equal(c.RootFS.DiffIDs, overlay.Base.DiffIDs) {
		return Image{}, errors.Join(err, errorf(ErrConflict, "the server's root is not of its image %s: start it first", srv.ImageDigest))
	}
	written, err := m.copyWritten(ctx, i, overlay)
	if errors.Is(err, rootfs.ErrUnsupported) {
		return Image{}, errorf(ErrUnsupported, "%v", err)
	}
	if err != nil {
		return Image{}, err
	}
	defer func() { _ = written.Close() }()
	release, err := m.cfg.Roots.Hold(ctx)
	if err != nil {
		return Image{}, err
	}
	defer release()
	rec, err := m.cfg.Images.Commit(ctx, base, reference, "written by server "+srv.Name, func(w io.Writer) error { return written.WriteLayer(ctx, w) })
	if err != nil {
		return Image{}, imageError(err)
	}
	img, err := m.pullHeld(ctx, rec.Reference, images.ResolveOptions{Pull: images.PullNever}, func(PullProgress) {})
	if err != nil {
		_, derr := m.cfg.Images.Delete(context.WithoutCancel(ctx), rec.Reference)
		err = errors.Join(err, derr)
	}
	return img, err
}

// imageOf finds the image that a server was made from, which its reference may not
// mean any more.
func (m *Manager) imageOf(ctx context.Context, srv *Server) (*images.Image, error) {
	img, err := m.cfg.Images.Resolve(ctx, srv.ImageDigest, images.ResolveOptions{Pull: images.PullNever})
	if !errors.Is(err, images.ErrNotFound) {
		return img, imageError(err)
	}
	ref, perr := images.ParseReference(srv.Spec.Image)
	if perr != nil || ref.Transport != images.Registry {
		return nil, errorf(ErrConflict, "the server's image %s is not here any more, and %s means another by now: pull it again", srv.ImageDigest, srv.Spec.Image)
	}
	img, err = m.cfg.Images.Resolve(ctx, ref.Name.Context().Digest(srv.ImageDigest).String(), images.ResolveOptions{})
	return img, imageError(err)
}

// copyWritten copies what a server has written, while nobody writes.
func (m *Manager) copyWritten(ctx context.Context, i *instance, overlay *rootfs.Overlay) (_ *rootfs.Written, err error) {
	release, err := i.disk.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	before, _ := i.snapshot()
	if before.VMState == VMActive {
		_, c, err := m.inside(ctx, i.id, string(ActionCreateImage))
		if err != nil {
			return nil, err
		}
		if err := c.Freeze(ctx); err != nil {
			return nil, fmt.Errorf("freeze the server: %w", err)
		}
		defer func() {
			thaw, cancel := context.WithTimeout(context.WithoutCancel(ctx), thawTime)
			defer cancel()
			if terr := c.Thaw(thaw); terr != nil {
				m.log.Warn("server not thawed", "server", i.id, "err", terr)
			}
		}()
	}
	written, err := overlay.Written(ctx)
	if err != nil {
		return nil, err
	}
	if now, _ := i.snapshot(); now.VMState != before.VMState || now.Run != before.Run || now.Running() != before.Running() {
		return nil, errors.Join(errorf(ErrConflict, "the server has ended, or started, while it was copied: try again"), written.Close())
	}
	return written, nil
}

// thawTime bounds the wait for a guest to go on.
const thawTime = 30 * time.Second

// thaw has a server go on that an engine which has ended has frozen.
func (m *Manager) thaw(i *instance) {
	m.background(i, thawTime, func(ctx context.Context) {
		for {
			srv, changed := i.snapshot()
			if srv.VMState != VMActive {
				return
			}
			_, c, err := m.inside(ctx, i.id, "thaw")
			if err == nil {
				err = c.Thaw(ctx)
			}
			if err == nil {
				return
			}
			select {
			case <-changed:
			case <-time.After(time.Second):
			case <-ctx.Done():
				m.log.Warn("server not thawed", "server", i.id, "err", err)
				return
			}
		}
	})
}
