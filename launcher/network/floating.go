package network

import (
	"context"
	"net/netip"
	"slices"

	"github.com/slipway-vm/slipway/launcher/records"
)

// FloatingIPs returns the floating IPs that pass, oldest first; nil passes all.
func (s *Service) FloatingIPs(pass func(FloatingIP) bool) []FloatingIP {
	return list(s, &s.floating, floatingBase, pass)
}

// FloatingIP returns one by its ID.
func (s *Service) FloatingIP(id string) (FloatingIP, error) {
	return show(s, &s.floating, "Floating IP", id)
}

// CreateFloatingIP takes an address of an external network, and associates it where
// a port is given.
func (s *Service) CreateFloatingIP(ctx context.Context, f FloatingIP) (FloatingIP, error) {
	if s.remote() {
		return f, refused("floating IPs")
	}
	err := s.change(ctx, func(tx *records.Tx) error {
		n, err := row(&s.networks, "Network", f.Network)
		if err != nil {
			return err
		}
		if !n.External {
			return invalid("Bad floatingip request: Network %s is not a valid external network.", f.Network)
		}
		if err := admit(s, "floatingip", &s.floating, floatingBase, f.Project); err != nil {
			return err
		}
		s.begin(&f.Base)
		own := Port{Network: f.Network, Owner: OwnerFloatingIP, Device: f.ID, SecurityGroups: []string{}}
		if f.IP.IsValid() || f.Subnet != "" {
			own.FixedIPs = []FixedIP{{Subnet: f.Subnet, IP: f.IP}}
		} else if own.FixedIPs, err = s.anyIPv4(f.Network); err != nil {
			return err
		}
		if err := s.addPort(tx, &own); err != nil {
			return err
		}
		f.IP, f.Subnet, f.OwnPort = own.FixedIPs[0].IP, own.FixedIPs[0].Subnet, own.ID
		if err := s.associate(&f); err != nil {
			return err
		}
		return records.Put(tx, &s.floating, f.ID, f)
	})
	return f, err
}

// anyIPv4 asks for an address of a network's first IPv4 subnet that has one.
func (s *Service) anyIPv4(network string) ([]FixedIP, error) {
	taken := s.taken(network, "")
	for _, sub := range sorted(&s.subnets, subnetBase, func(sub Subnet) bool { return sub.Network == network && sub.Version() == 4 }) {
		if ip := sub.free(taken); ip.IsValid() {
			return []FixedIP{{sub.ID, ip}}, nil
		}
	}
	return nil, conflict("No more IP addresses available on network %s.", network)
}

// associate decides which fixed IP of its port a floating IP stands for.
func (s *Service) associate(f *FloatingIP) error {
	if f.Port == "" {
		f.Fixed, f.Status = netip.Addr{}, StatusDown
		return nil
	}
	p, err := row(&s.ports, "Port", f.Port)
	if err != nil {
		return err
	}
	if !f.Fixed.IsValid() {
		i := slices.IndexFunc(p.FixedIPs, func(x FixedIP) bool { return x.IP.Is4() })
		if i < 0 {
			return invalid("Bad floatingip request: Cannot add floating IP to port %s that has no fixed IPv4 addresses.", p.ID)
		}
		f.Fixed = p.FixedIPs[i].IP
	}
	if !p.has(f.Fixed) {
		return invalid("Bad floatingip request: Port %s does not have fixed ip %s.", p.ID, f.Fixed)
	}
	if o, taken := s.floating.Find(func(o FloatingIP) bool { return o.ID != f.ID && o.Port == p.ID && o.Fixed == f.Fixed }); taken {
		return conflict("Cannot associate floating IP %s (%s) with port %s using fixed IP %s, as that fixed IP already has a floating IP (%s) on external network %s.", f.IP, f.ID, p.ID, f.Fixed, o.IP, o.Network)
	}
	f.Status = StatusActive
	return nil
}

// UpdateFloatingIP changes a floating IP, which is associated or let go by its Port.
// Where a Port is new, Fixed is chosen unless it is changed, too.
func (s *Service) UpdateFloatingIP(ctx context.Context, id string, change func(*FloatingIP) error) (FloatingIP, error) {
	var f FloatingIP
	err := s.change(ctx, func(tx *records.Tx) error {
		old, err := row(&s.floating, "Floating IP", id)
		if err != nil {
			return err
		}
		f = old
		if err := change(&f); err != nil {
			return err
		}
		s.touch(&f.Base, old.Base)
		f.IP, f.Network, f.Subnet, f.OwnPort = old.IP, old.Network, old.Subnet, old.OwnPort
		if f.Port != old.Port && f.Fixed == old.Fixed {
			f.Fixed = netip.Addr{}
		}
		if err := s.associate(&f); err != nil {
			return err
		}
		return records.Put(tx, &s.floating, id, f)
	})
	return f, err
}

// DeleteFloatingIP gives an address back.
func (s *Service) DeleteFloatingIP(ctx context.Context, id string) error {
	return s.change(ctx, func(tx *records.Tx) error {
		f, err := row(&s.floating, "Floating IP", id)
		if err != nil {
			return err
		}
		records.Drop(tx, &s.ports, f.OwnPort)
		records.Drop(tx, &s.floating, id)
		return nil
	})
}
