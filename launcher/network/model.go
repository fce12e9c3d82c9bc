package network

import (
	"fmt"
	"net/netip"
	"time"
)

// Base is what all records have.
type Base struct {
	ID          string    `json:"id"` // UUID
	Project     string    `json:"project,omitempty"`
	Name        string    `json:"name,omitempty"`
	Description string    `json:"description,omitempty"`
	Tags        []string  `json:"tags,omitempty"`
	Created     time.Time `json:"created"`
	Updated     time.Time `json:"updated"`
	Revision    int       `json:"revision"`
}

// Network is a broadcast domain.
type Network struct {
	Base
	MTU      int    `json:"mtu"`                // 0 when it is created: DefaultMTU
	Shared   bool   `json:"shared,omitempty"`   // usable by every project
	External bool   `json:"external,omitempty"` // floating IPs come from it
	Down     bool   `json:"down,omitempty"`     // not admin_state_up
	Default  bool   `json:"default,omitempty"`  // is_default
	Bridge   string `json:"bridge"`             // the host's interface
	// NoPortSecurity is what its ports are created with, where they do not say.
	NoPortSecurity bool   `json:"no_port_security,omitempty"`
	DNSDomain      string `json:"dns_domain,omitempty"`
}

// The limits of an MTU: IPv6 wants 1280.
const (
	DefaultMTU = 1500
	minMTU     = 68
	minMTU6    = 1280
	maxMTU     = 65521
)

// Range is addresses from first to last.
type Range struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

func (r Range) String() string { return fmt.Sprintf("%s-%s", r.Start, r.End) }

// Contains reports whether an address is of the range.
func (r Range) Contains(a netip.Addr) bool { return r.Start.Compare(a) <= 0 && a.Compare(r.End) <= 0 }

// Route leads to a destination by a next hop.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	NextHop     netip.Addr   `json:"nexthop"`
}

// Subnet is a range of a network's addresses.
type Subnet struct {
	Base
	Network string       `json:"network"` // ID
	CIDR    netip.Prefix `json:"cidr"`
	// Gateway is the first address where neither it nor NoGateway is given.
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	NoGateway   bool         `json:"no_gateway,omitempty"`
	Pools       []Range      `json:"pools"` // nil when it is created: all but the gateway
	Nameservers []netip.Addr `json:"nameservers,omitempty"`
	Routes      []Route      `json:"routes,omitempty"`
	NoDHCP      bool         `json:"no_dhcp,omitempty"` // not enable_dhcp
	AddressMode string       `json:"address_mode,omitempty"`
	RAMode      string       `json:"ra_mode,omitempty"`
}

// Version is 4 or 6.
func (s *Subnet) Version() int {
	if s.CIDR.Addr().Is4() {
		return 4
	}
	return 6
}

// FixedIP is an address of a port. In a request either may be left out.
type FixedIP struct {
	Subnet string     `json:"subnet"` // ID
	IP     netip.Addr `json:"ip,omitzero"`
}

// AddressPair is what a port may send from beside its own addresses.
type AddressPair struct {
	MAC string       `json:"mac,omitempty"` // the port's own where empty
	IP  netip.Prefix `json:"ip"`
}

// Status is whether a port or a floating IP works.
type Status string

// The statuses.
const (
	StatusActive Status = "ACTIVE"
	StatusDown   Status = "DOWN"
)

// The owners of ports that mean something here.
const (
	OwnerServer     = "compute:nova"
	OwnerFloatingIP = "network:floatingip"
)

// Port is a place in a network.
type Port struct {
	Base
	Network string `json:"network"` // ID
	// MAC is made up where a new port has none.
	MAC string `json:"mac"`
	// FixedIPs are, where a new port has nil, one of each version.
	FixedIPs []FixedIP `json:"fixed_ips"`
	// SecurityGroups are, where a new port with port security has nil, the
	// project's default one.
	SecurityGroups []string `json:"security_groups"`
	// NoPortSecurity lets the port send from any address, and anything reach it.
	NoPortSecurity bool          `json:"no_port_security,omitempty"`
	AddressPairs   []AddressPair `json:"address_pairs,omitempty"`
	Device         string        `json:"device,omitempty"` // a server's ID
	Owner          string        `json:"owner,omitempty"`
	Down           bool          `json:"down,omitempty"` // not admin_state_up
	Status         Status        `json:"status"`
	Host           string        `json:"host,omitempty"` // binding:host_id
	VIF            VIF           `json:"vif,omitzero"`   // where networks are a Neutron's
	VNICType       string        `json:"vnic_type,omitempty"`
	// Profile is binding:profile, kept as it is.
	Profile map[string]any `json:"profile,omitempty"`
	DNSName string         `json:"dns_name,omitempty"`
	// Index orders the ports of a server.
	Index int    `json:"index,omitempty"`
	Tag   string `json:"tag,omitempty"` // of the server's device
	// Made says that the port was made for its server, and goes with it.
	Made bool `json:"made,omitempty"`
	// Tap is the host's interface of the port, while it is plugged.
	Tap string `json:"tap,omitempty"`
	// Bandwidth bounds what the port sends and receives.
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
}

// Bandwidth bounds a port. Inbound is towards the server.
type Bandwidth struct {
	Inbound  Rate `json:"inbound,omitzero"`
	Outbound Rate `json:"outbound,omitzero"`
}

// Rate is Nova's vif quota: KiB/s, and KiB for the burst. An average of 0 is no
// bound.
type Rate struct {
	Average int `json:"average,omitempty"`
	Peak    int `json:"peak,omitempty"`
	Burst   int `json:"burst,omitempty"`
}

// SecurityGroup is a name for rules.
type SecurityGroup struct {
	Base
	Stateless bool `json:"stateless,omitempty"`
}

// DefaultName is the name of a project's security group, and of the network, that
// are there without having been asked for.
const DefaultName = "default"

// DefaultDomain is that of servers' names, where their network has none of its own:
// OpenStack's.
const DefaultDomain = "openstacklocal"

// Direction is seen from the port.
type Direction string

// The directions.
const (
	Ingress Direction = "ingress"
	Egress  Direction = "egress"
)

// Rule allows traffic of ports in its security group.
type Rule struct {
	Base
	Group     string    `json:"group"` // ID
	Direction Direction `json:"direction"`
	EtherType string    `json:"ethertype"` // IPv4 or IPv6
	// Protocol is a name or a number, empty for any.
	Protocol string `json:"protocol,omitempty"`
	// Min and Max are ports, or of ICMP type and code; nil for any.
	Min          *int         `json:"min,omitempty"`
	Max          *int         `json:"max,omitempty"`
	RemotePrefix netip.Prefix `json:"remote_prefix,omitzero"`
	RemoteGroup  string       `json:"remote_group,omitempty"` // ID
}

// FloatingIP is an address of the host that stands for a fixed IP.
type FloatingIP struct {
	Base
	Network   string     `json:"network"` // ID of the external one
	Subnet    string     `json:"subnet,omitempty"`
	IP        netip.Addr `json:"ip"`
	Port      string     `json:"port,omitempty"`   // ID
	Fixed     netip.Addr `json:"fixed,omitzero"`   // of the port; its first IPv4 address where a request has none
	Router    string     `json:"router,omitempty"` // never set: the host routes
	OwnPort   string     `json:"own_port"`         // ID, in the external network
	Status    Status     `json:"status"`           // ACTIVE while it is associated
	DNSName   string     `json:"dns_name,omitempty"`
	DNSDomain string     `json:"dns_domain,omitempty"`
}
