package api

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// createServer boots a server of the caller's project, within its quotas, as Nova
// would: of a flavor, an image and networks that are the project's to use.
func (n *network) createServer(w http.ResponseWriter, r *http.Request) error {
	var body CreateBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	if err := n.checkSpec(caller, &body.Spec, body.Credentials); err != nil {
		return err
	}
	flavor, err := n.flavor(r, &body.Spec)
	if err != nil {
		return err
	}
	image, err := n.image(r.Context(), caller, body.Spec.Image)
	if err != nil {
		return err
	}
	body.Spec.Image, body.Spec.Size, body.Spec.Flavor = image.Reference, &flavor, ""
	order := launcher.NewServer{
		Spec: body.Spec, Details: launcher.Details{ImageRef: image.ID}, Project: caller.ProjectID, User: caller.UserID, Credentials: body.Credentials,
	}
	var made launcher.Server
	ask := compute.Ask{Project: caller.ProjectID, User: caller.UserID, Flavor: flavor, Min: 1, Max: 1}
	err = n.cfg.Compute.Admit(ask, func(_ int, noHost error) (err error) {
		if noHost != nil {
			order.NoHost = noHost.Error()
		}
		made, err = n.manager.CreateFor(r.Context(), order)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, seen(made))
}

// flavor is the one that a spec names, as far as it asks for other sizes with those.
// More than a flavor has is for administrators to give.
func (n *network) flavor(r *http.Request, s *launcher.Spec) (launcher.Flavor, error) {
	caller := openstack.CallerOf(r.Context())
	f, err := n.cfg.Compute.Flavors.Flavor(caller.ProjectID, cmp.Or(s.Flavor, n.cfg.DefaultFlavor), caller.Has(openstack.Admin))
	if err != nil {
		return f, err
	}
	if (s.VCPUs > f.VCPUs || s.Memory > f.Memory || s.Disk > f.Disk) && !caller.Has(openstack.Admin) {
		return f, adminsOnly("to give a server more than its flavor has: name a larger one by --flavor")
	}
	f.VCPUs, f.Memory, f.Disk = cmp.Or(s.VCPUs, f.VCPUs), cmp.Or(s.Memory, f.Memory), cmp.Or(s.Disk, f.Disk)
	return f, nil
}

// checkSpec refuses what is of the service's host, which only an administrator may
// use.
func (n *network) checkSpec(caller *openstack.Caller, s *launcher.Spec, auth *launcher.Credentials) error {
	if s.Size != nil {
		return launcher.Errorf(launcher.ErrInvalid, "size: name a flavor")
	}
	if caller.Has(openstack.Admin) {
		return nil
	}
	hosts := func(r launcher.NetworkRequest) bool { return r.Network == launcher.NetworkHostUser || r.Port != "" }
	switch {
	case len(s.Volumes) > 0:
		return adminsOnly("to give a server directories of the service's host (--volume)")
	case len(s.Publish) > 0:
		return adminsOnly("to publish ports on the service's host (--publish): use a floating IP")
	case s.SeedDisk != "":
		return adminsOnly("to use a file of the service's host (--seed-disk): use --user-data")
	case s.BaseVMImage != "" && s.BaseVMImage != launcher.NoBaseVMImage:
		return adminsOnly("to use a file of the service's host (--base-vm-image): use a flavor with " + launcher.SpecBaseVM)
	case strings.Contains(s.Kernel, "/"):
		return adminsOnly("to use a file of the service's host (--kernel)")
	case slices.ContainsFunc(s.Networks, hosts):
		return adminsOnly("to be on the service's host's network, or to be given a port here: the compute API takes ports")
	case s.LogBytes != nil && (*s.LogBytes == 0 || *s.LogBytes > maxLogFile) || s.LogFiles > maxLogFiles:
		return adminsOnly("to keep more than 10 files of 100 MiB of a server's output (--log-opt)")
	}
	for _, r := range s.Networks {
		for _, id := range r.SecurityGroups {
			if g, err := n.networks.Group(id); err == nil && g.Project != caller.ProjectID {
				return openstack.NotFound("Security group %s could not be found.", id)
			}
		}
	}
	return checkSource(caller, s.Image, auth)
}

// Of a server's output an ordinary user may have kept so much.
const (
	maxLogFile  = 100 << 20
	maxLogFiles = 10
)

// maxKernel bounds a kernel that is sent, in bytes.
const maxKernel = 1 << 30

// importKernel imports the file that is the request's body. Its query: name, the
// file's.
func (n *network) importKernel(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("name")
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") {
		return launcher.Errorf(launcher.ErrInvalid, "name %q: give the name of the kernel's file", name)
	}
	dir, err := os.MkdirTemp("", "slipway-kernel-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, name)
	if err := receiveFile(file, http.MaxBytesReader(w, r.Body, maxKernel)); err != nil {
		return launcher.Errorf(launcher.ErrInvalid, "receive kernel: %v", err)
	}
	k, err := n.kernels.Import(r.Context(), file)
	if err != nil {
		return launcher.Errorf(launcher.ErrInvalid, "%v", err)
	}
	return writeJSON(w, http.StatusCreated, Kernel{Kernel: k})
}

// receiveFile keeps what is read in a new file.
func receiveFile(name string, from io.Reader) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, from)
	return errors.Join(err, f.Close())
}
