package neutron

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

func portBase(p *network.Port) *network.Base { return &p.Base }

func (a *api) ports() *resource[network.Port] {
	type P = network.Port
	x := &resource[P]{
		name: "port", plural: "ports", title: "Port", base: portBase, required: []string{"network_id"},
		all: func() []P { return a.net.Ports(nil) }, find: a.net.Port,
		sees: func(c *openstack.Caller, p *P) bool {
			n, err := a.net.Network(p.Network)
			return err == nil && n.Project != "" && n.Project == c.ProjectID
		},
		create: a.net.CreatePort, update: a.net.UpdatePort, remove: a.cfg.DeletePort,
		check: a.checkPort, filters: map[string]func(*P, []string) (bool, error){"fixed_ips": hasFixedIPs},
	}
	x.attributes = append(common(a, portBase),
		attribute[P]{name: "network_id", when: post, show: func(p *P) any { return p.Network }, set: anID(func(p *P) *string { return &p.Network })},
		attribute[P]{name: "admin_state_up", when: anyWrite, show: func(p *P) any { return !p.Down }, set: anInverse(func(p *P) *bool { return &p.Down })},
		attribute[P]{name: "status", show: func(p *P) any { return string(p.Status) }},
		attribute[P]{name: "mac_address", when: anyWrite, show: func(p *P) any { return p.MAC }, set: aText(32, func(p *P) *string { return &p.MAC })},
		attribute[P]{name: "fixed_ips", when: anyWrite, show: func(p *P) any { return list(p.FixedIPs, showFixedIP) }, set: setFixedIPs},
		attribute[P]{name: "device_id", when: anyWrite, show: func(p *P) any { return p.Device }, set: aText(255, func(p *P) *string { return &p.Device })},
		attribute[P]{name: "device_owner", when: anyWrite, show: func(p *P) any { return p.Owner }, set: aText(255, func(p *P) *string { return &p.Owner })},
		attribute[P]{name: "port_security_enabled", when: anyWrite, show: func(p *P) any { return !p.NoPortSecurity }, set: anInverse(func(p *P) *bool { return &p.NoPortSecurity })},
		attribute[P]{name: "security_groups", when: anyWrite, show: func(p *P) any { return list(p.SecurityGroups, func(s string) any { return s }) }, set: setGroups},
		attribute[P]{name: "allowed_address_pairs", when: anyWrite, show: showPairs, set: setPairs},
		attribute[P]{name: "dns_name", when: anyWrite, show: func(p *P) any { return p.DNSName }, set: aHostname(func(p *P) *string { return &p.DNSName })},
		attribute[P]{name: "dns_assignment", show: a.showNames},
		attribute[P]{name: "dns_domain", when: anyWrite, show: fixed[P](""), set: ignored[P]("")},
		attribute[P]{name: "extra_dhcp_opts", when: anyWrite, show: fixed[P]([]any{}), set: ignored[P]()},
		attribute[P]{name: "binding:vnic_type", when: anyWrite, show: func(p *P) any { return vnicType(p) }, set: oneOf(func(p *P) *string { return &p.VNICType }, "normal")},
		attribute[P]{name: "binding:host_id", when: anyWrite, adminOnly: true, show: func(p *P) any { return p.Host }, set: aText(255, func(p *P) *string { return &p.Host })},
		attribute[P]{name: "binding:vif_type", adminOnly: true, show: func(p *P) any { return vifType(p) }},
		attribute[P]{name: "binding:vif_details", adminOnly: true, show: a.showBinding},
		attribute[P]{name: "binding:profile", when: anyWrite, adminOnly: true, show: func(p *P) any { return profile(p) }, set: func(p *P, v any) error {
			m, ok := v.(map[string]any)
			if v != nil && !ok {
				return reasonf("'%v' is not a dictionary", v)
			}
			p.Profile = m
			return nil
		}},
	)
	return x
}

// checkPort refuses what is not the caller's to use.
func (a *api) checkPort(c *openstack.Caller, p *network.Port, b view) error {
	n, err := a.net.Network(p.Network)
	if err != nil || !a.owns(c, &n.Base) && !n.Shared && !n.External {
		return a.networks().missing(p.Network)
	}
	_, created := b["network_id"]
	owner := a.owns(c, &n.Base)
	if created && n.External && !n.Shared && !owner {
		return disallowed("create_port")
	}
	_, secured := b["port_security_enabled"]
	if created && !secured {
		p.NoPortSecurity = n.NoPortSecurity
	}
	// What would let a port speak for others.
	for _, name := range []string{"port_security_enabled", "allowed_address_pairs"} {
		if v, given := b[name]; given && !owner && !harmless(name, v) {
			return disallowed("create_port:" + name)
		}
	}
	if err := a.checkDevice(c, p, b); err != nil {
		return err
	}
	for _, id := range p.SecurityGroups {
		if g, err := a.net.Group(id); err != nil || !a.owns(c, &g.Base) && g.Project != p.Project {
			return a.groups().missing(id)
		}
	}
	if p.NoPortSecurity && b["security_groups"] == nil {
		p.SecurityGroups = []string{}
	}
	return nil
}

// checkDevice refuses to give or take ports of servers, and of the network itself,
// past the compute service: a server is plugged into whatever says that it is its own.
func (a *api) checkDevice(c *openstack.Caller, p *network.Port, b view) error {
	_, id := b["device_id"]
	_, owner := b["device_owner"]
	if isAdmin(c) || !id && !owner {
		return nil
	}
	rule := "create_port:device_owner"
	owners := []string{p.Owner}
	if old, err := a.net.Port(p.ID); err == nil {
		if old.Device == p.Device && old.Owner == p.Owner {
			return nil
		}
		rule, owners = "update_port:device_id", append(owners, old.Owner)
	}
	for _, o := range owners {
		if strings.HasPrefix(o, "compute:") || strings.HasPrefix(o, "network:") {
			return disallowed(rule)
		}
	}
	return nil
}

