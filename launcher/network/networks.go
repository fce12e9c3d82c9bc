package network

import (
	"context"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Networks returns the networks that pass, oldest first; nil passes all.
func (s *Service) Networks(pass func(Network) bool) []Network {
	return list(s, &s.networks, networkBase, pass)
}

// Network returns one by its ID.
func (s *Service) Network(id string) (Network, error) { return show(s, &s.networks, "Network", id) }

// CreateNetwork makes a network, which has no subnets yet.
func (s *Service) CreateNetwork(ctx context.Context, n Network) (Network, error) {
	err := s.change(ctx, func(tx *records.Tx) error {
		if err := admit(s, "network", &s.networks, networkBase, n.Project); err != nil {
			return err
		}
		return s.addNetwork(tx, &n)
	})
	return n, err
}

func (s *Service) addNetwork(tx *records.Tx, n *Network) error {
	s.begin(&n.Base)
	n.Bridge = s.interfaceName("sb", n.ID)
	if n.MTU == 0 {
		n.MTU = DefaultMTU
	}
	if err := s.checkNetwork(*n); err != nil {
		return err
	}
	return records.Put(tx, &s.networks, n.ID, *n)
}

// interfaceName makes the name of an interface of the host's for a record. It has
// 15 characters, the most there may be.
func (s *Service) interfaceName(prefix, id string) string {
	return prefix + (s.cfg.Identity + "00000")[:5] + strings.ReplaceAll(id, "-", "")[:8]
}

func (s *Service) checkNetwork(n Network) error {
	least := minMTU
	for _, sub := range s.subnets.Rows {
		if sub.Network == n.ID && sub.Version() == 6 {
			least = minMTU6
		}
	}
	if n.MTU < least || n.MTU > maxMTU {
		return invalid("Invalid input for mtu. Reason: '%d' is not in the range %d to %d.", n.MTU, least, maxMTU)
	}
	if other, taken := s.networks.Find(func(o Network) bool { return o.ID != n.ID && o.Default && n.Default }); taken {
		return conflict("A default network already exists: %s.", other.ID)
	}
	return nil
}

// UpdateNetwork changes a network.
func (s *Service) UpdateNetwork(ctx context.Context, id string, f func(*Network) error) (Network, error) {
	var n Network
	err := s.change(ctx, func(tx *records.Tx) error {
		old, err := row(&s.networks, "Network", id)
		if err != nil {
			return err
		}
		n = old
		if err := f(&n); err != nil {
			return err
		}
		s.touch(&n.Base, old.Base)
		n.Bridge = old.Bridge
		if err := s.checkNetwork(n); err != nil {
			return err
		}
		return records.Put(tx, &s.networks, id, n)
	})
	return n, err
}

// DeleteNetwork removes a network that has no ports, and its subnets.
func (s *Service) DeleteNetwork(ctx context.Context, id string) error {
	if s.remote() {
		return refused("networks")
	}
	return s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.networks, "Network", id); err != nil {
			return err
		}
		if _, used := s.ports.Find(func(p Port) bool { return p.Network == id }); used {
			return conflict("Unable to complete operation on network %s. There are one or more ports still in use on the network.", id)
		}
		records.DropAll(tx, &s.subnets, func(sub Subnet) bool { return sub.Network == id })
		records.Drop(tx, &s.networks, id)
		return nil
	})
}

// Subnets returns the subnets that pass, oldest first; nil passes all.
func (s *Service) Subnets(pass func(Subnet) bool) []Subnet {
	return list(s, &s.subnets, subnetBase, pass)
}

// SubnetsOf returns a network's.
func (s *Service) SubnetsOf(network string) []Subnet {
	return s.Subnets(func(sub Subnet) bool { return sub.Network == network })
}

// Subnet returns one by its ID.
func (s *Service) Subnet(id string) (Subnet, error) { return show(s, &s.subnets, "Subnet", id) }

// CreateSubnet gives a network addresses.
func (s *Service) CreateSubnet(ctx context.Context, sub Subnet) (Subnet, error) {
	err := s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.networks, "Network", sub.Network); err != nil {
			return err
		}
		if err := admit(s, "subnet", &s.subnets, subnetBase, sub.Project); err != nil {
			return err
		}
		return s.addSubnet(tx, &sub)
	})
	return sub, err
}

