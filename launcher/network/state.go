package network

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
)

// State is what the host has to show of the records: what servers are plugged into,
// and nothing else.
type State struct {
	Bridges []Bridge
	Taps    []Tap
	// Spares are taps for servers that are yet to come, down and on no bridge.
	Spares []Spare
	// Groups are the rules of the security groups that taps have, by ID; Members
	// the addresses of the groups that rules name.
	Groups  map[string][]Rule
	Members map[string][]netip.Addr
	// Published and Floating lead from addresses of the host to those of servers.
	Published []Forward
	Floating  []Floating
}

// Bridge is a network on the host.
type Bridge struct {
	Name     string
	Network  Network
	MTU      int
	Subnets  []Subnet
	Gateways []netip.Prefix // the bridge's own addresses, with their subnets' length
}

// Tap is a port on the host.
type Tap struct {
	Port
	Bridge    string
	MTU       int
	Addresses []netip.Addr
	// Open says that the host may reach it: it belongs to nobody but the host's own
	// users, who expect what docker gives them.
	Open bool
}

// Spare is a tap that is no port's yet.
type Spare struct {
	Tap string
	MTU int
}

// Forward leads from a port of the host to one of a server.
type Forward struct {
	HostIP    netip.Addr // zero: all
	HostPort  uint16
	Protocol  string
	Guests    []netip.Addr // at most one of each version
	GuestPort uint16
}

// Floating leads from an address of the host to one of a server.
type Floating struct {
	IP    netip.Addr
	Fixed netip.Addr
	Via   string // the bridge of the server's port
}

// state reads the records; the caller holds the lock.
func (s *Service) state() State {
	st := State{Groups: map[string][]Rule{}, Members: map[string][]netip.Addr{}}
	used := map[string]bool{}
	for _, p := range sorted(&s.ports, portBase, func(p Port) bool { return p.Tap != "" }) {
		n := s.networks.Rows[p.Network]
		used[n.ID] = true
		tap := Tap{Port: p, Bridge: n.Bridge, MTU: n.MTU, Open: p.Project == ""}
		tap.Down = p.Down || n.Down
		for _, f := range p.FixedIPs {
			tap.Addresses = append(tap.Addresses, f.IP)
		}
		st.Taps = append(st.Taps, tap)
		for _, g := range p.SecurityGroups {
			st.Groups[g] = nil
		}
	}
	for _, n := range sorted(&s.networks, networkBase, func(n Network) bool { return used[n.ID] }) {
		st.Bridges = append(st.Bridges, s.bridge(n))
	}
	for _, server := range slices.Sorted(maps.Keys(s.spares)) {
		for _, p := range s.spares[server] {
			st.Spares = append(st.Spares, Spare{p.nic.Tap, p.nic.MTU})
		}
	}
	s.addRules(&st)
	s.addForwards(&st)
	return st
}

func (s *Service) bridge(n Network) Bridge {
	b := Bridge{Name: n.Bridge, Network: n, MTU: n.MTU}
	b.Subnets = sorted(&s.subnets, subnetBase, func(sub Subnet) bool { return sub.Network == n.ID })
	for _, sub := range b.Subnets {
		if sub.Gateway.IsValid() {
			b.Gateways = append(b.Gateways, netip.PrefixFrom(sub.Gateway, sub.CIDR.Bits()))
		}
	}
	return b
}

// addRules adds the rules of the groups in use, and who the groups are that these
// name: members that are not plugged have addresses, too.
func (s *Service) addRules(st *State) {
	for _, r := range sorted(&s.rules, ruleBase, nil) {
		if _, used := st.Groups[r.Group]; !used {
			continue
		}
		st.Groups[r.Group] = append(st.Groups[r.Group], r)
		if r.RemoteGroup != "" {
			st.Members[r.RemoteGroup] = nil
		}
	}
	for _, p := range sorted(&s.ports, portBase, nil) {
		for _, g := range p.SecurityGroups {
			if _, named := st.Members[g]; !named {
				continue
			}
			for _, f := range p.FixedIPs {
				st.Members[g] = append(st.Members[g], f.IP)
			}
			for _, pair := range p.AddressPairs {
				if pair.IP.IsSingleIP() {
					st.Members[g] = append(st.Members[g], pair.IP.Addr())
				}
			}
		}
	}
	for g, members := range st.Members {
		slices.SortFunc(members, netip.Addr.Compare)
		st.Members[g] = slices.Compact(members)
	}
}

func (s *Service) addForwards(st *State) {
	for _, id := range slices.Sorted(maps.Keys(s.published.Rows)) {
		guests := addressesOf(s.portsOf(id))
		if len(guests) == 0 {
			continue
		}
		for _, p := range s.published.Rows[id].Ports {
			st.Published = append(st.Published, forward(p, guests))
		}
	}
	for _, f := range sorted(&s.floating, floatingBase, func(f FloatingIP) bool { return f.Port != "" }) {
		if p := s.ports.Rows[f.Port]; p.Tap != "" {
			st.Floating = append(st.Floating, Floating{f.IP, f.Fixed, s.networks.Rows[p.Network].Bridge})
		}
	}
}

func forward(p launcher.Publish, guests []netip.Addr) Forward {
	return Forward{p.HostIP, p.HostPort, p.Protocol, guests, p.GuestPort}
}

// addressesOf are the addresses that a server is published by: the first of each
// version among its plugged ports.
func addressesOf(ports []Port) []netip.Addr {
	var found []netip.Addr
	for _, p := range ports {
		if p.Tap == "" {
			continue
		}
		for _, f := range p.FixedIPs {
			if !slices.ContainsFunc(found, func(a netip.Addr) bool { return a.Is4() == f.IP.Is4() }) {
				found = append(found, f.IP)
			}
		}
	}
	return found
}
