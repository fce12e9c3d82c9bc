package api

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// inCatalog is a caller as the catalog knows him.
func inCatalog(caller *openstack.Caller) catalog.Caller {
	return catalog.Caller{Project: caller.ProjectID, Admin: caller.Has(openstack.Admin)}
}

// image finds the image that a caller means by an ID, a name or a reference, among
// those that the image service lets him see.
func (n *network) image(ctx context.Context, caller *openstack.Caller, ref string) (catalog.Image, error) {
	parsed, err := images.ParseReference(ref)
	if err == nil && parsed.Transport != images.Registry && caller.Has(openstack.Admin) {
		return catalog.Image{ID: compute.ImageID(parsed.String()), Reference: ref}, nil // of a file of this host
	}
	img, berr := n.cfg.Images.Bootable(ctx, inCatalog(caller), ref)
	if err != nil || parsed.Transport != images.Registry || !errors.Is(berr, launcher.ErrNotFound) {
		return img, berr
	}
	if img, err := n.remembered(ctx, caller, ref); !errors.Is(err, launcher.ErrNotFound) {
		return img, err
	}
	// "alpine" is docker.io/library/alpine:latest, as on the command line.
	canonical := parsed.String()
	if img, err := n.cfg.Images.Bootable(ctx, inCatalog(caller), canonical); !errors.Is(err, launcher.ErrNotFound) {
		return img, err
	}
	return catalog.Image{}, launcher.Errorf(launcher.ErrNotFound, "no image has the name or ID %s, and no registry has it", ref)
}

// remembered finds an image that is here by its ID, or the beginning of that, or its
// digest.
func (n *network) remembered(ctx context.Context, caller *openstack.Caller, ref string) (catalog.Image, error) {
	img, err := n.manager.Image(ctx, ref)
	if err != nil {
		return catalog.Image{}, err
	}
	all, err := n.cfg.Images.All(ctx, inCatalog(caller))
	if err != nil {
		return catalog.Image{}, err
	}
	i := slices.IndexFunc(all, func(i catalog.Image) bool { return i.Reference == img.Reference })
	if i < 0 {
		return catalog.Image{}, launcher.Errorf(launcher.ErrNotFound, "no image %s", ref)
	}
	if r, err := images.ParseReference(img.Reference); err == nil && r.Piped() {
		all[i].Reference = img.ID // its archive is gone
	}
	return all[i], nil
}

// visible are the catalog's images that a caller's list shows, by reference.
func (n *network) visible(r *http.Request) (map[string]catalog.Image, error) {
	who := inCatalog(openstack.CallerOf(r.Context()))
	list, err := n.cfg.Images.All(r.Context(), who)
	if err != nil {
		return nil, err
	}
	all := map[string]catalog.Image{}
	for _, i := range list {
		if i.Reference != "" && who.Lists(i, "all", "") {
			all[i.Reference] = i
		}
	}
	return all, nil
}

// named is an image under the name that the image service has for it, where it is not
// there by its reference.
func named(img launcher.Image, as catalog.Image) launcher.Image {
	if !as.Adopted {
		img.Reference = cmp.Or(as.Name, img.Reference)
	}
	return img
}

