package api

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	networking "github.com/slipway-vm/slipway/launcher/network"
)

// Network is a network and what belongs to it.
type Network struct {
	networking.Network
	Subnets []networking.Subnet `json:"subnets"`
	Ports   []networking.Port   `json:"ports"`
}

// NetworkBody is the body of a request to create a network. Without subnets it has
// one of each version that nothing else on the host overlaps.
type NetworkBody struct {
	Name     string         `json:"name"`
	MTU      int            `json:"mtu,omitempty"`
	Subnets  []netip.Prefix `json:"subnets,omitempty"`
	Gateways []netip.Addr   `json:"gateways,omitempty"` // of the subnets that hold them
}

// PublishBody is the body of a request to publish ports of a server, and to do so no
// more.
type PublishBody struct {
	Publish   []launcher.Publish `json:"publish,omitempty"`
	Unpublish []launcher.Publish `json:"unpublish,omitempty"`
}

func (a *API) network(n networking.Network) Network {
	return Network{
		Network: n, Subnets: a.networks.SubnetsOf(n.ID),
		Ports: a.networks.Ports(func(p networking.Port) bool { return p.Network == n.ID }),
	}
}

func (a *API) listNetworks(w http.ResponseWriter, r *http.Request) error {
	list := []Network{}
	all, err := a.networks.Usable(r.Context(), "")
	if err != nil {
		return err
	}
	for _, n := range all {
		list = append(list, a.network(n))
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *API) createNetwork(w http.ResponseWriter, r *http.Request) error {
	var body NetworkBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	n, err := a.networks.CreateWithSubnets(r.Context(), networking.Network{Base: networking.Base{Name: body.Name}, MTU: body.MTU}, body.Subnets, body.Gateways)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, a.network(n))
}

func (a *API) showNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := a.networks.Find(r.Context(), r.PathValue("network"), "")
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, a.network(n))
}

func (a *API) deleteNetwork(w http.ResponseWriter, r *http.Request) error {
	n, err := a.networks.Find(r.Context(), r.PathValue("network"), "")
	if err != nil {
		return err
	}
	if err := a.networks.DeleteNetwork(r.Context(), n.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) publishServer(w http.ResponseWriter, r *http.Request) error {
	var body PublishBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	srv, err := a.manager.Publish(r.Context(), r.PathValue("server"), func(have []launcher.Publish) ([]launcher.Publish, error) {
		for _, u := range body.Unpublish {
			n := len(have)
			have = slices.DeleteFunc(have, u.Undoes)
			if len(have) == n {
				return nil, &Error{"not_found", "the server does not publish " + u.String()}
			}
		}
		return append(have, body.Publish...), nil
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, srv)
}
