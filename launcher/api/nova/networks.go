package nova

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// aNetwork is the schema of one of the networks that a request for a server names.
func aNetwork(v openstack.Microversion) *schema {
	props := map[string]*schema{"uuid": aUUID, "port": {kinds: []string{"string", "null"}, pattern: uuidForm}, "fixed_ip": aText}
	if v == 32 || v >= 42 {
		props["tag"] = aTag
	}
	return &schema{kinds: []string{"object"}, props: props}
}

// networksOf is what a request for servers asks for in the way of interfaces.
func (a *API) networksOf(r *http.Request, b body, most int) ([]launcher.NetworkRequest, error) {
	if a.cfg.Networks == nil {
		return nil, nil
	}
	groups, err := a.groupsOf(r, b)
	if err != nil {
		return nil, err
	}
	var asked []any
	switch v := b["networks"].(type) {
	case string:
		switch v {
		case "none":
			return []launcher.NetworkRequest{{Network: launcher.NetworkNone}}, nil
		case "auto":
		default:
			return nil, openstack.BadRequest("Invalid input for field/attribute networks. Value: %s. '%s' is not one of ['none', 'auto']", v, v)
		}
	case []any:
		asked = v
	}
	if len(asked) == 0 && a.cfg.Manager.Rootless() {
		return nil, nil // the launcher has a default of its own
	}
	if len(asked) == 0 {
		n, err := a.cfg.Networks.AutoNetwork(r.Context(), callersProject(r))
		if err != nil {
			return nil, err
		}
		return []launcher.NetworkRequest{{Network: n.ID, SecurityGroups: groups}}, nil
	}
	var requests []launcher.NetworkRequest
	for _, one := range asked {
		m, _ := one.(map[string]any)
		request, err := a.networkOf(r, m)
		if err != nil {
			return nil, err
		}
		switch {
		case most > 1 && request.Port != "":
			return nil, openstack.BadRequest("Unable to launch multiple instances with a single configured port ID. Please launch your instance one by one with different ports.")
		case most > 1 && len(request.IPs) > 0:
			return nil, openstack.BadRequest("Invalid fixed IP Address requested: unable to launch multiple instances with a single fixed IP address.")
		case request.Port != "" && slices.ContainsFunc(requests, func(o launcher.NetworkRequest) bool { return o.Port == request.Port }):
			return nil, openstack.BadRequest("Port %s is still in use.", request.Port)
		case request.Port == "":
			request.SecurityGroups = groups
		}
		requests = append(requests, request)
	}
	return requests, nil
}

// networkOf is one interface that is asked for: by a network or by a port.
func (a *API) networkOf(r *http.Request, m body) (launcher.NetworkRequest, error) {
	request := launcher.NetworkRequest{Port: m.text("port"), Tag: m.text("tag")}
	if ip := m.text("fixed_ip"); ip != "" {
		at, err := netip.ParseAddr(ip)
		if err != nil {
			return request, openstack.BadRequest("Invalid fixed IP address (%s)", ip)
		}
		request.IPs = []netip.Addr{at}
	}
	if request.Port != "" {
		if len(request.IPs) > 0 {
			return request, openstack.BadRequest("Specified Fixed IP '%s' cannot be used with port '%s': the two cannot be specified together.", request.IPs[0], request.Port)
		}
		p, err := a.cfg.Networks.LearnPort(r.Context(), request.Port)
		switch {
		case err != nil || !a.uses(r, p.Project):
			return request, openstack.BadRequest("Port %s could not be found.", request.Port)
		case p.Device != "":
			return request, openstack.Conflict("Port %s is still in use.", request.Port)
		}
		return request, nil
	}
	id := m.text("uuid")
	given, err := a.cfg.Networks.LearnNetworks(r.Context(), callersProject(r), id)
	if err != nil {
		return request, err
	}
	n, err := a.cfg.Networks.Network(id)
	switch {
	case err != nil || len(given) == 0 && !a.uses(r, n.Project) && !n.Shared && !n.External:
		return request, openstack.BadRequest("Network %s could not be found.", id)
	case n.External && !n.Shared && !a.uses(r, n.Project):
		return request, openstack.Forbidden("It is not allowed to create an interface on external network %s", id)
	case len(a.cfg.Networks.SubnetsOf(id)) == 0:
		return request, openstack.BadRequest("Network %s requires a subnet in order to boot instances on.", id)
	}
	request.Network = n.ID
	return request, nil
}

// uses reports whether the caller may use what belongs to a project.
func (a *API) uses(r *http.Request, project string) bool {
	return isAdmin(r) || project != "" && project == callersProject(r)
}

// groupsOf are the IDs of the security groups that a request names; nil where it names
// none.
func (a *API) groupsOf(r *http.Request, b body) ([]string, error) {
	list, _ := b["security_groups"].([]any)
	var ids []string
	for _, one := range list {
		m, _ := one.(map[string]any)
		g, err := a.findGroup(r, callersProject(r), body(m).text("name"))
		if err != nil {
			return nil, openstack.BadRequest("%s", openstack.FaultOf(err).Message)
		}
		if !slices.Contains(ids, g.ID) {
			ids = append(ids, g.ID)
		}
	}
	return ids, nil
}

