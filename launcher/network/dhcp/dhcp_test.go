package dhcp

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var guestMAC = net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1}

func testConfig() *Config {
	c := &Config{Address: netip.MustParseAddr("10.0.0.1"), Life: DefaultLife}
	c.Lease = func(mac net.HardwareAddr) (Lease, bool) {
		return Lease{
			Address: netip.MustParsePrefix("10.0.0.5/20"), Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1450, Hostname: "web", Domain: "lan.example",
			Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")},
			Routes:      []Route{{To: netip.MustParsePrefix("169.254.169.254/32"), Via: netip.MustParseAddr("10.0.0.1")}},
		}, mac.String() == guestMAC.String()
	}
	return c
}

func message(t *testing.T, kind dhcpv4.MessageType, change ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(kind),
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{1, 2, 3}))}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	// As it comes from the wire.
	m, err = dhcpv4.FromBytes(m.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOffer(t *testing.T) {
	c := testConfig()
	m := message(t, dhcpv4.MessageTypeDiscover)
	r, err := c.answer(m)
	if err != nil {
		t.Fatal(err)
	}
	r, err = dhcpv4.FromBytes(r.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	if r.MessageType() != dhcpv4.MessageTypeOffer || r.TransactionID != m.TransactionID || !r.YourIPAddr.Equal(net.IPv4(10, 0, 0, 5)) ||
		!r.ServerIdentifier().Equal(net.IPv4(10, 0, 0, 1)) || r.IPAddressLeaseTime(0) != DefaultLife || !slices.Equal(r.Options.Get(dhcpv4.OptionClientIdentifier), []byte{1, 2, 3}) {
		t.Errorf("%s", r.Summary())
	}
	mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, r.Options)
	if err != nil || mtu != 1450 || r.HostName() != "web" || r.DomainName() != "lan.example" || r.SubnetMask().String() != "fffff000" ||
		!r.BroadcastAddress().Equal(net.IPv4(10, 0, 15, 255)) || len(r.DNS()) != 1 || len(r.Router()) != 1 {
		t.Errorf("MTU %v %v\n%s", mtu, err, r.Summary())
	}
	var routes []string
	for _, route := range r.ClasslessStaticRoute() {
		routes = append(routes, route.Dest.String()+" "+route.Router.String())
	}
	if want := []string{"169.254.169.254/32 10.0.0.1", "0.0.0.0/0 10.0.0.1"}; !slices.Equal(routes, want) {
		t.Errorf("routes %q, want %q", routes, want)
	}
	if to := destination(m, r); to.String() != "255.255.255.255:68" {
		t.Errorf("to %s", to)
	}
}

func TestAnswer(t *testing.T) {
	ip := func(s string) net.IP { return net.ParseIP(s).To4() }
	requested := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip(s))) }
	server := func(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ip(s))) }
	tests := []struct {
		name string
		m    *dhcpv4.DHCPv4
		want dhcpv4.MessageType // none: no answer
		to   string
	}{
		{"request", message(t, dhcpv4.MessageTypeRequest, requested("10.0.0.5"), server("10.0.0.1")), dhcpv4.MessageTypeAck, "255.255.255.255"},
		{"renewal", message(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ip("10.0.0.5"))), dhcpv4.MessageTypeAck, "10.0.0.5"},
		{"after a move", message(t, dhcpv4.MessageTypeRequest, requested("10.9.9.9")), dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"wrong renewal", message(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(ip("10.0.0.6"))), dhcpv4.MessageTypeNak, "255.255.255.255"},
		{"another server", message(t, dhcpv4.MessageTypeRequest, requested("10.0.0.5"), server("10.0.0.2")), dhcpv4.MessageTypeNone, ""},
		{"inform", message(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(ip("10.0.0.5"))), dhcpv4.MessageTypeAck, "10.0.0.5"},
		{"decline", message(t, dhcpv4.MessageTypeDecline, requested("10.0.0.5")), dhcpv4.MessageTypeNone, ""},
		{"release", message(t, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(ip("10.0.0.5"))), dhcpv4.MessageTypeNone, ""},
		{"relayed", message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(ip("10.9.0.1"))), dhcpv4.MessageTypeNone, ""},
		{"stranger", message(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 9})), dhcpv4.MessageTypeNone, ""},
		{"no DHCP", message(t, dhcpv4.MessageTypeNone), dhcpv4.MessageTypeNone, ""},
	}
	c := testConfig()
	c.Log = slog.New(slog.DiscardHandler)
	for _, tt := range tests {
		r, err := c.answer(tt.m)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if r == nil {
			if tt.want != dhcpv4.MessageTypeNone {
				t.Errorf("%s: no answer", tt.name)
			}
			continue
		}
		if r.MessageType() != tt.want || destination(tt.m, r).(*net.UDPAddr).IP.String() != tt.to {
			t.Errorf("%s: %s to %s", tt.name, r.MessageType(), destination(tt.m, r))
		}
		if tt.name == "inform" && !r.YourIPAddr.IsUnspecified() {
			t.Errorf("inform: %s is given out", r.YourIPAddr)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	m, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	c := testConfig()
	lease, _ := c.Lease(guestMAC)
	c.Lease = func(net.HardwareAddr) (Lease, bool) { return lease, true }
	c.Log = slog.New(slog.DiscardHandler)
	f.Fuzz(func(_ *testing.T, data []byte) {
		m, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		if r, err := c.answer(m); err == nil && r != nil {
			_ = destination(m, r)
			r.ToBytes()
		}
	})
}
