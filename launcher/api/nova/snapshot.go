package nova

import (
	"context"
	"net/http"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// createImage has a server made into an image, which is there at once and active
// later; one that cannot be made is removed.
func (a *API) createImage(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	return a.snapshot(w, r, srv, arg, nil, 0)
}

// createBackup makes an image too, and removes older ones of its kind.
func (a *API) createBackup(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	b := body(arg.(map[string]any))
	kind := b.text("backup_type")
	return a.snapshot(w, r, srv, arg, &kind, b.number("rotation"))
}

func (a *API) snapshot(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any, backup *string, keep int) error {
	if a.cfg.Images == nil {
		return openstack.Faultf(http.StatusNotImplemented, "%s", notSupported)
	}
	b := body(arg.(map[string]any))
	caller := openstack.CallerOf(r.Context())
	s := catalog.Snapshot{Name: b.text("name"), Server: srv.ID, Base: srv.ImageRef, User: caller.UserID, Backup: backup, Keep: keep}
	if m, ok := b["metadata"].(map[string]any); ok {
		s.Metadata = stringsOf(m)
	}
	if err := a.cfg.Compute.Quotas.Metadata(caller.ProjectID, caller.UserID, len(s.Metadata)); err != nil {
		return err
	}
	if err := srv.Check(launcher.ActionCreateImage); err != nil {
		return err
	}
	id, reference, err := a.cfg.Images.NewSnapshot(r.Context(), caller, s)
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(r.Context())
	end := func(img launcher.Image, failed error) {
		if err := a.cfg.Images.EndSnapshot(ctx, id, img, failed); err != nil {
			a.log.Error("snapshot not recorded", "image", id, "err", err)
		}
		if backup == nil || failed != nil {
			return
		}
		if err := a.cfg.Images.Rotate(ctx, caller, s); err != nil {
			a.log.Error("backups not rotated", "server", s.Server, "err", err)
		}
	}
	if err := a.cfg.Manager.CreateImage(asCaller(r), srv.ID, reference, end); err != nil {
		end(launcher.Image{}, err)
		return err
	}
	if openstack.MicroversionOf(r.Context()) >= 45 {
		return openstack.WriteJSON(w, http.StatusAccepted, map[string]string{"image_id": id})
	}
	w.Header().Set("Location", bookmark(r, "/images/"+id)[0].Href)
	w.WriteHeader(http.StatusAccepted)
	return nil
}
