package api

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	networking "github.com/slipway-vm/slipway/launcher/network"
)

// sees says whether a caller may know of a network.
func sees(caller *openstack.Caller, x networking.Network) bool {
	return x.Shared || x.External || owns(caller, x)
}

func owns(caller *openstack.Caller, x networking.Network) bool {
	return caller.Has(openstack.Admin) || x.Project == caller.ProjectID
}

// projectNetwork is a network with those of its ports that are the caller's.
func (n *network) projectNetwork(caller *openstack.Caller, x networking.Network) Network {
	whole := n.API.network(x)
	whole.Ports = slices.DeleteFunc(whole.Ports, func(p networking.Port) bool {
		return !caller.Has(openstack.Admin) && p.Project != caller.ProjectID
	})
	return whole
}

// findNetwork finds the network that a request's path names.
func (n *network) findNetwork(r *http.Request) (networking.Network, error) {
	caller, ref := openstack.CallerOf(r.Context()), r.PathValue("network")
	x, err := n.networks.Network(ref)
	if err != nil {
		x, err = n.networks.Find(r.Context(), ref, caller.ProjectID)
	}
	if err != nil || !sees(caller, x) {
		return x, launcher.Errorf(launcher.ErrNotFound, "No network with a name or ID of '%s' exists.", ref)
	}
	return x, nil
}

func (n *network) listNetworks(w http.ResponseWriter, r *http.Request) error {
	caller, list := openstack.CallerOf(r.Context()), []Network{}
	if _, err := n.networks.LearnNetworks(r.Context(), caller.ProjectID, ""); err != nil {
		return err
	}
	for _, x := range n.networks.Networks(func(x networking.Network) bool { return sees(caller, x) }) {
		list = append(list, n.projectNetwork(caller, x))
	}
	return writeJSON(w, http.StatusOK, list)
}

func (n *network) showNetwork(w http.ResponseWriter, r *http.Request) error {
	x, err := n.findNetwork(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, n.projectNetwork(openstack.CallerOf(r.Context()), x))
}

func (n *network) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var body NetworkBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	caller := openstack.CallerOf(r.Context())
	x, err := n.networks.CreateWithSubnets(r.Context(), networking.Network{
		Base: networking.Base{Name: body.Name, Project: caller.ProjectID}, MTU: body.MTU,
	}, body.Subnets, body.Gateways)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, n.projectNetwork(caller, x))
}

func (n *network) deleteNetwork(w http.ResponseWriter, r *http.Request) error {
	x, err := n.findNetwork(r)
	if err != nil {
		return err
	}
	if !owns(openstack.CallerOf(r.Context()), x) {
		return adminsOnly("to delete a network of another project")
	}
	return done(w, n.networks.DeleteNetwork(r.Context(), x.ID))
}
