package dataplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

func parse(t *testing.T, texts ...string) (all []launcher.Publish) {
	t.Helper()
	for _, text := range texts {
		ports, err := network.ParsePublish(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ports...)
	}
	return all
}

// Servers of the host's own users: what docker gives its containers.
func TestServersReachOneAnother(t *testing.T) {
	v := newSite(t)
	other, err := v.s.CreateWithSubnets(t.Context(), network.Network{Base: network.Base{Name: "other"}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, a := v.server("a", "", launcher.Spec{Publish: parse(t, "8080:80", "5353:53/udp", "127.0.0.1:8081:80")})
	_, b := v.server("b", "", launcher.Spec{})
	_, c := v.server("c", "", launcher.Spec{Networks: []launcher.NetworkRequest{{Network: other.ID}}})
	for _, name := range []string{"a", "b", "c"} {
		serve(t, name, "tcp", ":80")
		serve(t, name, "udp", ":53")
	}
	serve(t, "outside", "tcp", ":90")
	serve(t, "", "tcp", ":91")
	for _, version := range []int{4, 6} {
		outside, host, loopback := outside4, host4, "127.0.0.1"
		if version == 6 {
			outside, host, loopback = outside6, host6, "::1"
		}
		on := net.JoinHostPort
		reached(t, "a", "tcp", at(b[0], version, 80), "b")
		reached(t, "", "tcp", at(b[0], version, 80), "b")
		reached(t, "a", "tcp", on(outside, "90"), "outside")
		for _, from := range []string{"outside", "", "a", "b", "c"} {
			reached(t, from, "tcp", on(host, "8080"), "a")
			reached(t, from, "udp", on(host, "5353"), "a")
		}
		reached(t, "", "tcp", on(loopback, "8080"), "a")
		reached(t, "", "udp", on(loopback, "5353"), "a")
		unreached(t, "a", "tcp", at(c[0], version, 80))
		unreached(t, "c", "tcp", at(a[0], version, 80))
		unreached(t, "outside", "tcp", on(host, "8081"))
		for _, from := range []string{"a", "c"} { // the host's own services
			unreached(t, from, "tcp", on(host, "91"))
			unreached(t, from, "tcp", net.JoinHostPort(gateway(v, a[0], version), "91"))
		}
	}
	reached(t, "", "tcp", "127.0.0.1:8081", "a")
}

func gateway(v *site, nic launcher.NIC, version int) string {
	for _, s := range v.s.SubnetsOf(nic.Network) {
		if s.Version() == version {
			return s.Gateway.String()
		}
	}
	return ""
}

// Servers of projects: nothing reaches them but what a rule allows.
func TestSecurityGroups(t *testing.T) {
	ctx := t.Context()
	v := newSite(t)
	_, a := v.server("a", "one", launcher.Spec{})
	_, b := v.server("b", "one", launcher.Spec{})
	v.server("c", "two", launcher.Spec{})
	serve(t, "a", "tcp", ":80")
	serve(t, "a", "tcp", ":81")
	serve(t, "outside", "tcp", ":90")
	ip(t, "-n outside route add 10.64.0.0/10 via "+host4)
	for _, version := range []int{4, 6} {
		reached(t, "b", "tcp", at(a[0], version, 80), "a") // the default group lets its own in
		unreached(t, "c", "tcp", at(a[0], version, 80))
		unreached(t, "", "tcp", at(a[0], version, 80))
	}
	unreached(t, "outside", "tcp", at(a[0], 4, 80))
	group, err := v.s.DefaultGroup(ctx, "one")
	if err != nil {
		t.Fatal(err)
	}
	port := 80
	rule, err := v.s.CreateRule(ctx, network.Rule{
		Group: group.ID, Direction: network.Ingress, EtherType: "IPv4", Protocol: "tcp", Min: &port, Max: &port,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{"c", "", "outside"} {
		reached(t, from, "tcp", at(a[0], 4, 80), "a")
		unreached(t, from, "tcp", at(a[0], 4, 81))
	}
	unreached(t, "c", "tcp", at(a[0], 6, 80))
	if err := v.s.DeleteRule(ctx, rule.ID); err != nil {
		t.Fatal(err)
	}
	unreached(t, "c", "tcp", at(a[0], 4, 80))
	for _, r := range v.s.RulesOf(group.ID) {
		if r.Direction == network.Egress {
			if err := v.s.DeleteRule(ctx, r.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	unreached(t, "b", "tcp", at(a[0], 4, 80))
	unreached(t, "b", "tcp", outside4+":90")
	if len(b) != 1 {
		t.Errorf("interfaces %v", b)
	}
}

// A port sends from its own addresses or not at all.
func TestSpoofing(t *testing.T) {
	v := newSite(t)
	_, a := v.server("a", "", launcher.Spec{})
	_, b := v.server("b", "", launcher.Spec{})
	serve(t, "b", "tcp", ":80")
	serve(t, "b", "udp", ":53")
	reached(t, "a", "tcp", at(b[0], 4, 80), "b")
	own := a[0].Addresses[0]
	foreign := netip.PrefixFrom(own.Addr().Next().Next().Next(), own.Bits())
	for name, change := range map[string][2]string{
		"address": {fmt.Sprintf("addr add %s dev eth0", foreign), fmt.Sprintf("addr del %s dev eth0", foreign)},
		"MAC":     {"link set eth0 address fa:16:3e:00:00:01", "link set eth0 address " + a[0].MAC},
	} {
		ip(t, "-n a "+change[0])
		if name == "address" {
			ip(t, fmt.Sprintf("-n a route replace default via %s src %s", gateway(v, a[0], 4), foreign.Addr()))
			ip(t, fmt.Sprintf("-n a route replace %s dev eth0 src %s", own.Masked(), foreign.Addr()))
		}
		unreached(t, "a", "udp", at(b[0], 4, 53))
		unreached(t, "a", "tcp", at(b[0], 4, 80))
		if name == "address" {
			ip(t, fmt.Sprintf("-n a route replace %s dev eth0 src %s", own.Masked(), own.Addr()))
		}
		ip(t, "-n a "+change[1])
	}
	// ARP for another's address: the host must not learn it.
	ip(t, fmt.Sprintf("-n a addr add %s dev eth0", b[0].Addresses[0]))
	_ = exec.Command("ip", "netns", "exec", "a", "busybox", "arping", "-c", "2", "-U", "-I", "eth0", b[0].Addresses[0].Addr().String()).Run()
	reached(t, "", "tcp", at(b[0], 4, 80), "b")
	ip(t, fmt.Sprintf("-n a addr del %s dev eth0", b[0].Addresses[0]))
	reached(t, "a", "tcp", at(b[0], 4, 80), "b")
}

func TestFloatingIPReachesItsServer(t *testing.T) {
	ctx := t.Context()
	v := newSite(t)
	outside, err := v.s.CreateNetwork(ctx, network.Network{External: true})
	if err != nil {
		t.Fatal(err)
	}
	pool := []network.Range{{Start: netip.MustParseAddr("203.0.113.100"), End: netip.MustParseAddr("203.0.113.110")}}
	_, err = v.s.CreateSubnet(ctx, network.Subnet{Network: outside.ID, CIDR: netip.MustParsePrefix("203.0.113.0/24"), Pools: pool})
	if err != nil {
		t.Fatal(err)
	}
	_, a := v.server("a", "", launcher.Spec{})
	serve(t, "a", "tcp", ":80")
	serve(t, "outside", "tcp", ":90")
	f, err := v.s.CreateFloatingIP(ctx, network.FloatingIP{Network: outside.ID, Port: a[0].Port})
	if err != nil {
		t.Fatal(err)
	}
	unreached(t, "outside", "tcp", f.IP.String()+":80") // the group does not allow it
	group, err := v.s.DefaultGroup(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.s.CreateRule(ctx, network.Rule{Group: group.ID, Direction: network.Ingress, EtherType: "IPv4"}); err != nil {
		t.Fatal(err)
	}
	reached(t, "outside", "tcp", f.IP.String()+":80", "a")
	reached(t, "", "tcp", f.IP.String()+":80", "a")
	reached(t, "a", "tcp", outside4+":90", "outside")
	if err := v.s.DeleteFloatingIP(ctx, f.ID); err != nil {
		t.Fatal(err)
	}
	unreached(t, "outside", "tcp", f.IP.String()+":80")
}

func TestThousandPublishedPorts(t *testing.T) {
	ctx := t.Context()
	v := newSite(t)
	srv, _ := v.server("a", "", launcher.Spec{})
	serve(t, "a", "tcp", ":9999")
	begin := time.Now()
	if err := v.s.Publish(ctx, &srv, parse(t, "20000-20999:9000-9999")); err != nil {
		t.Fatal(err)
	}
	t.Logf("1,000 ports were published in %s", time.Since(begin))
	reached(t, "outside", "tcp", host4+":20999", "a")
	reached(t, "", "tcp", "127.0.0.1:20999", "a")
	begin = time.Now()
	if err := v.s.Publish(ctx, &srv, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("and published no more in %s", time.Since(begin))
	unreached(t, "outside", "tcp", host4+":20999")
	for _, port := range []int{20000, 20999} {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			t.Errorf("the port is not free: %v", err)
			continue
		}
		l.Close()
	}
	out, err := exec.Command("nft", "list", "table", "inet", v.plane.table).CombinedOutput()
	if err != nil || strings.Contains(string(out), "2099") {
		t.Errorf("rules: %v: %s", err, out)
	}
}

func TestPortInUse(t *testing.T) {
	v := newSite(t)
	srv, _ := v.server("a", "", launcher.Spec{Publish: parse(t, "8080:80")})
	other := launcher.Server{ID: "b", Name: "b"}
	serve(t, "", "tcp", "127.0.0.1:8090")
	for _, tt := range []struct{ server, text, holder string }{
		{"b", "8080:80", "server a"}, {"b", "8090:80", "(process "}, {"b", "192.0.2.7:80:80", "no such address"},
	} {
		err := v.s.Publish(t.Context(), &other, parse(t, tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.holder) {
			t.Errorf("publish %s: %v, want %q", tt.text, err, tt.holder)
		}
	}
	if err := v.s.Publish(t.Context(), &srv, parse(t, "8080:80", "8090:81")); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("publish a port in use beside another: %v", err)
	}
	serve(t, "a", "tcp", ":80")
	reached(t, "outside", "tcp", host4+":8080", "a") // as before
	if err := v.s.Publish(t.Context(), &srv, parse(t, "8080-8095:80", "80")); err != nil {
		t.Fatal(err)
	}
	for _, p := range v.s.PublishedOf("a") {
		reached(t, "outside", "tcp", fmt.Sprintf("%s:%d", host4, p.HostPort), "a")
	}
}

// Tables that another firewall has flushed are made again; an engine that was killed
// leaves all as it was, and the next one takes it over.
func TestRulesComeBack(t *testing.T) {
	v := newSite(t)
	srv, _ := v.server("a", "", launcher.Spec{Publish: parse(t, "8080:80")})
	serve(t, "a", "tcp", ":80")
	reached(t, "outside", "tcp", host4+":8080", "a")
	if out, err := exec.Command("nft", "flush", "ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if out, err := exec.Command("nft", "list", "table", "inet", v.plane.table).CombinedOutput(); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the table is not made again: %s", out)
		}
	}
	reached(t, "outside", "tcp", host4+":8080", "a")
	if err := v.s.Close(); err != nil { // an engine's end takes the proxies alone
		t.Fatal(err)
	}
	reached(t, "outside", "tcp", host4+":8080", "a")
	unreached(t, "", "tcp", "127.0.0.1:8080")
	v.open()
	if err := v.s.Reconcile(t.Context(), map[string]bool{"a": true}); err != nil {
		t.Fatal(err)
	}
	reached(t, "outside", "tcp", host4+":8080", "a")
	reached(t, "", "tcp", "127.0.0.1:8080", "a")
	// A server that is gone without a word leaves nothing.
	if err := v.s.Reconcile(context.WithoutCancel(t.Context()), nil); err != nil {
		t.Fatal(err)
	}
	if found := left(t, v.plane); len(found) > 0 {
		t.Errorf("left of server %s: %v", srv.Name, found)
	}
}

// Bandwidth comes from the flavor.
func TestBandwidth(t *testing.T) {
	v := newSite(t)
	srv := launcher.Server{ID: "a", Name: "a", Flavor: launcher.Flavor{ExtraSpecs: map[string]string{
		"quota:vif_inbound_average": "1024", "quota:vif_outbound_average": "2048",
	}}}
	if _, err := v.s.Allocate(t.Context(), &srv); err != nil {
		t.Fatal(err)
	}
	plugged, err := v.s.Plug(t.Context(), &srv)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tc", "qdisc", "show", "dev", plugged.NICs[0].Tap).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "tbf") || !strings.Contains(string(out), "rate 8388Kbit") {
		t.Errorf("inwards: %v: %s", err, out)
	}
	out, err = exec.Command("nft", "list", "table", "bridge", v.plane.table).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "limit rate over 2 mbytes/second") {
		t.Errorf("outwards: %v: %s", err, out)
	}
	if err := v.s.Release(context.WithoutCancel(t.Context()), "a"); err != nil {
		t.Fatal(err)
	}
	if found := left(t, v.plane); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}

// What is made for a server that is yet to come is that server's, or goes.
func TestSpare(t *testing.T) {
	v := newSite(t)
	ctx := context.WithoutCancel(t.Context())
	link := func(name string) *netlink.LinkAttrs {
		t.Helper()
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs()
	}
	nics, err := v.s.Spare(ctx, "a", []int{1450, 1500})
	if err != nil {
		t.Fatal(err)
	}
	for i, mtu := range []int{1450, 1500} {
		if a := link(nics[i].Tap); a.MasterIndex != 0 || a.Flags&net.FlagUp != 0 || a.MTU != mtu {
			t.Errorf("spare tap %+v", a)
		}
	}
	srv := launcher.Server{ID: "a", Name: "a"}
	if srv.NICs, err = v.s.Allocate(ctx, &srv); err != nil {
		t.Fatal(err)
	}
	plugged, err := v.s.Plug(ctx, &srv)
	if err != nil {
		t.Fatal(err)
	}
	if got := plugged.NICs; len(got) != 1 || got[0].Tap != nics[0].Tap || got[0].MAC != nics[0].MAC || srv.NICs[0].MAC != nics[0].MAC {
		t.Errorf("plugged is %+v, spare was %+v", got, nics[0])
	}
	if a := link(nics[0].Tap); a.MasterIndex == 0 || a.Flags&net.FlagUp == 0 || a.MTU != plugged.NICs[0].MTU {
		t.Errorf("plugged tap %+v", a)
	}
	if _, err := netlink.LinkByName(nics[1].Tap); err == nil {
		t.Error("the tap is there that the server has no port for")
	}
	if _, err := v.s.Spare(ctx, "b", []int{1500}); err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"a", "b"} {
		if err := v.s.Release(ctx, server); err != nil {
			t.Fatal(err)
		}
	}
	if found := left(t, v.plane); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
}

// A bridge keeps its MAC, which servers have noted, whoever joins it and leaves.
func TestBridgeKeepsItsMAC(t *testing.T) {
	v := newSite(t)
	_, a := v.server("a", "", launcher.Spec{})
	_, b := v.server("b", "", launcher.Spec{})
	serve(t, "b", "tcp", ":80")
	network, err := v.s.Network(a[0].Network)
	if err != nil {
		t.Fatal(err)
	}
	mac := func() string {
		l, err := netlink.LinkByName(network.Bridge)
		if err != nil {
			t.Fatal(err)
		}
		return l.Attrs().HardwareAddr.String()
	}
	reached(t, "a", "tcp", at(b[0], 4, 80), "b")
	before := mac()
	v.server("c", "", launcher.Spec{})
	ip(t, "link set "+tapOf(b[0])+" address 02:00:00:00:00:01")
	for _, version := range []int{4, 6} {
		if got, err := ask(t, "a", "tcp", at(b[0], version, 80), silence); got != "b" {
			t.Errorf("after a lower MAC has joined: %q, %v", got, err)
		}
	}
	if now := mac(); now != before {
		t.Errorf("the bridge's MAC was %s and is %s", before, now)
	}
}
