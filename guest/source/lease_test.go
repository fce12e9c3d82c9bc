package source

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"

	"github.com/slipway-vm/slipway/guest/share"
)

// leaseTime is that of the test's leases.
const leaseTime = 4 * time.Second

// apart runs the test in a process of its own, in a network namespace of its own, and
// reports whether this is that process.
func apart(t *testing.T) bool {
	t.Helper()
	const mark = "SLIPWAY_TEST_APART"
	if os.Getenv(mark) != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mark+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

// cable makes two cards that are connected.
func cable(t *testing.T) (server, client netlink.Link) {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "server"}, PeerName: "client"}); err != nil {
		t.Fatal(err)
	}
	var both []netlink.Link
	for _, name := range []string{"server", "client"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, l)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(10, 1, 0, 1), Mask: net.CIDRMask(24, 32)}}
	if err := netlink.AddrAdd(both[0], address); err != nil {
		t.Fatal(err)
	}
	return both[0], both[1]
}

// dhcpServer gives one address, and withdraws it, or says nothing, when it is told.
type dhcpServer struct {
	mu      sync.Mutex
	address net.IP
	silent  bool
	renewed int
}

func (d *dhcpServer) set(address net.IP, silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.address, d.silent, d.renewed = address, silent, 0
}

func (d *dhcpServer) renewals() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.renewed
}

func (d *dhcpServer) answer(conn net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.silent {
		return
	}
	kind := dhcpv4.MessageTypeOffer
	renews := m.MessageType() == dhcpv4.MessageTypeRequest && !m.ClientIPAddr.IsUnspecified()
	switch {
	case renews && !m.ClientIPAddr.Equal(d.address):
		kind = dhcpv4.MessageTypeNak
	case m.MessageType() == dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	}
	if renews && kind == dhcpv4.MessageTypeAck {
		d.renewed++
	}
	reply, err := dhcpv4.NewReplyFromRequest(m, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(d.address),
		dhcpv4.WithServerIP(net.IPv4(10, 1, 0, 1)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 1, 0, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 1, 0, 1)), dhcpv4.WithLeaseTime(uint32(leaseTime.Seconds())))
	if err == nil {
		_, _ = conn.WriteTo(reply.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort})
	}
}

// addresses are those of a card, in text.
func addresses(t *testing.T, l netlink.Link) string {
	t.Helper()
	all, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, a := range all {
		text = append(text, a.IPNet.String())
	}
	return strings.Join(text, " ")
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// A lease is renewed, exchanged where the server wants that, given up where nobody renews
// it, and got again.
func TestKeep(t *testing.T) {
	if !apart(t) {
		return
	}
	serverLink, client := cable(t)
	dhcp := &dhcpServer{address: net.IPv4(10, 1, 0, 7)}
	server, err := server4.NewServer(serverLink.Attrs().Name, &net.UDPAddr{IP: net.IPv4zero, Port: dhcpv4.ServerPort}, dhcp.answer)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve() }()
	defer func() { _ = server.Close(); <-served }()

	card := link{Interface: share.Interface{Name: "client", MAC: client.Attrs().HardwareAddr.String()}, device: client}
	if err := card.lease(t.Context(), new(resolver)); err != nil {
		t.Fatal(err)
	}
	if err := card.set(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (links{card}).writeLeases(dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var reported []string
	kept := make(chan error, 1)
	go func() {
		kept <- Keep(ctx, dir, func(line string) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, line)
		})
	}()
	await(t, "the lease is renewed twice", func() bool { return dhcp.renewals() > 1 })
	if got := addresses(t, client); got != "10.1.0.7/24" {
		t.Errorf("addresses after renewals: %s", got)
	}
	dhcp.set(net.IPv4(10, 1, 0, 8), false)
	await(t, "another address is there", func() bool { return addresses(t, client) == "10.1.0.8/24" })
	routes, err := netlink.RouteList(client, netlink.FAMILY_V4)
	if err != nil || !slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Gw.Equal(net.IPv4(10, 1, 0, 1)) }) {
		t.Errorf("routes: %v, %v", routes, err)
	}
	dhcp.set(net.IPv4(10, 1, 0, 8), true)
	await(t, "the lease has ended", func() bool { return addresses(t, client) == "" })
	dhcp.set(net.IPv4(10, 1, 0, 9), false)
	await(t, "an address is there again", func() bool { return addresses(t, client) == "10.1.0.9/24" })
	cancel()
	if err := <-kept; err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	want := []string{
		"client: the lease of 10.1.0.7/24 is lost: the DHCP server has withdrawn it", "client: DHCP has given the address 10.1.0.8/24",
		"client: the lease of 10.1.0.8/24 is lost: it has ended, and nobody has renewed it", "client: DHCP has given the address 10.1.0.9/24",
	}
	if !slices.Equal(reported, want) {
		t.Errorf("reported: %q", reported)
	}
}
