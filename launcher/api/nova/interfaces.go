package nova

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// interfaceRoutes are of a server's ports and addresses, and of what there was of
// networks in Nova until 2.35.
func (a *API) interfaceRoutes() []route {
	const p = "os_compute_api:"
	const id = "/servers/{id}"
	return []route{
		{method: "GET", path: id + "/ips", role: openstack.Reader, policy: p + "ips:index", serve: a.listIPs},
		{method: "GET", path: id + "/ips/{network}", role: openstack.Reader, policy: p + "ips:show", serve: a.showIPs},
		{method: "GET", path: id + "/os-interface", role: openstack.Reader, policy: p + "os-attach-interfaces:list", serve: a.listInterfaces},
		{method: "GET", path: id + "/os-interface/{port}", role: openstack.Reader, policy: p + "os-attach-interfaces:show", serve: a.showInterface},
		{method: "POST", path: id + "/os-interface", role: openstack.Member, policy: p + "os-attach-interfaces:create", serve: a.attachInterface},
		{method: "DELETE", path: id + "/os-interface/{port}", role: openstack.Member, policy: p + "os-attach-interfaces:delete", serve: a.detachInterface},
		{method: "GET", path: id + "/os-security-groups", role: openstack.Reader, policy: p + "os-security-groups:list", serve: a.listGroupsOfServer},

		{method: "GET", path: "/os-networks", role: openstack.Reader, policy: p + "os-networks:list", max: lastProxies, serve: a.listNetworks},
		{method: "GET", path: "/os-tenant-networks", role: openstack.Reader, policy: p + "os-tenant-networks:list", max: lastProxies, serve: a.listNetworks},
		{method: "GET", path: "/os-networks/{id}", role: openstack.Reader, policy: p + "os-networks:view", max: lastProxies, serve: a.showNetwork},
		{method: "GET", path: "/os-tenant-networks/{id}", role: openstack.Reader, policy: p + "os-tenant-networks:show", max: lastProxies, serve: a.showNetwork},
	}
}

func (a *API) listIPs(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "addresses", a.addresses(&srv, false))
}

func (a *API) showIPs(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	name := r.PathValue("network")
	list, there := a.addresses(&srv, false)[name]
	if !there {
		return openstack.NotFound("Instance is not a member of specified network")
	}
	return writeOne(w, http.StatusOK, name, list)
}

func viewInterface(r *http.Request, p *network.Port) view {
	fixed := []view{}
	for _, f := range p.FixedIPs {
		fixed = append(fixed, view{"subnet_id": f.Subnet, "ip_address": f.IP.String()})
	}
	v := view{"net_id": p.Network, "port_id": p.ID, "mac_addr": p.MAC, "port_state": p.Status, "fixed_ips": fixed}
	if openstack.MicroversionOf(r.Context()) >= 70 {
		v["tag"] = text(p.Tag)
	}
	return v
}

func (a *API) listInterfaces(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	all := []view{}
	for _, p := range a.ports(&srv) {
		all = append(all, viewInterface(r, &p))
	}
	return writeOne(w, http.StatusOK, "interfaceAttachments", all)
}

// serverPort finds the port of a server that a path names.
func (a *API) serverPort(r *http.Request, srv *launcher.Server) (network.Port, error) {
	id := r.PathValue("port")
	for _, p := range a.ports(srv) {
		if p.ID == id {
			return p, nil
		}
	}
	return network.Port{}, openstack.NotFound("Port %s is not attached to instance %s.", id, srv.ID)
}

func (a *API) showInterface(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	p, err := a.serverPort(r, &srv)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "interfaceAttachment", viewInterface(r, &p))
}

func interfaceSchema(v openstack.Microversion) *schema {
	props := map[string]*schema{
		"net_id": aUUID, "port_id": aUUID,
		"fixed_ips": {kinds: []string{"array"}, minLen: 1, maxLen: 1, items: object(map[string]*schema{"ip_address": aText}, "ip_address")},
	}
	if v >= 49 {
		props["tag"] = aTag
	}
	return one("interfaceAttachment", object(props))
}

