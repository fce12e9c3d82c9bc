package responder

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/cloudinit/metadata"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// names are what the DNS of a bridge tells. It implements dns.Records.
type names struct{ *bridge }

// Addresses are those of the ports with a name.
func (n names) Addresses(name string) (all []netip.Addr, ok bool) {
	for _, p := range n.ports(func(p network.Port) bool { return p.DNSName != "" && strings.EqualFold(p.DNSName, name) }) {
		ok = true
		for _, f := range p.FixedIPs {
			all = append(all, f.IP)
		}
	}
	return all, ok
}

// Name is that of the port with an address.
func (n names) Name(a netip.Addr) (string, bool) {
	ours := slices.ContainsFunc(n.at.Subnets, func(s network.Subnet) bool { return s.CIDR.Contains(a) })
	for _, p := range n.ports(func(p network.Port) bool { return has(p, a) }) {
		if p.DNSName != "" {
			return p.DNSName, true
		}
	}
	return "", ours
}

// has reports whether an address is one of a port's, or the link-local one that its
// MAC gives.
func has(p network.Port, a netip.Addr) bool {
	if slices.ContainsFunc(p.FixedIPs, func(f network.FixedIP) bool { return f.IP == a }) {
		return true
	}
	mac, err := net.ParseMAC(p.MAC)
	return err == nil && a == linkLocal(mac)
}

// linkLocal is the IPv6 address that an interface gives itself (RFC 4291).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// source is who asks for metadata on a bridge. It implements metadata.Source.
type source struct{ *bridge }

// server finds the one whose port has an address on this bridge.
func (s source) server(from netip.Addr) (launcher.Server, network.Port, error) {
	ports := s.ports(func(p network.Port) bool { return p.Owner == network.OwnerServer && p.Device != "" && has(p, from) })
	if len(ports) == 0 {
		return launcher.Server{}, network.Port{}, metadata.ErrUnknown
	}
	servers := s.servers.Load()
	if servers == nil {
		return launcher.Server{}, network.Port{}, metadata.ErrNotYet
	}
	srv, err := (*servers).Server(ports[0].Device)
	if errors.Is(err, launcher.ErrNotFound) {
		err = metadata.ErrUnknown
	}
	return srv, ports[0], err
}

// Instance implements metadata.Source.
func (s source) Instance(_ context.Context, from netip.Addr) (*metadata.Instance, error) {
	srv, port, err := s.server(from)
	if err != nil {
		return nil, err
	}
	seed, err := (*s.servers.Load()).Seed(srv.ID)
	if err != nil {
		return nil, err
	}
	networks := s.cfg.Networks()
	i := &metadata.Instance{
		Seed: *seed, ImageID: srv.ImageRef, Flavor: srv.Flavor.Name, Reservation: srv.Reservation, Password: srv.Password,
	}
	i.Seed.Network = networks.ConfigOf(srv.ID)
	for _, f := range port.FixedIPs {
		if f.IP.Is4() && !i.LocalIPv4.IsValid() {
			i.LocalIPv4 = f.IP
		}
	}
	for _, p := range networks.PortsOf(srv.ID) {
		for _, id := range p.SecurityGroups {
			if g, err := networks.Group(id); err == nil && !slices.Contains(i.SecurityGroups, g.Name) {
				i.SecurityGroups = append(i.SecurityGroups, g.Name)
			}
		}
		for _, f := range networks.FloatingIPs(func(f network.FloatingIP) bool { return f.Port == p.ID }) {
			i.PublicIPv4 = f.IP
		}
	}
	return i, nil
}

// SetPassword implements metadata.Source.
func (s source) SetPassword(ctx context.Context, from netip.Addr, password string) error {
	srv, _, err := s.server(from)
	if err != nil {
		return err
	}
	_, err = (*s.servers.Load()).Update(ctx, srv.ID, func(srv *launcher.Server) error {
		if srv.Password != "" {
			return metadata.ErrPasswordSet
		}
		srv.Password = password
		return nil
	})
	return err
}
