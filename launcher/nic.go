package launcher

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher/domain"
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
	// Network is a network's name or ID, or NetworkNone alone; the default network
	// where it is empty.
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

// NetworkNone is no network: the server has its loopback interface alone.
const NetworkNone = "none"

// NIC is an interface of a server, as it is recorded.
type NIC struct {
	Port        string         `json:"port,omitempty"`    // ID
	Network     string         `json:"network,omitempty"` // ID
	NetworkName string         `json:"network_name"`
	MAC         string         `json:"mac"`
	Addresses   []netip.Prefix `json:"addresses,omitempty"`
	Tag         string         `json:"tag,omitempty"`
}

// Covers reports whether what is published is what p asks for.
func (p Publish) Covers(published Publish) bool {
	return p.HostIP == published.HostIP && p.GuestPort == published.GuestPort && p.Protocol == published.Protocol &&
		(p.HostPort == 0 || p.HostPort <= published.HostPort && published.HostPort <= max(p.HostPort, p.HostEnd))
}

// Undoes reports whether p names what is published: by the host's port where it has
// one, else by the guest's.
func (p Publish) Undoes(published Publish) bool {
	if p.Protocol != published.Protocol || p.HostIP.IsValid() && p.HostIP != published.HostIP {
		return false
	}
	if p.HostPort == 0 {
		return p.GuestPort == published.GuestPort
	}
	return p.HostPort == published.HostPort && p.GuestPort == published.GuestPort
}

// Plugged is what a server's domain and its guest are told of its networks.
type Plugged struct {
	NICs      []domain.NIC
	Config    *cloudinit.NetworkConfig
	Published []Publish
}

// Sparer is a [Networks] that can make the host ready for a server that is yet to come.
type Sparer interface {
	// Spare makes taps, each with one of the MTUs and on no network, and decides the MACs
	// for them. The ports that Allocate makes for the server, where no MAC is asked for,
	// will have these in their order. Release gives up what it did not take.
	Spare(ctx context.Context, server string, mtus []int) ([]domain.NIC, error)
}

// Networks gives servers their interfaces. [network.Service] does.
type Networks interface {
	// Allocate makes the ports that a new server asks for. After an error it has
	// none.
	Allocate(ctx context.Context, srv *Server) ([]NIC, error)
	// Plug makes the host ready for a server's domain, and publishes its ports.
	// After an error nothing of it is left.
	Plug(ctx context.Context, srv *Server) (*Plugged, error)
	// Publish replaces what is published of a server that is plugged.
	Publish(ctx context.Context, srv *Server, ports []Publish) error
	// PublishedOf returns what of a server is published now.
	PublishedOf(server string) []Publish
	// Unplug takes back what Plug has made. What is not there is no error.
	Unplug(ctx context.Context, server string) error
	// Release gives up a deleted server's ports.
	Release(ctx context.Context, server string) error
	// Reconcile takes back what belongs to no server of those that there are; true
	// are those whose domains run.
	Reconcile(ctx context.Context, servers map[string]bool) error
}