func (a *API) attachInterface(w http.ResponseWriter, r *http.Request) error {
	whole, err := readBody(r, interfaceSchema(openstack.MicroversionOf(r.Context())))
	if err != nil {
		return err
	}
	srv, err := a.writable(r)
	if err != nil {
		return err
	}
	b := whole.in("interfaceAttachment")
	ask := body{"uuid": b.text("net_id"), "port": b.text("port_id"), "tag": b.text("tag")}
	if list, ok := b["fixed_ips"].([]any); ok {
		m, _ := list[0].(map[string]any)
		ask["fixed_ip"] = body(m).text("ip_address")
		if ask.text("uuid") == "" {
			return openstack.BadRequest("Must input network_id when request IP address")
		}
	}
	if ask.text("uuid") != "" && ask.text("port") != "" {
		return openstack.BadRequest("Must not input both network_id and port_id")
	}
	if a.cfg.Networks == nil {
		return openstack.Faultf(http.StatusNotImplemented, notSupported)
	}
	if ask.text("uuid") == "" && ask.text("port") == "" {
		n, err := a.cfg.Networks.AutoNetwork(r.Context(), srv.Project)
		if err != nil {
			return err
		}
		ask["uuid"] = n.ID
	}
	request, err := a.networkOf(r, ask)
	if err != nil {
		return err
	}
	nic, err := a.cfg.Manager.AttachInterface(asCaller(r), srv.ID, request)
	if err != nil {
		return networkFault(err)
	}
	p, err := a.cfg.Networks.Port(nic.Port)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "interfaceAttachment", viewInterface(r, &p))
}

func (a *API) detachInterface(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.writable(r)
	if err != nil {
		return err
	}
	p, err := a.serverPort(r, &srv)
	if err != nil {
		return err
	}
	if err := a.cfg.Manager.DetachInterface(asCaller(r), srv.ID, p.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// listGroupsOfServer answers with what is known of the security groups of a server.
func (a *API) listGroupsOfServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.server(r)
	if err != nil {
		return err
	}
	all := []view{}
	for _, g := range a.serverGroups(&srv) {
		all = append(all, view{"id": g.ID, "name": g.Name, "description": g.Description, "tenant_id": a.projectOf(&srv), "rules": a.viewRules(g)})
	}
	return writeOne(w, http.StatusOK, "security_groups", all)
}

// viewRules are the rules for what comes in, which are all that Nova's own security
// groups had.
func (a *API) viewRules(g network.SecurityGroup) []view {
	all := []view{}
	for _, rule := range a.cfg.Networks.RulesOf(g.ID) {
		if rule.Direction != network.Ingress {
			continue
		}
		v := view{"id": rule.ID, "parent_group_id": g.ID, "ip_protocol": text(rule.Protocol), "from_port": rule.Min, "to_port": rule.Max, "ip_range": view{}, "group": view{}}
		switch {
		case rule.RemoteGroup != "":
			if remote, err := a.cfg.Networks.Group(rule.RemoteGroup); err == nil {
				v["group"] = view{"name": remote.Name, "tenant_id": remote.Project}
			}
		case rule.RemotePrefix.IsValid():
			v["ip_range"] = view{"cidr": rule.RemotePrefix.String()}
		default:
			v["ip_range"] = view{"cidr": map[string]string{"IPv4": "0.0.0.0/0", "IPv6": "::/0"}[rule.EtherType]}
		}
		all = append(all, v)
	}
	return all
}

// listNetworks answers with what Nova told of Neutron's networks.
func (a *API) listNetworks(w http.ResponseWriter, r *http.Request) error {
	all := []view{}
	for _, n := range a.networks(r, func(network.Network) bool { return true }) {
		all = append(all, viewNetwork(&n))
	}
	return writeOne(w, http.StatusOK, "networks", all)
}

func viewNetwork(n *network.Network) view { return view{"id": n.ID, "label": n.Name, "cidr": "None"} }

func (a *API) showNetwork(w http.ResponseWriter, r *http.Request) error {
	found := a.networks(r, func(n network.Network) bool { return n.ID == r.PathValue("id") })
	if len(found) == 0 {
		return openstack.NotFound("Network not found")
	}
	return writeOne(w, http.StatusOK, "network", viewNetwork(&found[0]))
}

// networks are those that the caller may use and that pass.
func (a *API) networks(r *http.Request, pass func(network.Network) bool) []network.Network {
	if a.cfg.Networks == nil {
		return nil
	}
	project := callersProject(r)
	if isAdmin(r) && !a.cfg.Networks.Remote() {
		project = "" // everybody's
	}
	all, err := a.cfg.Networks.Usable(r.Context(), project)
	if err != nil {
		a.log.Error("networks not listed", "err", err)
	}
	return slices.DeleteFunc(all, func(n network.Network) bool { return !pass(n) })
}

func (a *API) listPools(w http.ResponseWriter, r *http.Request) error {
	all := []view{}
	for _, n := range a.networks(r, func(n network.Network) bool { return n.External }) {
		all = append(all, view{"name": n.Name})
	}
	return writeOne(w, http.StatusOK, "floating_ip_pools", all)
}