// harmless reports whether a value takes nothing of a port's security away.
func harmless(name string, v any) bool {
	if name == "port_security_enabled" {
		on, err := boolean(v)
		return err == nil && on
	}
	list, ok := v.([]any)
	return v == nil || ok && len(list) == 0
}

func vnicType(p *network.Port) string {
	if p.VNICType == "" {
		return "normal"
	}
	return p.VNICType
}

func profile(p *network.Port) map[string]any {
	if p.Profile == nil {
		return view{}
	}
	return p.Profile
}

func vifType(p *network.Port) string {
	if p.Host == "" && p.Tap == "" {
		return "unbound"
	}
	return "bridge"
}

func (a *api) showBinding(p *network.Port) any {
	n, err := a.net.Network(p.Network)
	if vifType(p) == "unbound" || err != nil {
		return view{}
	}
	return view{"port_filter": true, "bridge_name": n.Bridge, "connectivity": "l2"}
}

func showFixedIP(f network.FixedIP) any {
	return view{"subnet_id": f.Subnet, "ip_address": f.IP.String()}
}

func setFixedIPs(p *network.Port, v any) error {
	p.FixedIPs = []network.FixedIP{}
	return each(v, func(one any) error {
		m, err := members(one, "subnet_id", "ip_address")
		if err != nil {
			return err
		}
		var f network.FixedIP
		if id, given := m["subnet_id"]; given && id != nil {
			if f.Subnet, err = identifier(id); err != nil {
				return err
			}
		}
		if ip, given := m["ip_address"]; given && ip != nil {
			if f.IP, err = address(ip); err != nil {
				return err
			}
		}
		p.FixedIPs = append(p.FixedIPs, f)
		return nil
	})
}

func setGroups(p *network.Port, v any) error {
	p.SecurityGroups = []string{}
	if v == nil {
		return nil
	}
	return each(v, func(one any) error {
		id, err := identifier(one)
		if err == nil && !slices.Contains(p.SecurityGroups, id) {
			p.SecurityGroups = append(p.SecurityGroups, id)
		}
		return err
	})
}

func setPairs(p *network.Port, v any) error {
	p.AddressPairs = nil
	if v == nil {
		return nil
	}
	return each(v, func(one any) error {
		m, err := members(one, "mac_address", "ip_address")
		if err != nil {
			return err
		}
		var pair network.AddressPair
		if pair.IP, err = prefix(m["ip_address"], true); err != nil {
			return err
		}
		if mac, ok := m["mac_address"].(string); ok {
			pair.MAC = mac
		}
		p.AddressPairs = append(p.AddressPairs, pair)
		return nil
	})
}

// showPairs shows pairs with the MACs that they mean.
func showPairs(p *network.Port) any {
	return list(p.AddressPairs, func(pair network.AddressPair) any {
		ip := pair.IP.String()
		if pair.IP.IsSingleIP() {
			ip = pair.IP.Addr().String()
		}
		return view{"mac_address": cmp.Or(pair.MAC, p.MAC), "ip_address": ip}
	})
}

// showNames are the names that the network's DNS has for a port.
func (a *api) showNames(p *network.Port) any {
	return list(p.FixedIPs, func(f network.FixedIP) any {
		host := p.DNSName
		if host == "" {
			host = "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(f.IP.String())
		}
		return view{"ip_address": f.IP.String(), "hostname": host, "fqdn": host + "." + strings.Trim(a.cfg.Domain, ".") + "."}
	})
}

// hasFixedIPs is the filter fixed_ips=ip_address=A or subnet_id=ID; several must all
// be met.
func hasFixedIPs(p *network.Port, wanted []string) (bool, error) {
	for _, w := range splitAll(wanted) {
		key, value, ok := strings.Cut(w, "=")
		var match func(network.FixedIP) bool
		switch key {
		case "ip_address":
			a, err := netip.ParseAddr(value)
			if err != nil {
				return false, openstack.BadRequest("Invalid input for fixed_ips. Reason: '%s' is not a valid IP address.", value)
			}
			match = func(f network.FixedIP) bool { return f.IP == a }
		case "ip_address_substr":
			match = func(f network.FixedIP) bool { return strings.Contains(f.IP.String(), value) }
		case "subnet_id", "subnet":
			match = func(f network.FixedIP) bool { return f.Subnet == value }
		}
		if !ok || match == nil {
			return false, openstack.BadRequest("Invalid input for fixed_ips: '%s'. Use ip_address=ADDRESS or subnet_id=ID.", w)
		}
		if !slices.ContainsFunc(p.FixedIPs, match) {
			return false, nil
		}
	}
	return true, nil
}

var (
	hostname = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)?$`)
	domain   = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.|$))*$`)
)

func aHostname[T any](at func(*T) *string) func(*T, any) error {
	return named(at, 63, hostname, "host name")
}

func aDomain[T any](at func(*T) *string) func(*T, any) error {
	return named(at, 255, domain, "domain name")
}

func named[T any](at func(*T) *string, most int, form *regexp.Regexp, what string) func(*T, any) error {
	return func(x *T, v any) error {
		s, ok := v.(string)
		if !ok || len(s) > most || !form.MatchString(s) {
			return reasonf("'%.64v' is not a valid %s", shown(v), what)
		}
		*at(x) = strings.ToLower(s)
		return nil
	}
}
