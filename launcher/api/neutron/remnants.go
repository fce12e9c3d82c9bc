package neutron

import (
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// zone is the one availability zone, Nova's.
const zone = "nova"

// remnantRoutes are those of what there is none of here, or one: clients ask for it on
// their way to something else.
func (a *api) remnantRoutes() []openstack.Route {
	empty := func(collection string) openstack.Func {
		return a.may(openstack.Reader, "get_"+collection, func(w http.ResponseWriter, _ *http.Request) error {
			return openstack.WriteJSON(w, http.StatusOK, view{collection: []any{}})
		})
	}
	routes := []openstack.Route{
		{Method: "GET", Path: root + "/availability_zones", Serve: a.may(openstack.Reader, "get_availability_zone", func(w http.ResponseWriter, _ *http.Request) error {
			return openstack.WriteJSON(w, http.StatusOK, view{"availability_zones": []view{{"name": zone, "resource": "network", "state": "available"}}})
		})},
		{Method: "GET", Path: root + "/network-ip-availabilities", Serve: a.may(openstack.Admin, "get_network_ip_availability", a.listAvailability)},
		{Method: "GET", Path: root + "/network-ip-availabilities/{id}", Serve: a.may(openstack.Admin, "get_network_ip_availability", a.showAvailability)},
		{Method: "POST", Path: root + "/routers", Serve: a.may(openstack.Member, "create_router", func(http.ResponseWriter, *http.Request) error {
			return &openstack.Fault{Code: http.StatusConflict, Type: "RouterNotSupported",
				Message: "Routers are not made here: the host routes between its networks and outwards. Floating IPs need none."}
		})},
	}
	for _, x := range []struct{ path, collection string }{
		{"routers", "routers"}, {"agents", "agents"}, {"subnetpools", "subnetpools"}, {"address-scopes", "address_scopes"},
		{"address-groups", "address_groups"}, {"segments", "segments"}, {"trunks", "trunks"}, {"rbac-policies", "rbac_policies"},
	} {
		routes = append(routes,
			openstack.Route{Method: "GET", Path: root + "/" + x.path, Serve: empty(x.collection)},
			openstack.Route{Method: "GET", Path: root + "/" + x.path + "/{id}", Serve: absent(x.collection)})
	}
	return append(routes, openstack.Route{
		Method: "GET", Path: root + "/floatingips/{id}/port_forwardings", Serve: empty("port_forwardings"),
	})
}

// absent is the answer about one of what there is none of.
func absent(collection string) openstack.Func {
	one := strings.TrimSuffix(collection, "s")
	return func(_ http.ResponseWriter, r *http.Request) error {
		words := strings.Split(one, "_")
		for i, w := range words {
			words[i] = strings.ToUpper(w[:1]) + w[1:]
		}
		return &openstack.Fault{Code: http.StatusNotFound, Type: strings.Join(words, "") + "NotFound",
			Message: strings.Join(words, " ") + " " + r.PathValue("id") + " could not be found."}
	}
}

// availability counts a network's addresses: those of the pools, and those in use.
func (a *api) availability(n network.Network) view {
	ports := a.net.Ports(func(p network.Port) bool { return p.Network == n.ID })
	total, used := new(big.Int), 0
	subnets := []view{}
	for _, s := range a.net.SubnetsOf(n.ID) {
		all, in := new(big.Int), 0
		for _, r := range s.Pools {
			first, last := new(big.Int).SetBytes(r.Start.AsSlice()), new(big.Int).SetBytes(r.End.AsSlice())
			all.Add(all, last.Sub(last, first).Add(last, big.NewInt(1)))
		}
		for _, p := range ports {
			for _, f := range p.FixedIPs {
				if f.Subnet == s.ID {
					in++
				}
			}
		}
		subnets = append(subnets, view{
			"subnet_id": s.ID, "subnet_name": s.Name, "cidr": s.CIDR.String(), "ip_version": s.Version(), "total_ips": all, "used_ips": in,
		})
		total.Add(total, all)
		used += in
	}
	owner := a.owner(&n.Base)
	return view{
		"network_id": n.ID, "network_name": n.Name, "tenant_id": owner, "project_id": owner,
		"total_ips": total, "used_ips": used, "subnet_ip_availability": subnets,
	}
}

func (a *api) listAvailability(w http.ResponseWriter, r *http.Request) error {
	all := []view{}
	q := r.URL.Query()
	for _, n := range a.net.Networks(nil) {
		v := a.availability(n)
		keep := true
		for name, wanted := range q {
			_, known := v[name]
			keep = keep && (!known || slices.Contains(wanted, fmt.Sprint(v[name])))
		}
		if keep {
			all = append(all, v)
		}
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"network_ip_availabilities": all})
}