func (n *network) listImages(w http.ResponseWriter, r *http.Request) error {
	visible, err := n.visible(r)
	if err != nil {
		return err
	}
	all, err := n.manager.Images(r.Context())
	if err != nil {
		return err
	}
	list := []launcher.Image{}
	for _, img := range all {
		if as, ok := visible[img.Reference]; ok {
			list = append(list, named(img, as))
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

// asked is the image of a query's ref.
func (n *network) asked(r *http.Request) (catalog.Image, error) {
	return n.image(r.Context(), openstack.CallerOf(r.Context()), r.URL.Query().Get("ref"))
}

func (n *network) showImage(w http.ResponseWriter, r *http.Request) error {
	as, err := n.asked(r)
	if err != nil {
		return err
	}
	img, err := n.manager.Image(r.Context(), as.Reference)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, named(img, as))
}

func (n *network) saveImage(w http.ResponseWriter, r *http.Request) error {
	as, err := n.asked(r)
	if err != nil {
		return err
	}
	name := r.URL.Query().Get("name")
	if ref, err := images.ParseReference(as.Name); err == nil && name == "" {
		name = ref.Tagged()
	}
	return n.sendArchive(w, r, as.Reference, name)
}

// deleteImage deletes what the image service lets the caller delete; force is the
// administrators'.
func (n *network) deleteImage(w http.ResponseWriter, r *http.Request) error {
	as, err := n.asked(r)
	if err != nil {
		return err
	}
	who := inCatalog(openstack.CallerOf(r.Context()))
	if force, _ := strconv.ParseBool(r.URL.Query().Get("force")); force {
		if !who.Admin {
			return adminsOnly("to delete an image that servers were made from")
		}
		err := n.manager.DeleteImage(r.Context(), as.Reference, true)
		if err != nil && !errors.Is(err, launcher.ErrNotFound) {
			return err
		}
	}
	if err := n.cfg.Images.Delete(r.Context(), who, as.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (n *network) verifyImage(w http.ResponseWriter, r *http.Request) error {
	as, err := n.asked(r)
	if err != nil {
		return err
	}
	return done(w, n.manager.VerifyImage(r.Context(), as.Reference))
}

// adminsOnly refuses what an administrator may do.
func adminsOnly(what string) error {
	return openstack.Forbidden("It takes the role %s %s.", openstack.Admin, what)
}

// checkSource refuses what only an administrator may fetch from: files of this host,
// and what a registry has for those with credentials alone, since an image that is
// here is every project's.
func checkSource(caller *openstack.Caller, ref string, auth *launcher.Credentials) error {
	if caller.Has(openstack.Admin) {
		return nil
	}
	if r, err := images.ParseReference(ref); err == nil && !r.Remote() {
		return adminsOnly("to name an image by a file of the service's host: upload it to the image service")
	}
	if auth != nil {
		return adminsOnly("to use credentials for a registry: what is fetched by them is there for every project")
	}
	return nil
}

func (n *network) pullImage(w http.ResponseWriter, r *http.Request) error {
	var body PullBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	if err := checkSource(caller, body.Image, body.Credentials); err != nil {
		return err
	}
	// What is here alone, such as an image of a server, is whose the image service says.
	if img, err := n.manager.Image(r.Context(), body.Image); err == nil && img.Own {
		as, err := n.image(r.Context(), caller, body.Image)
		if err != nil {
			return err
		}
		body.Image = as.Reference
	}
	return sendPull(w, func(progress func(launcher.PullProgress)) (launcher.Image, error) {
		return n.manager.Pull(r.Context(), body.Image, body.Pull, body.Credentials, progress)
	})
}

// pushImage pushes an image that the caller sees. The engine's own credentials, and
// registries of this host, are the administrators'.
func (n *network) pushImage(w http.ResponseWriter, r *http.Request) error {
	var body PushBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	as, err := n.image(r.Context(), caller, body.Image)
	if err != nil {
		return err
	}
	body.Image = as.Reference
	if !caller.Has(openstack.Admin) {
		to, err := images.ParseReference(body.PushOrder.Destination)
		switch {
		case err != nil:
			return launcher.Errorf(launcher.ErrInvalid, "%v", err)
		case to.Transport != images.Registry:
			return adminsOnly("to push an image elsewhere than to a registry")
		case thisHost(to.Name.Context().RegistryStr()):
			return adminsOnly("to push an image to the service's own host")
		}
		if body.Destination == nil {
			body.Destination = &launcher.Credentials{Registry: to.Name.Context().RegistryStr(), Auth: authn.AuthConfig{}}
		}
	}
	return sendProgress(w, func(p *launcher.PullProgress, pushed *images.Pushed, e *Error) any { return PushEvent{p, pushed, e} },
		func(progress func(launcher.PullProgress)) (images.Pushed, error) {
			return n.manager.Push(r.Context(), body.PushOrder, body.Credentials, body.Destination, progress)
		})
}

// thisHost tells registries that are this host's own.
func thisHost(registry string) bool {
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		host = registry
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip.IsLoopback() || ip.IsUnspecified()
}

// createServerImage makes an image of the caller's project, and answers when it is
// ready. It has its name in the image service alone.
func (n *network) createServerImage(w http.ResponseWriter, r *http.Request) error {
	var body ImageBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	srv, err := n.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	snapshot, err := n.cfg.Images.NewSnapshot(r.Context(), inCatalog(caller), catalog.Snapshot{
		Name: body.Reference, Server: srv.ID, Base: srv.ImageRef, User: caller.UserID,
	})
	if err != nil {
		return err
	}
	type result struct {
		img launcher.Image
		err error
	}
	made := make(chan result, 1)
	// It goes on where the caller goes.
	ctx := context.WithoutCancel(r.Context())
	end := func(img launcher.Image, failed error) {
		made <- result{img, cmp.Or(failed, n.cfg.Images.EndSnapshot(ctx, snapshot.ID, img, failed))}
	}
	if err := n.manager.CreateImage(r.Context(), srv.ID, snapshot.Reference, end); err != nil {
		return errors.Join(err, n.cfg.Images.EndSnapshot(ctx, snapshot.ID, launcher.Image{}, err))
	}
	select {
	case m := <-made:
		if m.err != nil {
			return m.err
		}
		return writeJSON(w, http.StatusCreated, named(m.img, snapshot))
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// exportDisk is of a server of the caller's project, or of an image that a
// server of his may be made from.
func (n *network) exportDisk(w http.ResponseWriter, r *http.Request) error {
	var body DiskBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	if body.Server != "" {
		srv, err := n.find(caller, body.Server)
		if err != nil {
			return err
		}
		body.Server = srv.ID
		return n.sendDisk(w, r, body)
	}
	if err := n.checkSpec(caller, &body.Spec, body.Credentials); err != nil {
		return err
	}
	as, err := n.image(r.Context(), caller, body.Spec.Image)
	if err != nil {
		return err
	}
	body.Spec.Image = as.Reference
	return n.sendDisk(w, r, body)
}
