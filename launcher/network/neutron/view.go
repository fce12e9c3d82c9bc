package neutron

import (
	"fmt"
	"net/netip"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/slipway-vm/slipway/launcher/network"
)

func viewSubnet(s *subnets.Subnet) (_ network.Subnet, err error) {
	v := network.Subnet{
		Base:    network.Base{ID: s.ID, Project: s.ProjectID, Name: s.Name, Description: s.Description, Tags: s.Tags, Created: s.CreatedAt, Updated: s.UpdatedAt, Revision: s.RevisionNumber},
		Network: s.NetworkID, NoGateway: s.GatewayIP == "", NoDHCP: !s.EnableDHCP, AddressMode: s.IPv6AddressMode, RAMode: s.IPv6RAMode,
	}
	parse := func(text string) netip.Addr {
		a, perr := netip.ParseAddr(text)
		if perr != nil && err == nil {
			err = fmt.Errorf("subnet %s: %w", s.ID, perr)
		}
		return a
	}
	prefix := func(text string) netip.Prefix {
		p, perr := netip.ParsePrefix(text)
		if perr != nil && err == nil {
			err = fmt.Errorf("subnet %s: %w", s.ID, perr)
		}
		return p
	}
	v.CIDR = prefix(s.CIDR)
	if !v.NoGateway {
		v.Gateway = parse(s.GatewayIP)
	}
	for _, p := range s.AllocationPools {
		v.Pools = append(v.Pools, network.Range{Start: parse(p.Start), End: parse(p.End)})
	}
	for _, n := range s.DNSNameservers {
		v.Nameservers = append(v.Nameservers, parse(n))
	}
	for _, r := range s.HostRoutes {
		v.Routes = append(v.Routes, network.Route{Destination: prefix(r.DestinationCIDR), NextHop: parse(r.NextHop)})
	}
	return v, err
}

func viewRule(r *rules.SecGroupRule) (network.Rule, error) {
	v := network.Rule{
		Base:  network.Base{ID: r.ID, Project: r.ProjectID, Description: r.Description, Created: r.CreatedAt, Updated: r.UpdatedAt, Revision: r.RevisionNumber},
		Group: r.SecGroupID, Direction: network.Direction(r.Direction), EtherType: r.EtherType, Protocol: r.Protocol, RemoteGroup: r.RemoteGroupID,
	}
	if r.PortRangeMin != 0 || r.PortRangeMax != 0 {
		v.Min, v.Max = &r.PortRangeMin, &r.PortRangeMax
	}
	if r.RemoteIPPrefix != "" {
		p, err := netip.ParsePrefix(r.RemoteIPPrefix)
		if err != nil {
			return v, fmt.Errorf("security group rule %s: %w", r.ID, err)
		}
		v.RemotePrefix = p
	}
	return v, nil
}
