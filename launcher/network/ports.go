package network

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Ports returns the ports that pass, oldest first; nil passes all.
func (s *Service) Ports(pass func(Port) bool) []Port { return list(s, &s.ports, portBase, pass) }

// PortsOf returns a server's, in their order.
func (s *Service) PortsOf(device string) []Port {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.portsOf(device)
}

// portsOf is PortsOf under the caller's lock.
func (s *Service) portsOf(device string) []Port {
	all := sorted(&s.ports, portBase, func(p Port) bool { return p.Device == device && device != "" && p.Owner == OwnerServer })
	slices.SortStableFunc(all, func(a, b Port) int { return a.Index - b.Index })
	return all
}

// Port returns one by its ID.
func (s *Service) Port(id string) (Port, error) { return show(s, &s.ports, "Port", id) }

// has reports whether an address is one of the port's own.
func (p *Port) has(a netip.Addr) bool {
	return a.IsValid() && slices.ContainsFunc(p.FixedIPs, func(f FixedIP) bool { return f.IP == a })
}

// CreatePort makes a port in a network, with its addresses.
func (s *Service) CreatePort(ctx context.Context, p Port) (Port, error) {
	err := s.change(ctx, func(tx *records.Tx) error { return s.addPort(tx, &p) })
	return p, err
}

func (s *Service) addPort(tx *records.Tx, p *Port) error {
	if _, err := row(&s.networks, "Network", p.Network); err != nil {
		return err
	}
	if err := admit(s, "port", &s.ports, portBase, p.Project); err != nil {
		return err
	}
	id := p.ID
	s.begin(&p.Base)
	p.ID = cmp.Or(id, p.ID)
	p.Status, p.Tap = StatusDown, ""
	if p.MAC == "" {
		p.MAC = s.newMAC()
	}
	if err := s.checkGroups(p); err != nil {
		return err
	}
	if p.SecurityGroups == nil && !p.NoPortSecurity {
		group, err := s.defaultGroup(tx, p.Project)
		if err != nil {
			return err
		}
		p.SecurityGroups = []string{group}
	}
	if err := s.allocate(p); err != nil {
		return err
	}
	if err := s.checkPort(p); err != nil {
		return err
	}
	return records.Put(tx, &s.ports, p.ID, *p)
}

// checkGroups refuses security groups that are not there.
func (s *Service) checkGroups(p *Port) error {
	for _, id := range p.SecurityGroups {
		if _, err := row(&s.groups, "Security group", id); err != nil {
			return err
		}
	}
	return nil
}

// checkPort refuses what cannot be, and brings what may be written in several ways
// to one form.
func (s *Service) checkPort(p *Port) (err error) {
	if p.MAC, err = checkMAC(p.MAC); err != nil {
		return err
	}
	if other, taken := s.ports.Find(func(o Port) bool { return o.ID != p.ID && o.Network == p.Network && o.MAC == p.MAC }); taken {
		return conflict("Unable to complete operation for network %s. The mac address %s is in use by port %s.", p.Network, p.MAC, other.ID)
	}
	if p.NoPortSecurity && (len(p.SecurityGroups) > 0 || len(p.AddressPairs) > 0) {
		return conflict("Port security must be enabled and port must have an IP address in order to use security groups and address pairs.")
	}
	for i, pair := range p.AddressPairs {
		if !pair.IP.IsValid() {
			return invalid("Invalid input for allowed_address_pairs. Reason: an IP address is missing.")
		}
		if pair.MAC != "" {
			if pair.MAC, err = checkMAC(pair.MAC); err != nil {
				return err
			}
			p.AddressPairs = slices.Clone(p.AddressPairs)
			p.AddressPairs[i] = pair
		}
		if slices.Contains(p.AddressPairs[:i], pair) {
			return invalid("Request contains duplicate address pair: mac_address %s ip_address %s.", pair.MAC, pair.IP)
		}
	}
	return nil
}

// UpdatePort changes a port. Fixed IPs that are the same stay; of others the
// addresses are allocated anew.
func (s *Service) UpdatePort(ctx context.Context, id string, f func(*Port) error) (Port, error) {
	if s.remote() {
		return s.updateRemote(ctx, id, f)
	}
	var p Port
	err := s.change(ctx, func(tx *records.Tx) error {
		old, err := row(&s.ports, "Port", id)
		if err != nil {
			return err
		}
		p = old
		if err := f(&p); err != nil {
			return err
		}
		return s.putPort(tx, old, &p)
	})
	return p, err
}

// putPort puts a port in the place of what it was.
func (s *Service) putPort(tx *records.Tx, old Port, p *Port) error {
	s.touch(&p.Base, old.Base)
	p.Network = old.Network
	if !slices.Equal(p.FixedIPs, old.FixedIPs) {
		if err := s.allocate(p); err != nil {
			return err
		}
	}
	if old.Tap != "" && p.MAC != old.MAC {
		return conflict("Unable to complete operation on port %s, port is already bound, port type: bridge, old_mac %s, new_mac %s.", p.ID, old.MAC, p.MAC)
	}
	if err := s.checkGroups(p); err != nil {
		return err
	}
	if err := s.checkPort(p); err != nil {
		return err
	}
	for _, fip := range s.floating.Rows {
		if fip.Port == p.ID && !p.has(fip.Fixed) {
			fip.Port, fip.Fixed, fip.Status = "", netip.Addr{}, StatusDown
			if err := records.Put(tx, &s.floating, fip.ID, fip); err != nil {
				return err
			}
		}
	}
	return records.Put(tx, &s.ports, p.ID, *p)
}

// DeletePort removes a port and lets its addresses go.
func (s *Service) DeletePort(ctx context.Context, id string) error {
	return s.change(ctx, func(tx *records.Tx) error {
		p, err := row(&s.ports, "Port", id)
		if err != nil {
			return err
		}
		if strings.HasPrefix(p.Owner, "network:") {
			return conflict("Port %s cannot be deleted directly via the port API: has device owner %s.", id, p.Owner)
		}
		return s.dropPort(tx, p)
	})
}

// dropPort removes a port, whoever owns it.
func (s *Service) dropPort(tx *records.Tx, p Port) error {
	for _, fip := range s.floating.Rows {
		if fip.Port != p.ID {
			continue
		}
		fip.Port, fip.Fixed, fip.Status = "", netip.Addr{}, StatusDown
		if err := records.Put(tx, &s.floating, fip.ID, fip); err != nil {
			return err
		}
	}
	records.Drop(tx, &s.ports, p.ID)
	return nil
}
