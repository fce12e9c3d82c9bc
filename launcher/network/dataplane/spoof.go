package dataplane

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher/network"
)

// priorityBridge is before all filtering of the family bridge.
const priorityBridge = -300

var loopback6 = netip.IPv6Loopback()

// bridge makes the table of family bridge: what may come from each tap.
func bridge(conn *nftables.Conn, name string, st *network.State) error {
	b := replace(conn, nftables.TableFamilyBridge, name)
	var taps, protected []nftables.SetElement
	for i := range st.Taps {
		t := &st.Taps[i]
		v := expr.Verdict{Kind: expr.VerdictAccept}
		switch {
		case t.Down:
			v.Kind = expr.VerdictDrop
		case !t.NoPortSecurity || t.Bandwidth.Outbound.Average > 0:
			v.Kind, v.Chain = expr.VerdictGoto, t.ID
			b.tap(b.chain(t.ID), t)
		}
		taps = append(taps, nftables.SetElement{Key: ifname(t.Port.Tap), VerdictData: &v})
		if !t.NoPortSecurity {
			protected = append(protected, nftables.SetElement{Key: ifname(t.Port.Tap)})
		}
	}
	byTap := b.set(&nftables.Set{Name: "taps", IsMap: true, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian, DataType: nftables.TypeVerdict}, taps)
	secure := b.set(&nftables.Set{Name: "protected", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}, protected)
	pre := b.hook("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityBridge)
	b.rule(pre, rule{meta(expr.MetaKeyIIFNAME), by(byTap)})
	// What protected taps exchange goes by the host.
	forward := b.hook("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, priorityBridge)
	b.rule(forward, rule{meta(expr.MetaKeyIIFNAME), in(secure)}, drop)
	b.rule(forward, rule{meta(expr.MetaKeyOIFNAME), in(secure)}, drop)
	return b.err
}

// sender is addresses that a port may send from.
type sender struct {
	mac net.HardwareAddr
	ip  netip.Prefix
}

func senders(t *network.Tap) []sender {
	mac, _ := net.ParseMAC(t.MAC) // it was checked when it was recorded
	var all []sender
	for _, a := range t.Addresses {
		all = append(all, sender{mac, netip.PrefixFrom(a, a.BitLen())})
	}
	local := linkLocal(mac)
	all = append(all, sender{mac, netip.PrefixFrom(local, local.BitLen())})
	for _, p := range t.AddressPairs {
		own := mac
		if p.MAC != "" {
			own, _ = net.ParseMAC(p.MAC)
		}
		all = append(all, sender{own, p.IP.Masked()})
	}
	return all
}

// linkLocal is the address that an interface gives itself (RFC 4291, appendix A).
func linkLocal(mac net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// burst is the least that a limit lets through at once, in bytes: a packet of the
// most that segmentation offload makes.
const burst = 128 << 10

// tap fills a port's chain.
func (b *batch) tap(c *nftables.Chain, t *network.Tap) {
	if r := t.Bandwidth.Outbound; r.Average > 0 {
		b.rule(c, atMost(uint64(r.Average)<<10, uint32(max(burst, r.Burst<<10))))
	}
	if t.NoPortSecurity {
		b.rule(c, accept)
		return
	}
	ip4, ip6, arp := etherType(unix.ETH_P_IP), etherType(unix.ETH_P_IPV6), etherType(unix.ETH_P_ARP)
	udp, icmp6 := protocol(unix.IPPROTO_UDP), protocol(unix.IPPROTO_ICMPV6)
	all := senders(t)
	// DHCP is answered by the host alone, and so are routers' advertisements, and
	// redirects.
	b.rule(c, ip4, udp, sourcePort(67), drop)
	b.rule(c, ip6, udp, sourcePort(547), drop)
	b.rule(c, ip6, icmp6, transportByte(0, 134), drop)
	b.rule(c, ip6, icmp6, transportByte(0, 137), drop)
	b.rule(c, ip4, etherSource(all[0].mac), rule{source(4), equal(netip.IPv4Unspecified().AsSlice())}, udp, sourcePort(68), destinationPort(67), accept)
	b.neighbours(c, all)
	for _, s := range all {
		if s.ip.Addr().Is4() {
			b.rule(c, ip4, etherSource(s.mac), within(source(4), s.ip), accept)
			hardware := rule{payload(expr.PayloadBaseNetworkHeader, 8, 6), equal(s.mac)}
			b.rule(c, arp, etherSource(s.mac), hardware, within(payload(expr.PayloadBaseNetworkHeader, 14, 4), s.ip), accept)
			// A probe, whether the address is taken (RFC 5227).
			probe := rule{payload(expr.PayloadBaseNetworkHeader, 14, 4), equal(netip.IPv4Unspecified().AsSlice())}
			b.rule(c, arp, etherSource(s.mac), hardware, probe, within(payload(expr.PayloadBaseNetworkHeader, 24, 4), s.ip), accept)
		} else {
			b.rule(c, ip6, etherSource(s.mac), within(source(6), s.ip), accept)
		}
	}
	b.rule(c, drop)
}

// neighbours lets a port speak for its own IPv6 addresses alone.
func (b *batch) neighbours(c *nftables.Chain, all []sender) {
	ip6, icmp6 := etherType(unix.ETH_P_IPV6), protocol(unix.IPPROTO_ICMPV6)
	target := payload(expr.PayloadBaseTransportHeader, 8, 16)
	none := rule{source(6), equal(netip.IPv6Unspecified().AsSlice())}
	for _, s := range all {
		if s.ip.Addr().Is4() {
			continue
		}
		advertised := join(ip6, etherSource(s.mac), icmp6, transportByte(0, 136), within(target, s.ip))
		for _, from := range all {
			if from.ip.Addr().Is6() {
				b.rule(c, advertised, within(source(6), from.ip), accept)
			}
		}
		// The host answers for all servers of a network; asked whether an address is
		// taken it must not answer the one that has it.
		b.rule(c, ip6, none, icmp6, transportByte(0, 135), within(target, s.ip), drop)
	}
	b.rule(c, ip6, icmp6, transportByte(0, 136), drop)
	for _, kind := range []byte{133, 135, 143} { // router solicitation, ND, MLD
		b.rule(c, ip6, etherSource(all[0].mac), none, icmp6, transportByte(0, kind), accept)
	}
}