func (a *api) showAvailability(w http.ResponseWriter, r *http.Request) error {
	n, err := a.net.Network(r.PathValue("id"))
	if err != nil {
		return faultOf(err)
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"network_ip_availability": a.availability(n)})
}

// extension is what of Neutron's extensions is answered.
type extension struct{ alias, name, about string }

var extensions = []extension{
	{"agent", "agent", "The agent management extension."},
	{"allowed-address-pairs", "Allowed Address Pairs", "Provides allowed address pairs"},
	{"availability_zone", "Availability Zone", "Availability zone support."},
	{"binding", "Port Binding", "Expose port bindings of a virtual port to external application"},
	{"dns-integration", "DNS Integration", "Provides integration with DNS."},
	{"external-net", "Neutron external network", "Adds external network attribute to network resource."},
	{"filter-validation", "Filter parameters validation", "Provides validation on filter parameters."},
	{"fip-port-details", "Floating IP Port Details Extension", "Add port_details attribute to Floating IP resource"},
	{"ip-substring-filtering", "IP address substring filtering", "Provides IP address substring filtering when listing ports"},
	{"net-mtu", "Network MTU", "Provides MTU attribute for a network resource."},
	{"net-mtu-writable", "Network MTU (writable)", "Provides a writable MTU attribute for a network resource."},
	{"network-ip-availability", "Network IP Availability", "Provides IP availability data for each network and subnet."},
	{"network_availability_zone", "Network Availability Zone", "Availability zone support for network."},
	{"pagination", "Pagination support", "Extension that indicates that pagination is enabled."},
	{"port-security", "Port Security", "Provides port security"},
	{"project-id", "project_id field enabled", "Extension that indicates that project_id field is enabled."},
	{"provider", "Provider Network", "Expose mapping of virtual networks to physical networks"},
	{"quotas", "Quota management support", "Expose functions for quotas management per project"},
	{"quota-check-limit", "Quota engine limit check", "Support for checking the resource usage before applying a new quota limit"},
	{"quota_details", "Quota details management support", "Expose functions for quotas usage statistics per project"},
	{"revision-if-match", "If-Match constraints based on revision_number", "Extension indicating that If-Match based on revision_number is supported."},
	{"router", "Neutron L3 Router", "Floating IPs, which the host routes."},
	{"security-group", "security-group", "The security groups extension."},
	{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules", "Add new field with normalized cidr to security group rule"},
	{"sorting", "Sorting support", "Extension that indicates that sorting is enabled."},
	{"standard-attr-description", "standard-attr-description", "Extension to add descriptions to standard attributes"},
	{"standard-attr-revisions", "Resource revision numbers", "This extension will display the revision number of neutron resources."},
	{"standard-attr-tag", "Tag support for resources with standard attribute: port, subnet, network, security_group, floatingip", "Enables to set tag on resources with standard attribute."},
	{"standard-attr-timestamp", "Resource timestamps", "Adds created_at and updated_at fields to all Neutron resources that have Neutron standard attributes."},
	{"stateful-security-group", "Stateful security group", "Indicates if the security group is stateful or not"},
}

func (e extension) view() view {
	return view{"alias": e.alias, "name": e.name, "description": e.about, "updated": "2026-01-01T00:00:00-00:00", "links": []any{}}
}

func listExtensions(w http.ResponseWriter, _ *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, view{"extensions": list(extensions, func(e extension) any { return e.view() })})
}

func showExtension(w http.ResponseWriter, r *http.Request) error {
	for _, e := range extensions {
		if e.alias == r.PathValue("alias") {
			return openstack.WriteJSON(w, http.StatusOK, view{"extension": e.view()})
		}
	}
	return &openstack.Fault{Code: http.StatusNotFound, Type: "ExtensionsNotFound", Message: "Extension with alias " + r.PathValue("alias") + " does not exist"}
}