// findGroup finds a project's security group by its name or ID.
func (a *API) findGroup(r *http.Request, project, ref string) (network.SecurityGroup, error) {
	if ref == network.DefaultName {
		return a.cfg.Networks.DefaultGroup(r.Context(), project)
	}
	if err := a.cfg.Networks.LearnGroups(r.Context(), project); err != nil {
		return network.SecurityGroup{}, err
	}
	found := a.cfg.Networks.Groups(func(g network.SecurityGroup) bool {
		return g.ID == ref && (g.Project == project || isAdmin(r)) || g.Name == ref && g.Project == project
	})
	switch len(found) {
	case 0:
		return network.SecurityGroup{}, openstack.NotFound("Security group %s not found for project %s.", ref, project)
	case 1:
		return found[0], nil
	}
	return network.SecurityGroup{}, openstack.Conflict("Multiple security groups found matching '%s'. Use an ID to be more specific.", ref)
}

// ports are those of a server, in their order.
func (a *API) ports(srv *launcher.Server) []network.Port {
	if a.cfg.Networks == nil {
		return nil
	}
	return a.cfg.Networks.PortsOf(srv.ID)
}

// addresses are a server's, by the names of its networks; full says whether with
// what Nova's extensions once added.
func (a *API) addresses(srv *launcher.Server, full bool) view {
	all := view{}
	one := func(ip netip.Addr, kind, mac string) view {
		v := view{"version": 4, "addr": ip.String()}
		if ip.Is6() {
			v["version"] = 6
		}
		if full {
			v["OS-EXT-IPS:type"], v["OS-EXT-IPS-MAC:mac_addr"] = kind, mac
		}
		return v
	}
	if srv.OnHostUser() {
		for _, nic := range srv.NICs {
			var list []view
			for _, ip := range nic.Addresses {
				list = append(list, one(ip.Addr(), "fixed", nic.MAC))
			}
			all[nic.NetworkName] = list
		}
	}
	for _, p := range a.ports(srv) {
		n, err := a.cfg.Networks.Network(p.Network)
		if err != nil {
			continue // deleted meanwhile
		}
		list, _ := all[n.Name].([]view)
		add := func(ip netip.Addr, kind string) { list = append(list, one(ip, kind, p.MAC)) }
		floating := a.cfg.Networks.FloatingIPs(func(f network.FloatingIP) bool { return f.Port == p.ID })
		for _, f := range p.FixedIPs {
			add(f.IP, "fixed")
			for _, x := range floating {
				if x.Fixed == f.IP {
					add(x.IP, "floating")
				}
			}
		}
		all[n.Name] = list
	}
	return all
}

// serverGroups are the security groups of a server's ports.
func (a *API) serverGroups(srv *launcher.Server) []network.SecurityGroup {
	var all []network.SecurityGroup
	for _, p := range a.ports(srv) {
		for _, id := range p.SecurityGroups {
			g, err := a.cfg.Networks.Group(id)
			if err == nil && !slices.ContainsFunc(all, func(o network.SecurityGroup) bool { return o.ID == id }) {
				all = append(all, g)
			}
		}
	}
	return all
}

// viewGroups names a server's security groups.
func (a *API) viewGroups(srv *launcher.Server) []view {
	var all []view
	for _, g := range a.serverGroups(srv) {
		all = append(all, view{"name": g.Name})
	}
	return all
}

// changeGroup makes the action that gives a server's ports a security group, or takes
// it from them.
func changeGroup(add bool) func(*API, http.ResponseWriter, *http.Request, *launcher.Server, any) error {
	return func(a *API, w http.ResponseWriter, r *http.Request, srv *launcher.Server, arg any) error {
		m, _ := arg.(map[string]any)
		name := body(m).text("name")
		if a.cfg.Networks == nil {
			return openstack.NotFound("Security group %s not found.", name)
		}
		g, err := a.findGroup(r, srv.Project, name)
		if err != nil {
			return err
		}
		ports, changed := a.ports(srv), false
		for _, p := range ports {
			if p.NoPortSecurity || len(p.FixedIPs) == 0 || slices.Contains(p.SecurityGroups, g.ID) == add {
				changed = changed || add && slices.Contains(p.SecurityGroups, g.ID)
				continue
			}
			if _, err := a.cfg.Networks.UpdatePort(r.Context(), p.ID, func(p *network.Port) error {
				groups := slices.DeleteFunc(slices.Clone(p.SecurityGroups), func(id string) bool { return id == g.ID })
				if add {
					groups = append(groups, g.ID)
				}
				p.SecurityGroups = groups
				return nil
			}); err != nil {
				return err
			}
			changed = true
		}
		switch {
		case len(ports) == 0:
			return openstack.NotFound("instance_id %s could not be found as device id on any ports", srv.ID)
		case !changed && add:
			return openstack.BadRequest("Network requires port_security_enabled and subnet associated in order to apply security groups.")
		case !changed:
			return openstack.NotFound("Security group %s not associated with the instance %s", g.ID, srv.ID)
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
}

// networkFault words a failure of networks as Nova words it.
func networkFault(err error) error {
	if err == nil {
		return nil
	}
	f := openstack.FaultOf(err)
	if !errors.Is(err, launcher.ErrConflict) {
		return err
	}
	switch {
	case f.Message == "Quota exceeded for resources: ['port'].":
		return openstack.Forbidden("Maximum number of ports exceeded")
	case len(f.Message) > 11 && f.Message[:11] == "IP address ":
		return openstack.BadRequest("Fixed IP address %s is already in use on instance.", firstWord(f.Message[11:]))
	}
	return err
}

func firstWord(s string) string {
	var word string
	_, _ = fmt.Sscan(s, &word)
	return word
}
