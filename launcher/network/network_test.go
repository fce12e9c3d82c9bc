package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

func open(t *testing.T, store *launchertest.Section, used ...string) *Service {
	t.Helper()
	s, err := Open(t.Context(), Config{Store: store, Identity: "abcde", HostPrefixes: func() ([]netip.Prefix, error) {
		var all []netip.Prefix
		for _, u := range used {
			all = append(all, netip.MustParsePrefix(u))
		}
		return all, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestDefaultNetwork(t *testing.T) {
	ctx, store := t.Context(), launchertest.NewSection()
	s := open(t, store, "0.0.0.0/0", "10.64.0.0/11", "10.96.0.0/12")
	n := must[Network](t)(s.DefaultNetwork(ctx))
	if again := must[Network](t)(open(t, store).DefaultNetwork(ctx)); again.ID != n.ID {
		t.Error("the default network was made twice")
	}
	subnets := s.SubnetsOf(n.ID)
	if len(subnets) != 2 || subnets[0].Version() == subnets[1].Version() {
		t.Fatalf("subnets are %+v", subnets)
	}
	for _, sub := range subnets {
		if sub.Version() == 4 && !netip.MustParsePrefix("10.112.0.0/12").Contains(sub.CIDR.Addr()) {
			t.Errorf("subnet %s lies where the host has a route", sub.CIDR)
		}
		if sub.Version() == 6 && !sub.CIDR.Addr().IsPrivate() {
			t.Errorf("subnet %s is no ULA", sub.CIDR)
		}
	}
	if len(n.Bridge) != 15 {
		t.Errorf("bridge %q", n.Bridge)
	}
}

func TestAddresses(t *testing.T) {
	ctx, store := t.Context(), launchertest.NewSection()
	s := open(t, store)
	n := must[Network](t)(s.CreateNetwork(ctx, Network{}))
	sub := must[Subnet](t)(s.CreateSubnet(ctx, Subnet{Network: n.ID, CIDR: netip.MustParsePrefix("10.0.0.0/29")}))
	var got []string
	for range 5 {
		p := must[Port](t)(s.CreatePort(ctx, Port{Network: n.ID}))
		got = append(got, p.FixedIPs[0].IP.String())
	}
	if want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}; !slices.Equal(got, want) {
		t.Errorf("addresses %v", got)
	}
	if _, err := s.CreatePort(ctx, Port{Network: n.ID}); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("a port of a full network: %v", err)
	}
	if err := s.DeleteSubnet(ctx, sub.ID); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("delete a subnet in use: %v", err)
	}
	if err := s.DeleteNetwork(ctx, n.ID); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("delete a network in use: %v", err)
	}
	s = open(t, store) // as it was written
	third := s.Ports(func(p Port) bool { return p.has(netip.MustParseAddr("10.0.0.4")) })[0]
	if err := s.DeletePort(ctx, third.ID); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		ip   string
		kind error
	}{
		{"10.0.0.4", nil}, {"10.0.0.4", launcher.ErrConflict}, {"10.0.0.1", launcher.ErrConflict},
		{"10.0.0.7", launcher.ErrInvalid}, {"10.0.0.0", launcher.ErrInvalid}, {"10.1.0.4", launcher.ErrInvalid},
	} {
		_, err := s.CreatePort(ctx, Port{Network: n.ID, FixedIPs: []FixedIP{{IP: netip.MustParseAddr(tt.ip)}}})
		if !errors.Is(err, tt.kind) {
			t.Errorf("port with address %s: %v, want %v", tt.ip, err, tt.kind)
		}
	}
}

