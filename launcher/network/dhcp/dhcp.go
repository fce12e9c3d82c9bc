package dhcp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// DefaultLife is how long a lease holds: Neutron's default.
const DefaultLife = 24 * time.Hour

// Lease is what a guest is told.
type Lease struct {
	Address     netip.Prefix
	Gateway     netip.Addr // invalid: none
	Nameservers []netip.Addr
	Routes      []Route // beside the default one
	MTU         int     // 0: the guest's default
	Hostname    string
	Domain      string
}

// Route leads to a network by a router.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Config is what a Server stands on.
type Config struct {
	Interface string     // the bridge; empty: any
	Address   netip.Addr // ours on it, by which guests know us
	// Lease is the one of a hardware address. It is called for one packet at a time.
	Lease func(net.HardwareAddr) (Lease, bool)
	Life  time.Duration // of leases; 0: DefaultLife
	Log   *slog.Logger  // nil discards
}

// Server answers on one network.
type Server struct {
	cfg  Config
	conn net.PacketConn
}

// Listen opens the port. The interface must be there and up.
func Listen(cfg Config) (*Server, error) {
	if cfg.Life == 0 {
		cfg.Life = DefaultLife
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Address.Is4() {
		return nil, fmt.Errorf("DHCP on %s: %v is no IPv4 address", cfg.Interface, cfg.Address)
	}
	conn, err := server4.NewIPv4UDPConn(cfg.Interface, &net.UDPAddr{Port: dhcpv4.ServerPort})
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", cfg.Interface, err)
	}
	return &Server{cfg: cfg, conn: conn}, nil
}

// Close ends Serve.
func (s *Server) Close() error { return s.conn.Close() }

// Serve answers until the server is closed. It takes one packet at a time: a guest
// that floods us takes no more of the host than that.
func (s *Server) Serve() error {
	buf := make([]byte, 4096)
	for {
		n, _, err := s.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("DHCP on %s: %w", s.cfg.Interface, err)
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil {
			continue // whatever it is, it is not for us
		}
		reply, err := s.cfg.answer(m)
		if err != nil {
			s.cfg.Log.Error("DHCP not answered", "mac", m.ClientHWAddr.String(), "err", err)
		}
		if reply == nil || err != nil {
			continue
		}
		if _, err := s.conn.WriteTo(reply.ToBytes(), destination(m, reply)); err != nil && !errors.Is(err, net.ErrClosed) {
			s.cfg.Log.Warn("DHCP answer not sent", "mac", m.ClientHWAddr.String(), "err", err)
		}
	}
}

// destination is where a reply goes (RFC 2131, 4.1): to the address that the client
// uses, or to everybody, since one without an address does not answer ARP.
func destination(m, reply *dhcpv4.DHCPv4) net.Addr {
	to := &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}
	if reply.MessageType() != dhcpv4.MessageTypeNak && !m.ClientIPAddr.IsUnspecified() && !m.IsBroadcast() {
		to.IP = m.ClientIPAddr
	}
	return to
}

// answer is the reply to a message; nil where there is none.
func (c *Config) answer(m *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	if m.OpCode != dhcpv4.OpcodeBootRequest || m.HWType != iana.HWTypeEthernet || !m.GatewayIPAddr.IsUnspecified() {
		return nil, nil
	}
	lease, ok := c.Lease(m.ClientHWAddr)
	if !ok || !lease.Address.Addr().Is4() {
		return nil, nil
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return c.reply(m, lease, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeInform:
		return c.reply(m, lease, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeRequest:
		if id := m.ServerIdentifier(); len(id) > 0 && !id.Equal(c.Address.AsSlice()) {
			return nil, nil // it has taken another's offer
		}
		wanted := m.RequestedIPAddress()
		if len(wanted) == 0 || wanted.IsUnspecified() {
			wanted = m.ClientIPAddr
		}
		if !wanted.Equal(lease.Address.Addr().AsSlice()) {
			return dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(dhcpv4.MessageTypeNak),
				dhcpv4.WithOption(dhcpv4.OptServerIdentifier(c.Address.AsSlice())), dhcpv4.WithBroadcast(true))
		}
		return c.reply(m, lease, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeDecline:
		c.Log.Warn("a guest says that its address is in use", "mac", m.ClientHWAddr.String(), "address", lease.Address.String())
	}
	return nil, nil
}

// reply tells a lease. An INFORM has an address already, and gets the rest.
func (c *Config) reply(m *dhcpv4.DHCPv4, lease Lease, kind dhcpv4.MessageType) (*dhcpv4.DHCPv4, error) {
	r, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(c.Address.AsSlice())),
		dhcpv4.WithServerIP(c.Address.AsSlice()),
		dhcpv4.WithOptionCopied(m, dhcpv4.OptionClientIdentifier)) // RFC 6842
	if err != nil {
		return nil, err
	}
	if m.MessageType() != dhcpv4.MessageTypeInform {
		r.YourIPAddr = lease.Address.Addr().AsSlice()
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(c.Life))
		r.UpdateOption(dhcpv4.OptRenewTimeValue(c.Life / 2))
		r.UpdateOption(dhcpv4.OptRebindingTimeValue(c.Life / 8 * 7))
	}
	for _, option := range lease.options() {
		r.UpdateOption(option)
	}
	return r, nil
}

// options are what a lease says beside its address and its life.
func (l Lease) options() []dhcpv4.Option {
	mask := net.CIDRMask(l.Address.Bits(), 32)
	broadcast := l.Address.Addr().AsSlice()
	for i := range broadcast {
		broadcast[i] |= ^mask[i]
	}
	options := []dhcpv4.Option{dhcpv4.OptSubnetMask(mask), dhcpv4.OptBroadcastAddress(broadcast)}
	if l.Gateway.IsValid() {
		options = append(options, dhcpv4.OptRouter(l.Gateway.AsSlice()))
	}
	var servers []net.IP
	for _, a := range l.Nameservers {
		if a.Is4() {
			servers = append(servers, a.AsSlice())
		}
	}
	if len(servers) > 0 {
		options = append(options, dhcpv4.OptDNS(servers...))
	}
	if l.MTU > 0 {
		options = append(options, dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(l.MTU)})
	}
	if l.Hostname != "" {
		options = append(options, dhcpv4.OptHostName(l.Hostname))
	}
	if l.Domain != "" {
		options = append(options, dhcpv4.OptDomainName(l.Domain), dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{l.Domain}}))
	}
	if routes := l.routes(); len(routes) > 0 {
		options = append(options, dhcpv4.OptClasslessStaticRoute(routes...))
	}
	return options
}

// routes are those of option 121. A client that reads it ignores the router option
// (RFC 3442), so the default route is among them.
func (l Lease) routes() dhcpv4.Routes {
	var routes dhcpv4.Routes
	for _, r := range l.Routes {
		if r.To.Addr().Is4() && r.Via.Is4() {
			routes = append(routes, route(r.To.Masked(), r.Via))
		}
	}
	if len(routes) > 0 && l.Gateway.IsValid() {
		routes = append(routes, route(netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.Gateway))
	}
	return routes
}

func route(to netip.Prefix, via netip.Addr) *dhcpv4.Route {
	return &dhcpv4.Route{Dest: &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)}, Router: via.AsSlice()}
}
