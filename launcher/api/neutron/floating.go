package neutron

import (
	"net/netip"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

func floatingBase(f *network.FloatingIP) *network.Base { return &f.Base }

func (a *api) floatingIPs() *resource[network.FloatingIP] {
	type F = network.FloatingIP
	x := &resource[F]{
		name: "floatingip", plural: "floatingips", title: "Floating IP", base: floatingBase, required: []string{"floating_network_id"},
		all: func() []F { return a.net.FloatingIPs(nil) }, find: a.net.FloatingIP,
		create: a.net.CreateFloatingIP, update: a.net.UpdateFloatingIP, remove: a.net.DeleteFloatingIP, check: a.checkFloatingIP,
	}
	for _, at := range common(a, floatingBase) {
		if at.name != "name" { // they have none
			x.attributes = append(x.attributes, at)
		}
	}
	x.attributes = append(x.attributes,
		attribute[F]{name: "floating_network_id", when: post, show: func(f *F) any { return f.Network }, set: anID(func(f *F) *string { return &f.Network })},
		attribute[F]{name: "subnet_id", when: post, set: anOptionalID(func(f *F) *string { return &f.Subnet })},
		attribute[F]{name: "floating_ip_address", when: post, show: func(f *F) any { return orNull(f.IP) }, set: anAddress(func(f *F) *netip.Addr { return &f.IP })},
		attribute[F]{name: "port_id", when: anyWrite, show: func(f *F) any { return textOrNull(f.Port) }, set: anOptionalID(func(f *F) *string { return &f.Port })},
		attribute[F]{name: "fixed_ip_address", when: anyWrite, show: func(f *F) any { return orNull(f.Fixed) }, set: anAddress(func(f *F) *netip.Addr { return &f.Fixed })},
		attribute[F]{name: "router_id", show: func(f *F) any { return textOrNull(f.Router) }},
		attribute[F]{name: "status", show: func(f *F) any { return string(f.Status) }},
		attribute[F]{name: "dns_name", when: post, show: func(f *F) any { return f.DNSName }, set: aHostname(func(f *F) *string { return &f.DNSName })},
		attribute[F]{name: "dns_domain", when: post, show: func(f *F) any { return f.DNSDomain }, set: aDomain(func(f *F) *string { return &f.DNSDomain })},
		attribute[F]{name: "port_details", show: a.showPort},
	)
	return x
}

// checkFloatingIP refuses networks and ports that are not the caller's to use.
func (a *api) checkFloatingIP(c *openstack.Caller, f *network.FloatingIP, _ view) error {
	n, err := a.net.Network(f.Network)
	if err != nil || !n.External && !n.Shared && !a.owns(c, &n.Base) {
		return a.networks().missing(f.Network)
	}
	if f.Port == "" {
		return nil
	}
	p, err := a.net.Port(f.Port)
	if err != nil || !a.owns(c, &p.Base) {
		return a.ports().missing(f.Port)
	}
	return nil
}

// showPort is what the owner of a floating IP is told of its port.
func (a *api) showPort(f *network.FloatingIP) any {
	p, err := a.net.Port(f.Port)
	if err != nil {
		return nil
	}
	return view{
		"name": p.Name, "network_id": p.Network, "mac_address": p.MAC, "admin_state_up": !p.Down,
		"status": string(p.Status), "device_id": p.Device, "device_owner": p.Owner,
	}
}

// anAddress is an IP address or null.
func anAddress[T any](at func(*T) *netip.Addr) func(*T, any) error {
	return func(x *T, v any) (err error) {
		*at(x) = netip.Addr{}
		if v != nil {
			*at(x), err = address(v)
		}
		return err
	}
}