func TestSubnetsThatCannotBe(t *testing.T) {
	ctx := t.Context()
	s := open(t, launchertest.NewSection())
	n := must[Network](t)(s.CreateNetwork(ctx, Network{}))
	other := must[Network](t)(s.CreateNetwork(ctx, Network{}))
	must[Subnet](t)(s.CreateSubnet(ctx, Subnet{Network: n.ID, CIDR: netip.MustParsePrefix("10.0.0.0/24")}))
	pool := func(a, b string) []Range { return []Range{{netip.MustParseAddr(a), netip.MustParseAddr(b)}} }
	for name, sub := range map[string]Subnet{
		"overlap":         {CIDR: netip.MustParsePrefix("10.0.0.128/25")},
		"no room":         {CIDR: netip.MustParsePrefix("10.1.0.0/31")},
		"loopback":        {CIDR: netip.MustParsePrefix("127.0.1.0/24")},
		"no prefix":       {},
		"foreign gateway": {CIDR: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.2.0.1")},
		"foreign pool":    {CIDR: netip.MustParsePrefix("10.1.0.0/24"), Pools: pool("10.1.0.9", "10.1.1.9")},
		"pool backwards":  {CIDR: netip.MustParsePrefix("10.1.0.0/24"), Pools: pool("10.1.0.9", "10.1.0.2")},
		"pool of gateway": {CIDR: netip.MustParsePrefix("10.1.0.0/24"), Pools: pool("10.1.0.1", "10.1.0.2")},
	} {
		sub.Network = other.ID
		if _, err := s.CreateSubnet(ctx, sub); !errors.Is(err, launcher.ErrInvalid) && !errors.Is(err, launcher.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultGroup(t *testing.T) {
	ctx := t.Context()
	s := open(t, launchertest.NewSection())
	n := must[Network](t)(s.CreateNetwork(ctx, Network{}))
	p := must[Port](t)(s.CreatePort(ctx, Port{Base: Base{Project: "a"}, Network: n.ID}))
	g := must[SecurityGroup](t)(s.DefaultGroup(ctx, "a"))
	if !slices.Equal(p.SecurityGroups, []string{g.ID}) || len(s.RulesOf(g.ID)) != 4 {
		t.Errorf("the port has groups %v; default is %s with %d rules", p.SecurityGroups, g.ID, len(s.RulesOf(g.ID)))
	}
	if other := must[SecurityGroup](t)(s.DefaultGroup(ctx, "b")); other.ID == g.ID {
		t.Error("two projects have one default group")
	}
	if err := s.DeleteGroup(ctx, g.ID); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("delete a group in use: %v", err)
	}
	port := 22
	ssh := Rule{Group: g.ID, Direction: Ingress, EtherType: "IPv4", Protocol: "tcp", Min: &port, Max: &port}
	must[Rule](t)(s.CreateRule(ctx, ssh))
	ssh.Protocol = "6"
	if _, err := s.CreateRule(ctx, ssh); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("the same rule again: %v", err)
	}
	for name, r := range map[string]Rule{
		"no direction":     {EtherType: "IPv4"},
		"ports of any":     {Direction: Ingress, EtherType: "IPv4", Min: &port, Max: &port},
		"half a range":     {Direction: Ingress, EtherType: "IPv4", Protocol: "tcp", Min: &port},
		"IPv6 from IPv4":   {Direction: Ingress, EtherType: "IPv6", RemotePrefix: netip.MustParsePrefix("10.0.0.0/8")},
		"unknown protocol": {Direction: Ingress, EtherType: "IPv4", Protocol: "tpc"},
	} {
		r.Group = g.ID
		if _, err := s.CreateRule(ctx, r); !errors.Is(err, launcher.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFloatingIP(t *testing.T) {
	ctx := t.Context()
	s := open(t, launchertest.NewSection())
	outside := must[Network](t)(s.CreateNetwork(ctx, Network{External: true}))
	must[Subnet](t)(s.CreateSubnet(ctx, Subnet{Network: outside.ID, CIDR: netip.MustParsePrefix("203.0.113.0/24")}))
	inside := must[Network](t)(s.CreateNetwork(ctx, Network{}))
	must[Subnet](t)(s.CreateSubnet(ctx, Subnet{Network: inside.ID, CIDR: netip.MustParsePrefix("10.0.0.0/24")}))
	p := must[Port](t)(s.CreatePort(ctx, Port{Network: inside.ID}))
	f := must[FloatingIP](t)(s.CreateFloatingIP(ctx, FloatingIP{Network: outside.ID, Port: p.ID}))
	if f.Fixed != p.FixedIPs[0].IP || f.Status != StatusActive || f.IP.String() != "203.0.113.2" {
		t.Errorf("floating IP %+v", f)
	}
	if _, err := s.CreateFloatingIP(ctx, FloatingIP{Network: outside.ID, Port: p.ID}); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := s.CreateFloatingIP(ctx, FloatingIP{Network: inside.ID}); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("of a network that is not external: %v", err)
	}
	if err := s.DeletePort(ctx, f.OwnPort); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("delete a floating IP's port: %v", err)
	}
	if err := s.DeletePort(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	if f = must[FloatingIP](t)(s.FloatingIP(f.ID)); f.Port != "" || f.Status != StatusDown {
		t.Errorf("after its port is gone: %+v", f)
	}
	if err := errors.Join(s.DeleteFloatingIP(ctx, f.ID), s.DeleteNetwork(ctx, outside.ID), s.DeleteNetwork(ctx, inside.ID)); err != nil {
		t.Error(err)
	}
	if left := len(s.Ports(nil)) + len(s.Subnets(nil)); left != 0 {
		t.Errorf("%d ports and subnets are left", left)
	}
}

func TestNothingChangesThatIsNotStored(t *testing.T) {
	store := launchertest.NewSection()
	s := open(t, store)
	store.Broken = errors.New("disk full")
	if _, err := s.DefaultNetwork(context.WithoutCancel(t.Context())); !errors.Is(err, store.Broken) {
		t.Errorf("make a network: %v", err)
	}
	if len(s.Networks(nil)) != 0 {
		t.Error("it is there all the same")
	}
}

func TestParsePublish(t *testing.T) {
	for text, want := range map[string][]string{
		"80":                   {"0.0.0.0:0->80/tcp"},
		"8080:80":              {"0.0.0.0:8080->80/tcp"},
		"53:53/udp":            {"0.0.0.0:53->53/udp"},
		"127.0.0.1:8080:80":    {"127.0.0.1:8080->80/tcp"},
		"127.0.0.1::80":        {"127.0.0.1:0->80/tcp"},
		"[::1]:8080:80":        {"[::1]:8080->80/tcp"},
		"0.0.0.0:8080:80":      {"0.0.0.0:8080->80/tcp"},
		"8000-8001:9000-9001":  {"0.0.0.0:8000->9000/tcp", "0.0.0.0:8001->9001/tcp"},
		"65535:65535":          {"0.0.0.0:65535->65535/tcp"},
		"":                     nil,
		"0":                    nil,
		"65536:1":              nil,
		"8000-8002:9000-9001":  nil,
		"8001-8000:9001-9000":  nil,
		"80/icmp":              nil,
		"localhost:8080:80":    nil,
		"8080:80:90:100:1/tcp": nil,
	} {
		got, err := ParsePublish(text)
		if want == nil {
			if !errors.Is(err, launcher.ErrInvalid) {
				t.Errorf("%q: %v, %v", text, got, err)
			}
			continue
		}
		var all []string
		for _, p := range got {
			all = append(all, p.String())
		}
		if err != nil || !slices.Equal(all, want) {
			t.Errorf("%q: %v, %v", text, all, err)
		}
	}
	if got, err := ParsePublish("8000-8010:80"); err != nil || len(got) != 1 || got[0].HostEnd != 8010 {
		t.Errorf("one of a range: %v, %v", got, err)
	}
}

func TestPublishedTwice(t *testing.T) {
	ctx := t.Context()
	s := open(t, launchertest.NewSection())
	publish := func(server, text string) error {
		ports := must[[]launcher.Publish](t)(ParsePublish(text))
		return s.setPublished(ctx, Published{Server: server, Name: server, Ports: ports})
	}
	for _, tt := range []struct {
		server, text string
		refused      bool
	}{
		{"a", "127.0.0.1:80:80", false}, {"b", "80:80", true}, {"b", "127.0.0.2:80:80", false},
		{"c", "80:80/udp", false}, {"a", "127.0.0.1:80:81", false}, {"a", "127.0.0.2:80:81", true},
	} {
		if err := publish(tt.server, tt.text); errors.Is(err, launcher.ErrConflict) != tt.refused {
			t.Errorf("%s publishes %s: %v", tt.server, tt.text, err)
		}
	}
}
