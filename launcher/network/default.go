package network

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// DefaultNetwork returns the network of servers that name none. It is made where it
// is not there: shared, with addresses that the host reaches nothing else by.
func (s *Service) DefaultNetwork(ctx context.Context) (Network, error) {
	if s.remote() {
		return Network{}, refused("default networks")
	}
	if all := s.Networks(func(n Network) bool { return n.Default }); len(all) > 0 {
		return all[0], nil
	}
	used, err := s.hostPrefixes()
	if err != nil {
		return Network{}, err
	}
	n := Network{Base: Base{Name: DefaultName}, Default: true, Shared: true}
	err = s.change(ctx, func(tx *records.Tx) error {
		if there, ok := s.networks.Find(func(n Network) bool { return n.Default }); ok {
			n = there // made meanwhile
			return nil
		}
		if err := s.addNetwork(tx, &n); err != nil {
			return err
		}
		return s.addDefaultSubnets(tx, n, used)
	})
	return n, err
}

// CreateWithSubnets makes a network with subnets, or where there are none with one of
// each version that the host reaches nothing else by. A gateway is that of the subnet
// that it is in.
func (s *Service) CreateWithSubnets(ctx context.Context, n Network, subnets []netip.Prefix, gateways []netip.Addr) (Network, error) {
	if s.remote() {
		return n, refused("networks")
	}
	if n.Name != "" && len(s.Networks(func(o Network) bool { return o.Name == n.Name && o.Project == n.Project })) > 0 {
		return n, conflict("a network with the name %q exists already", n.Name)
	}
	used, err := s.hostPrefixes()
	if err != nil {
		return n, err
	}
	err = s.change(ctx, func(tx *records.Tx) error {
		if err := s.addNetwork(tx, &n); err != nil {
			return err
		}
		if len(subnets) == 0 {
			return s.addDefaultSubnets(tx, n, used)
		}
		for _, cidr := range subnets {
			sub := Subnet{Base: Base{Project: n.Project, Name: n.Name}, Network: n.ID, CIDR: cidr}
			for _, g := range gateways {
				if cidr.Contains(g) {
					sub.Gateway = g
				}
			}
			if err := s.addSubnet(tx, &sub); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

func (s *Service) hostPrefixes() ([]netip.Prefix, error) {
	if s.cfg.HostPrefixes == nil {
		return nil, nil
	}
	used, err := s.cfg.HostPrefixes()
	if err != nil {
		return nil, fmt.Errorf("find what networks the host is on: %w", err)
	}
	return used, nil
}

func (s *Service) addDefaultSubnets(tx *records.Tx, n Network, used []netip.Prefix) error {
	for _, sub := range s.subnets.Rows {
		used = append(used, sub.CIDR)
	}
	for _, candidate := range []func(int) netip.Prefix{s.candidate4, s.candidate6} {
		cidr, err := firstFree(candidate, used)
		if err != nil {
			return err
		}
		sub := Subnet{Base: Base{Project: n.Project, Name: n.Name}, Network: n.ID, CIDR: cidr}
		if err := s.addSubnet(tx, &sub); err != nil {
			return err
		}
	}
	return nil
}

// candidates is how many subnets are tried.
const candidates = 1 << 14

func firstFree(candidate func(int) netip.Prefix, used []netip.Prefix) (netip.Prefix, error) {
next:
	for i := range candidates {
		cidr := candidate(i)
		for _, u := range used {
			if u.Bits() > 0 && u.Overlaps(cidr) {
				continue next
			}
		}
		return cidr, nil
	}
	return netip.Prefix{}, launcher.Errorf(launcher.ErrUnavailable, "no subnet is free that the host has no route to: give one, slipway network create --subnet")
}

// seed tells the subnets of one state directory from those of others, which choose
// theirs without knowing of it.
func (s *Service) seed() [sha256.Size]byte { return sha256.Sum256([]byte("slipway " + s.cfg.Identity)) }

// candidate4 is the ith /24 of 10.64.0.0/10, beginning anywhere.
func (s *Service) candidate4(i int) netip.Prefix {
	h := s.seed()
	n := (int(h[0])<<8 + int(h[1]) + i) % (1 << 14)
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 | byte(n>>8), byte(n), 0}), 24)
}

// candidate6 is the ith /64 of the state directory's own ULA prefix (RFC 4193).
func (s *Service) candidate6(i int) netip.Prefix {
	h := s.seed()
	a := [16]byte{0xfd, h[2], h[3], h[4], h[5], h[6], byte(i >> 8), byte(i)}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}
