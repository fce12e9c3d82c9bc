package nova

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// floatingIPRoutes are of what Nova passed on to Neutron until 2.35.
func (a *API) floatingIPRoutes() []route {
	const p = "os_compute_api:"
	const ip = "/os-floating-ips"
	routes := []route{
		{method: "GET", path: ip, role: openstack.Reader, policy: p + "os-floating-ips:list", serve: a.listFloatingIPs},
		{method: "GET", path: ip + "/{id}", role: openstack.Reader, policy: p + "os-floating-ips:show", serve: a.showFloatingIP},
		{method: "POST", path: ip, role: openstack.Member, policy: p + "os-floating-ips:create", serve: a.createFloatingIP},
		{method: "DELETE", path: ip + "/{id}", role: openstack.Member, policy: p + "os-floating-ips:delete", serve: a.deleteFloatingIP},
		{method: "GET", path: "/os-floating-ip-pools", role: openstack.Reader, policy: p + "os-floating-ip-pools", serve: a.listPools},
	}
	for i := range routes {
		routes[i].max = lastProxies
		if a.cfg.Networks == nil {
			routes[i].serve = func(http.ResponseWriter, *http.Request) error {
				return openstack.Faultf(http.StatusNotImplemented, notSupported)
			}
		}
	}
	return routes
}

// callersProject is the one that a request is made in.
func callersProject(r *http.Request) string { return openstack.CallerOf(r.Context()).ProjectID }

// viewFloatingIP shows a floating IP as Nova did.
func (a *API) viewFloatingIP(f network.FloatingIP) view {
	v := view{"id": f.ID, "ip": f.IP.String(), "pool": f.Network, "fixed_ip": nil, "instance_id": nil}
	if n, err := a.cfg.Networks.Network(f.Network); err == nil {
		v["pool"] = n.Name
	}
	if p, err := a.cfg.Networks.Port(f.Port); err == nil {
		v["fixed_ip"], v["instance_id"] = f.Fixed.String(), text(p.Device)
	}
	return v
}

func (a *API) listFloatingIPs(w http.ResponseWriter, r *http.Request) error {
	all := []view{}
	for _, f := range a.cfg.Networks.FloatingIPs(func(f network.FloatingIP) bool { return f.Project == callersProject(r) }) {
		all = append(all, a.viewFloatingIP(f))
	}
	return writeOne(w, http.StatusOK, "floating_ips", all)
}

func (a *API) floatingIP(r *http.Request) (network.FloatingIP, error) {
	id := r.PathValue("id")
	f, err := a.cfg.Networks.FloatingIP(id)
	if err != nil || !a.uses(r, f.Project) {
		return f, openstack.NotFound("Floating IP not found for ID %s", id)
	}
	return f, nil
}

func (a *API) showFloatingIP(w http.ResponseWriter, r *http.Request) error {
	f, err := a.floatingIP(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "floating_ip", a.viewFloatingIP(f))
}

// createFloatingIP takes an address of a pool, which is an external network: where none
// is named, of the first.
func (a *API) createFloatingIP(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, object(map[string]*schema{"pool": {kinds: []string{"string", "null"}}}))
	if err != nil {
		return err
	}
	name := b.text("pool")
	pools := a.networks(r, func(n network.Network) bool { return n.External && (name == "" || n.Name == name || n.ID == name) })
	if len(pools) == 0 {
		return openstack.NotFound("Floating IP pool not found.")
	}
	f, err := a.cfg.Networks.CreateFloatingIP(r.Context(), network.FloatingIP{Base: network.Base{Project: callersProject(r)}, Network: pools[0].ID})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "floating_ip", a.viewFloatingIP(f))
}

func (a *API) deleteFloatingIP(w http.ResponseWriter, r *http.Request) error {
	f, err := a.floatingIP(r)
	if err != nil {
		return err
	}
	if err := a.cfg.Networks.DeleteFloatingIP(r.Context(), f.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// addFixedIP gives a server's port on a network one more address of it.
func (a *API) addFixedIP(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	m, _ := arg.(map[string]any)
	id := body(m).text("networkId")
	subnets := a.cfg.Networks.SubnetsOf(id)
	n := max(0, slices.IndexFunc(subnets, func(sub network.Subnet) bool { return sub.Version() == 4 }))
	on := func(p *network.Port) bool { return p.Network == id && len(subnets) > 0 }
	return a.changeFixedIPs(w, r, srv, on, func(p *network.Port) {
		p.FixedIPs = append(slices.Clone(p.FixedIPs), network.FixedIP{Subnet: subnets[n].ID})
	}, openstack.BadRequest("Network %s is not one of the server's", id))
}

// removeFixedIP takes an address from a server's port, which stays.
func (a *API) removeFixedIP(w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
	m, _ := arg.(map[string]any)
	address := body(m).text("address")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return openstack.BadRequest("Invalid fixed IP address (%s)", address)
	}
	has := func(f network.FixedIP) bool { return f.IP == ip }
	return a.changeFixedIPs(w, r, srv, func(p *network.Port) bool { return slices.ContainsFunc(p.FixedIPs, has) }, func(p *network.Port) {
		p.FixedIPs = slices.DeleteFunc(slices.Clone(p.FixedIPs), has)
	}, openstack.BadRequest("Fixed IP address %s is not one of the server's", address))
}

// changeFixedIPs changes the addresses of the first port of a server that is meant.
func (a *API) changeFixedIPs(w http.ResponseWriter, r *http.Request, srv *launcher.Server, meant func(*network.Port) bool, change func(*network.Port), none error) error {
	for _, p := range a.ports(srv) {
		if !meant(&p) {
			continue
		}
		if _, err := a.cfg.Networks.UpdatePort(r.Context(), p.ID, func(p *network.Port) error { change(p); return nil }); err != nil {
			return networkFault(err)
		}
		_, err := a.cfg.Manager.Update(asCaller(r), srv.ID, func(s *launcher.Server) error { s.NICs = a.cfg.Networks.NICs(s); return nil })
		w.WriteHeader(http.StatusAccepted)
		return err
	}
	return none
}
