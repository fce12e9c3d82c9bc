package network

import (
	"crypto/rand"
	"net"
	"net/netip"
	"slices"

	"go4.org/netipx"
)

// usable reports whether an address of the subnet's CIDR may be a host's: neither
// the network's nor the broadcast address.
func (s *Subnet) usable(a netip.Addr) bool {
	return a != s.CIDR.Addr() && (s.Version() == 6 || a != netipx.PrefixLastIP(s.CIDR))
}

// pools are what a subnet allocates from that does not say: all but its gateway.
func pools(s Subnet) []Range {
	first, last := s.CIDR.Addr().Next(), netipx.PrefixLastIP(s.CIDR)
	if s.Version() == 4 {
		last = last.Prev()
	}
	if s.NoGateway || s.Gateway.Less(first) || last.Less(s.Gateway) {
		return []Range{{first, last}}
	}
	all := []Range{}
	if first.Less(s.Gateway) {
		all = append(all, Range{first, s.Gateway.Prev()})
	}
	if s.Gateway.Less(last) {
		all = append(all, Range{s.Gateway.Next(), last})
	}
	return all
}

// taken returns the addresses of a network's ports but one's, and its gateways.
func (s *Service) taken(network, but string) map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, p := range s.ports.Rows {
		if p.Network != network || p.ID == but {
			continue
		}
		for _, f := range p.FixedIPs {
			taken[f.IP] = true
		}
	}
	for _, sub := range s.subnets.Rows {
		if sub.Network == network && sub.Gateway.IsValid() {
			taken[sub.Gateway] = true
		}
	}
	return taken
}

// allocate decides a port's fixed IPs by what it asks for.
func (s *Service) allocate(p *Port) error {
	subnets := sorted(&s.subnets, subnetBase, func(sub Subnet) bool { return sub.Network == p.Network })
	asked := p.FixedIPs
	if asked == nil {
		asked = oneOfEach(subnets)
	}
	taken := s.taken(p.Network, p.ID)
	p.FixedIPs = []FixedIP{}
	for _, f := range asked {
		sub, err := subnetFor(subnets, f, p.Network)
		if err != nil {
			return err
		}
		switch {
		case f.IP.IsValid() && (!sub.CIDR.Contains(f.IP) || !sub.usable(f.IP)):
			return invalid("IP address %s is not a valid IP for the specified subnet.", f.IP)
		case f.IP.IsValid() && taken[f.IP]:
			return conflict("IP address %s already allocated in subnet %s", f.IP, sub.ID)
		case !f.IP.IsValid():
			if f.IP = sub.free(taken); !f.IP.IsValid() {
				return conflict("No more IP addresses available on network %s.", p.Network)
			}
		}
		taken[f.IP] = true
		p.FixedIPs = append(p.FixedIPs, FixedIP{sub.ID, f.IP})
	}
	return nil
}

// oneOfEach asks for an address of the first subnet of each version.
func oneOfEach(subnets []Subnet) []FixedIP {
	var asked []FixedIP
	for _, version := range []int{4, 6} {
		if i := slices.IndexFunc(subnets, func(s Subnet) bool { return s.Version() == version }); i >= 0 {
			asked = append(asked, FixedIP{Subnet: subnets[i].ID})
		}
	}
	return asked
}

// subnetFor finds the subnet of a requested address.
func subnetFor(subnets []Subnet, f FixedIP, network string) (Subnet, error) {
	i := slices.IndexFunc(subnets, func(s Subnet) bool {
		return s.ID == f.Subnet || f.Subnet == "" && f.IP.IsValid() && s.CIDR.Contains(f.IP)
	})
	switch {
	case i >= 0:
		return subnets[i], nil
	case f.Subnet != "":
		return Subnet{}, invalid("Invalid input for operation: Failed to create port on network %s, because fixed_ips included invalid subnet %s.", network, f.Subnet)
	case f.IP.IsValid():
		return Subnet{}, invalid("Invalid input for operation: IP address %s is not a valid IP for any of the subnets on the specified network.", f.IP)
	}
	return Subnet{}, invalid("Invalid input for operation: IP allocation requires subnet_id or ip_address.")
}

// free returns the first address of the pools that is not taken, or none.
func (s *Subnet) free(taken map[netip.Addr]bool) netip.Addr {
	for _, pool := range s.Pools {
		for a := pool.Start; pool.Contains(a); a = a.Next() {
			if !taken[a] && s.usable(a) {
				return a
			}
		}
	}
	return netip.Addr{}
}

// newMAC makes up a MAC that no port has: locally administered, as Neutron's.
func (s *Service) newMAC() string {
	for {
		mac := net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 0}
		_, _ = rand.Read(mac[3:]) // it never fails
		if _, taken := s.ports.Find(func(p Port) bool { return p.MAC == mac.String() }); !taken {
			return mac.String()
		}
	}
}

// checkMAC brings a requested MAC to its usual form.
func checkMAC(mac string) (string, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 || hw[0]&1 != 0 || hw.String() == "00:00:00:00:00:00" {
		return "", invalid("Invalid input for mac_address. Reason: '%s' is not a valid MAC address.", mac)
	}
	return hw.String(), nil
}
