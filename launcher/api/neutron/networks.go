package neutron

import (
	"context"
	"net/netip"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

func networkBase(n *network.Network) *network.Base { return &n.Base }

func (a *api) networks() *resource[network.Network] {
	type N = network.Network
	zones := func(*N) any { return []any{zone} }
	x := &resource[N]{
		name: "network", plural: "networks", title: "Network", base: networkBase,
		all: func() []N { return a.net.Networks(nil) }, find: a.net.Network,
		sees:   func(_ *openstack.Caller, n *N) bool { return n.Shared || n.External },
		create: a.net.CreateNetwork, update: a.net.UpdateNetwork, remove: a.net.DeleteNetwork,
		before: a.shareDefaults,
	}
	x.attributes = append(common(a, networkBase),
		attribute[N]{name: "admin_state_up", when: anyWrite, show: func(n *N) any { return !n.Down }, set: anInverse(func(n *N) *bool { return &n.Down })},
		attribute[N]{name: "status", show: fixed[N]("ACTIVE")},
		attribute[N]{name: "subnets", show: func(n *N) any {
			return list(a.net.SubnetsOf(n.ID), func(s network.Subnet) any { return s.ID })
		}},
		attribute[N]{name: "shared", when: anyWrite, adminSets: true, show: func(n *N) any { return n.Shared }, set: aBoolean(func(n *N) *bool { return &n.Shared })},
		attribute[N]{name: "router:external", when: anyWrite, adminSets: true, show: func(n *N) any { return n.External }, set: aBoolean(func(n *N) *bool { return &n.External })},
		attribute[N]{name: "is_default", when: anyWrite, adminSets: true, show: func(n *N) any { return n.Default }, set: aBoolean(func(n *N) *bool { return &n.Default })},
		attribute[N]{name: "mtu", when: anyWrite, show: func(n *N) any { return n.MTU }, set: func(n *N, v any) (err error) {
			n.MTU, err = integer(v)
			return err
		}},
		attribute[N]{name: "port_security_enabled", when: anyWrite, show: func(n *N) any { return !n.NoPortSecurity }, set: anInverse(func(n *N) *bool { return &n.NoPortSecurity })},
		attribute[N]{name: "dns_domain", when: anyWrite, show: func(n *N) any { return n.DNSDomain }, set: aDomain(func(n *N) *string { return &n.DNSDomain })},
		attribute[N]{name: "availability_zone_hints", when: post, show: fixed[N]([]any{}), set: ignored[N]()},
		attribute[N]{name: "availability_zones", show: zones},
		attribute[N]{name: "ipv4_address_scope", show: fixed[N](nil)},
		attribute[N]{name: "ipv6_address_scope", show: fixed[N](nil)},
		attribute[N]{name: "l2_adjacency", show: fixed[N](true)},
		// What the bridge of this one host is in Neutron's words.
		attribute[N]{name: "provider:network_type", when: post, adminOnly: true, show: fixed[N]("local"), set: ignored[N]("local")},
		attribute[N]{name: "provider:physical_network", when: post, adminOnly: true, show: fixed[N](nil), set: ignored[N]()},
		attribute[N]{name: "provider:segmentation_id", when: post, adminOnly: true, show: fixed[N](nil), set: ignored[N]()},
	)
	return x
}

// shareDefaults makes what every project finds: the default network.
func (a *api) shareDefaults(ctx context.Context, _ string) error {
	_, err := a.net.DefaultNetwork(ctx)
	return err
}

func subnetBase(s *network.Subnet) *network.Base { return &s.Base }

func (a *api) subnets() *resource[network.Subnet] {
	type S = network.Subnet
	x := &resource[S]{
		name: "subnet", plural: "subnets", title: "Subnet", base: subnetBase, required: []string{"network_id"},
		all: func() []S { return a.net.Subnets(nil) }, find: a.net.Subnet,
		sees: func(_ *openstack.Caller, s *S) bool {
			n, err := a.net.Network(s.Network)
			return err == nil && (n.Shared || n.External)
		},
		create: a.net.CreateSubnet, update: a.net.UpdateSubnet, remove: a.net.DeleteSubnet,
		check: a.checkSubnet,
	}
	x.attributes = append(common(a, subnetBase),
		attribute[S]{name: "network_id", when: post, show: func(s *S) any { return s.Network }, set: anID(func(s *S) *string { return &s.Network })},
		attribute[S]{name: "cidr", when: post, show: func(s *S) any { return s.CIDR.String() }, set: func(s *S, v any) (err error) {
			s.CIDR, err = prefix(v, false)
			return err
		}},
		attribute[S]{name: "ip_version", when: post, show: func(s *S) any { return s.Version() }, set: func(s *S, v any) error {
			n, err := integer(v)
			if err == nil && n != 4 && n != 6 {
				err = reasonf("'%v' is not in [4, 6]", v)
			}
			return err
		}},
		attribute[S]{name: "gateway_ip", when: anyWrite, show: func(s *S) any { return orNull(s.Gateway) }, set: func(s *S, v any) (err error) {
			s.Gateway, s.NoGateway = netip.Addr{}, v == nil
			if v != nil {
				s.Gateway, err = address(v)
			}
			return err
		}},
		attribute[S]{name: "allocation_pools", when: anyWrite, show: func(s *S) any { return list(s.Pools, showRange) }, set: func(s *S, v any) error {
			s.Pools = []network.Range{}
			return each(v, func(one any) error {
				r, err := readRange(one)
				s.Pools = append(s.Pools, r)
				return err
			})
		}},
		attribute[S]{name: "dns_nameservers", when: anyWrite, show: func(s *S) any { return list(s.Nameservers, orNull) }, set: setNameservers},
		attribute[S]{name: "host_routes", when: anyWrite, show: func(s *S) any { return list(s.Routes, showRoute) }, set: setRoutes},
		attribute[S]{name: "enable_dhcp", when: anyWrite, show: func(s *S) any { return !s.NoDHCP }, set: anInverse(func(s *S) *bool { return &s.NoDHCP })},
		attribute[S]{name: "ipv6_address_mode", when: post, show: func(s *S) any { return textOrNull(s.AddressMode) }, set: oneOf(func(s *S) *string { return &s.AddressMode }, modes...)},
		attribute[S]{name: "ipv6_ra_mode", when: post, show: func(s *S) any { return textOrNull(s.RAMode) }, set: oneOf(func(s *S) *string { return &s.RAMode }, modes...)},
		attribute[S]{name: "subnetpool_id", when: post, show: fixed[S](nil), set: ignored[S]()},
		attribute[S]{name: "use_default_subnetpool", when: post, set: ignored[S](false)},
		attribute[S]{name: "prefixlen", when: post, set: ignored[S]()},
		attribute[S]{name: "segment_id", when: anyWrite, show: fixed[S](nil), set: ignored[S]()},
		attribute[S]{name: "service_types", when: anyWrite, show: fixed[S]([]any{}), set: ignored[S]()},
	)
	return x
}

var modes = []string{"dhcpv6-stateful", "dhcpv6-stateless", "slaac"}

// checkSubnet refuses what the attributes cannot tell one by one. Only who owns a
// network gives it subnets.
func (a *api) checkSubnet(c *openstack.Caller, s *network.Subnet, b view) error {
	n, err := a.net.Network(s.Network)
	if err != nil || !a.owns(c, &n.Base) && !n.Shared && !n.External {
		return a.networks().missing(s.Network)
	}
	if !a.owns(c, &n.Base) {
		return disallowed("create_subnet")
	}
	if _, given := b["network_id"]; !given {
		return nil // of an update
	}
	if !s.CIDR.IsValid() {
		return openstack.BadRequest("Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	if v, given := b["ip_version"]; given {
		if n, _ := integer(v); n != s.Version() {
			return faultOf(openstack.BadRequest("Invalid input for operation: cidr %s is not of IP version %d.", s.CIDR, n))
		}
	}
	if s.Gateway.IsValid() && s.Gateway.Is4() != s.CIDR.Addr().Is4() {
		return faultOf(openstack.BadRequest("Invalid input for operation: gateway_ip '%s' does not match the ip_version '%d'.", s.Gateway, s.Version()))
	}
	return nil
}

func showRange(r network.Range) any {
	return view{"start": r.Start.String(), "end": r.End.String()}
}

func readRange(v any) (r network.Range, err error) {
	m, err := members(v, "start", "end")
	if err != nil {
		return r, err
	}
	if r.Start, err = address(m["start"]); err != nil {
		return r, err
	}
	r.End, err = address(m["end"])
	return r, err
}

func showRoute(r network.Route) any {
	return view{"destination": r.Destination.String(), "nexthop": r.NextHop.String()}
}

// setRoutes and setNameservers make new slices: those of records are shared.
func setRoutes(s *network.Subnet, v any) error {
	s.Routes = nil
	if v == nil {
		return nil
	}
	return each(v, func(one any) error {
		m, err := members(one, "destination", "nexthop")
		if err != nil {
			return err
		}
		var r network.Route
		if r.Destination, err = prefix(m["destination"], false); err != nil {
			return err
		}
		r.NextHop, err = address(m["nexthop"])
		s.Routes = append(s.Routes, r)
		return err
	})
}

func setNameservers(s *network.Subnet, v any) error {
	s.Nameservers = nil
	if v == nil {
		return nil
	}
	return each(v, func(one any) error {
		a, err := address(one)
		s.Nameservers = append(s.Nameservers, a)
		return err
	})
}