func (s *Service) addSubnet(tx *records.Tx, sub *Subnet) error {
	s.begin(&sub.Base)
	sub.CIDR = sub.CIDR.Masked()
	if err := s.checkCIDR(*sub); err != nil {
		return err
	}
	if !sub.Gateway.IsValid() && !sub.NoGateway {
		sub.Gateway = sub.CIDR.Addr().Next()
	}
	if sub.Pools == nil {
		sub.Pools = pools(*sub)
	}
	if err := sub.check(); err != nil {
		return err
	}
	return records.Put(tx, &s.subnets, sub.ID, *sub)
}

// checkCIDR refuses what overlaps: the host has one table of routes for all.
func (s *Service) checkCIDR(sub Subnet) error {
	cidr := sub.CIDR
	if !cidr.IsValid() || cidr.Addr().Is4In6() || cidr.Addr().Zone() != "" {
		return invalid("Invalid input for cidr. Reason: it is not an IP subnet.")
	}
	if most := cidr.Addr().BitLen() - 2; cidr.Bits() > most || cidr.Bits() == 0 {
		return invalid("Invalid input for operation: the subnet %s has no room for a gateway and servers: its prefix may have 1 to %d bits.", cidr, most)
	}
	if a := cidr.Addr(); a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
		return invalid("Invalid input for operation: %s is not for servers: it is a loopback, link-local or multicast range.", cidr)
	}
	if other, taken := s.subnets.Find(func(o Subnet) bool { return o.ID != sub.ID && o.CIDR.Overlaps(cidr) }); taken {
		return invalid("Invalid input for operation: Requested subnet with cidr: %s for network: %s overlaps with another subnet: %s.", cidr, sub.Network, other.ID)
	}
	return nil
}

// check refuses a gateway, pools and routes that do not fit the subnet's CIDR.
func (s *Subnet) check() error {
	if s.NoGateway != !s.Gateway.IsValid() {
		return invalid("Invalid input for gateway_ip.")
	}
	if !s.NoGateway && (!s.CIDR.Contains(s.Gateway) || !s.usable(s.Gateway)) {
		return invalid("Invalid input for operation: Gateway is not valid on subnet.")
	}
	pools := slices.Clone(s.Pools)
	slices.SortFunc(pools, func(a, b Range) int { return a.Start.Compare(b.Start) })
	for i, p := range pools {
		switch {
		case !s.CIDR.Contains(p.Start) || !s.CIDR.Contains(p.End):
			return invalid("The allocation pool %s spans beyond the subnet cidr %s.", p, s.CIDR)
		case p.End.Less(p.Start):
			return invalid("The allocation pool %s is not valid.", p)
		case i > 0 && !pools[i-1].End.Less(p.Start):
			return conflict("Found overlapping allocation pools: %s, %s for subnet %s.", pools[i-1], p, s.CIDR)
		case !s.NoGateway && p.Contains(s.Gateway):
			return conflict("Gateway ip %s conflicts with allocation pool %s.", s.Gateway, p)
		}
	}
	for _, r := range s.Routes {
		if !r.Destination.IsValid() || r.Destination.Addr().Is4() != s.CIDR.Addr().Is4() || r.NextHop.Is4() != s.CIDR.Addr().Is4() {
			return invalid("Invalid input for host_routes. Reason: %s via %s is no route of IPv%d.", r.Destination, r.NextHop, s.Version())
		}
	}
	return nil
}

// UpdateSubnet changes a subnet; its CIDR and its network stay.
func (s *Service) UpdateSubnet(ctx context.Context, id string, f func(*Subnet) error) (Subnet, error) {
	var sub Subnet
	err := s.change(ctx, func(tx *records.Tx) error {
		old, err := row(&s.subnets, "Subnet", id)
		if err != nil {
			return err
		}
		sub = old
		if err := f(&sub); err != nil {
			return err
		}
		s.touch(&sub.Base, old.Base)
		sub.CIDR, sub.Network = old.CIDR, old.Network
		if err := sub.check(); err != nil {
			return err
		}
		if p, used := s.ports.Find(func(p Port) bool { return p.has(sub.Gateway) }); used {
			return conflict("Current gateway ip %s already in use by port %s. Unable to update.", sub.Gateway, p.ID)
		}
		return records.Put(tx, &s.subnets, id, sub)
	})
	return sub, err
}

// DeleteSubnet removes a subnet that no port has an address of.
func (s *Service) DeleteSubnet(ctx context.Context, id string) error {
	return s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.subnets, "Subnet", id); err != nil {
			return err
		}
		if _, used := s.ports.Find(func(p Port) bool {
			return slices.ContainsFunc(p.FixedIPs, func(f FixedIP) bool { return f.Subnet == id })
		}); used {
			return conflict("Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", id)
		}
		records.Drop(tx, &s.subnets, id)
		return nil
	})
}
