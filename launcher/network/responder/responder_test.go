package responder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/metadata"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/network"
)

// servers are those that ask, by ID.
type servers map[string]*launcher.Server

func (s servers) Server(ref string) (launcher.Server, error) {
	if s[ref] == nil {
		return launcher.Server{}, launcher.Errorf(launcher.ErrNotFound, "no server %s", ref)
	}
	return *s[ref], nil
}

func (s servers) Seed(ref string) (*cloudinit.Seed, error) {
	return &cloudinit.Seed{MetaData: cloudinit.MetaData{InstanceID: ref}}, nil
}

func (s servers) Update(_ context.Context, id string, change func(*launcher.Server) error) (launcher.Server, error) {
	return *s[id], change(s[id])
}

// lan is a bridge of a network with a port of server one, and the network's service.
func lan(t *testing.T, sub network.Subnet) (*bridge, *network.Service, network.Port) {
	t.Helper()
	n, err := network.Open(t.Context(), network.Config{Store: launchertest.NewSection()})
	if err != nil {
		t.Fatal(err)
	}
	made, err := n.CreateNetwork(t.Context(), network.Network{Base: network.Base{Name: "lan", Project: "p"}, MTU: 1400})
	if err != nil {
		t.Fatal(err)
	}
	sub.Network = made.ID
	if sub, err = n.CreateSubnet(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	p, err := n.CreatePort(t.Context(), network.Port{
		Base: network.Base{Project: "p"}, Network: made.ID, MAC: "fa:16:3e:00:00:07", Device: "one", Owner: network.OwnerServer, DNSName: "web",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := New(Config{Networks: func() Networks { return n }})
	at := network.Bridge{Name: "br", Network: made, MTU: 1400, Subnets: []network.Subnet{sub}}
	return &bridge{Responder: r, at: at}, n, p
}

func TestLease(t *testing.T) {
	b, n, p := lan(t, network.Subnet{
		CIDR: netip.MustParsePrefix("10.0.0.0/24"), Routes: []network.Route{{Destination: netip.MustParsePrefix("10.8.0.0/16"), NextHop: netip.MustParseAddr("10.0.0.9")}},
	})
	mac, _ := net.ParseMAC(p.MAC)
	l, ok := b.lease(mac)
	if got, want := fmt.Sprint(l), "{10.0.0.2/24 10.0.0.1 [10.0.0.1] [{10.8.0.0/16 10.0.0.9} {169.254.169.254/32 10.0.0.1}] 1400 web openstacklocal}"; !ok || got != want {
		t.Errorf("lease %s, %v\nwant  %s", got, ok, want)
	}
	if _, ok := b.lease(net.HardwareAddr{2, 0, 0, 0, 0, 1}); ok {
		t.Error("a stranger gets a lease")
	}
	other, _, _ := lan(t, network.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/24")})
	other.cfg.Networks = func() Networks { return n } // whose ports are on another network
	if _, ok := other.lease(mac); ok {
		t.Error("a port of another network gets a lease")
	}
	off, _, p := lan(t, network.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/24"), NoDHCP: true})
	mac, _ = net.ParseMAC(p.MAC)
	if _, ok := off.lease(mac); ok || off.gateway().IsValid() {
		t.Error("a lease of a subnet without DHCP")
	}
}

func TestNames(t *testing.T) {
	b, _, _ := lan(t, network.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/24")})
	n := names{b}
	if all, ok := n.Addresses("WEB"); !ok || fmt.Sprint(all) != "[10.0.0.2]" {
		t.Errorf("web is %v, %v", all, ok)
	}
	if all, ok := n.Addresses(""); ok {
		t.Errorf("no name is %v", all)
	}
	for address, want := range map[string]string{"10.0.0.2": "web true", "10.0.0.3": " true", "10.1.0.2": " false"} {
		name, ours := n.Name(netip.MustParseAddr(address))
		if got := fmt.Sprint(name, " ", ours); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

func TestMetadata(t *testing.T) {
	b, n, p := lan(t, network.Subnet{CIDR: netip.MustParsePrefix("10.0.0.0/24")})
	s := source{b}
	at, ctx := netip.MustParseAddr("10.0.0.2"), t.Context()
	if _, err := s.Instance(ctx, at); !errors.Is(err, metadata.ErrNotYet) {
		t.Errorf("before servers are known: %v", err)
	}
	all := servers{}
	b.Connect(all)
	if _, err := s.Instance(ctx, at); !errors.Is(err, metadata.ErrUnknown) {
		t.Errorf("a port of no server: %v", err)
	}
	all["one"] = &launcher.Server{ID: "one", Flavor: launcher.Flavor{Name: "m1.tiny"}}
	for _, from := range []string{"10.0.0.2", "fe80::f816:3eff:fe00:7"} {
		i, err := s.Instance(ctx, netip.MustParseAddr(from))
		if err != nil || i.Seed.MetaData.InstanceID != "one" || i.Flavor != "m1.tiny" || fmt.Sprint(i.SecurityGroups) != "[default]" ||
			i.LocalIPv4 != at || len(i.Seed.Network.Links) != 1 {
			t.Errorf("from %s: %+v, %v", from, i, err)
		}
	}
	for _, from := range []string{"10.0.0.3", "fe80::1"} {
		if i, err := s.Instance(ctx, netip.MustParseAddr(from)); !errors.Is(err, metadata.ErrUnknown) {
			t.Errorf("from %s: %+v, %v", from, i, err)
		}
	}
	if err := s.SetPassword(ctx, at, "x"); err != nil || all["one"].Password != "x" {
		t.Errorf("%q, %v", all["one"].Password, err)
	}
	if err := s.SetPassword(ctx, at, "y"); !errors.Is(err, metadata.ErrPasswordSet) || all["one"].Password != "x" {
		t.Errorf("again: %q, %v", all["one"].Password, err)
	}
	// A port that a user says is a server's does not make it so.
	if _, err := n.UpdatePort(ctx, p.ID, func(p *network.Port) error { p.Owner = ""; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Instance(ctx, at); !errors.Is(err, metadata.ErrUnknown) {
		t.Errorf("of a port that no server owns: %v", err)
	}
}
