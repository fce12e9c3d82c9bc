package launcher

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// Publish leads from a port of the host to one of a server.
type Publish struct {
	HostIP   netip.Addr `json:"host_ip,omitzero"` // all addresses where it is zero
	HostPort uint16     `json:"host_port"`        // 0: one that is free
	// HostEnd, where it is not 0, ends a range that begins with HostPort, of which
	// the first port is taken that is free.
	HostEnd   uint16 `json:"host_end,omitempty"`
	GuestPort uint16 `json:"guest_port"`
	Protocol  string `json:"protocol"` // tcp or udp
}

// String is the publication as docker shows it.
func (p Publish) String() string {
	ip := p.HostIP
	if !ip.IsValid() {
		ip = netip.IPv4Unspecified()
	}
	return fmt.Sprintf("%s->%d/%s", net.JoinHostPort(ip.String(), strconv.Itoa(int(p.HostPort))), p.GuestPort, p.Protocol)
}

// NetworkRequest asks for an interface of a server.
type NetworkRequest struct {
	// Network is a network's name or ID, NetworkNone alone, or NetworkUser.
	Network string `json:"network,omitempty"`
	// Port is the ID of a port that is there already, in place of a network.
	Port string `json:"port,omitempty"`
	// IPs are addresses to have; of a version that is not among them one is chosen.
	IPs []netip.Addr `json:"ips,omitempty"`
	MAC string       `json:"mac,omitempty"`
	// SecurityGroups are IDs or names; the project's default one where nil.
	SecurityGroups []string `json:"security_groups,omitempty"`
	Tag            string   `json:"tag,omitempty"`
}

// The networks that are none of Neutron's.
const (
	NetworkNone = "none"      // no interface but the loopback one
	NetworkUser = "host-user" // a process of the host speaks for the server
)

// NIC is an interface of a server, as it is recorded.
type NIC struct {
	Port        string         `json:"port,omitempty"`    // ID
	Network     string         `json:"network,omitempty"` // ID
	NetworkName string         `json:"network_name"`
	MAC         string         `json:"mac"`
	Addresses   []netip.Prefix `json:"addresses,omitempty"`
	Tag         string         `json:"tag,omitempty"`
}
