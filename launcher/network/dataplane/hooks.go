package dataplane

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The priorities are those that nft calls dstnat, srcnat and filter.
const (
	priorityDNAT   = -100
	priorityFilter = 0
	prioritySNAT   = 100
)

// fromBridges and toBridges match what comes from servers and goes to them.
func (f *filter) fromBridges() rule { return rule{meta(expr.MetaKeyIIFNAME), in(f.bridges)} }
func (f *filter) toBridges() rule   { return rule{meta(expr.MetaKeyOIFNAME), in(f.bridges)} }

// destinations leads what is addressed to this host to the servers that it is for.
func (f *filter) destinations() {
	pre := f.hook("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, priorityDNAT)
	http := join(protocol(unix.IPPROTO_TCP), destinationPort(80))
	f.rule(pre, f.fromBridges(), version(4), rule{destination(4), equal(metadata4.AsSlice())}, http, redirect(MetadataPort))
	f.rule(pre, f.fromBridges(), version(6), rule{destination(6), equal(metadata6.AsSlice())}, http, redirect(MetadataPort))
	own := f.hook("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, priorityDNAT)
	// The proxy answers what comes from the host to its loopback interface.
	f.rule(own, version(4), rule{payload(expr.PayloadBaseNetworkHeader, 16, 1), equal([]byte{127})}, accept)
	f.rule(own, version(6), rule{destination(6), equal(loopback6.AsSlice())}, accept)
	for _, c := range []*nftables.Chain{pre, own} {
		for _, v := range versions {
			f.rule(c, version(v), rule{destination(v), lookup("floating" + suffix(v)), nat(expr.NATTypeDestNAT, v, 0)})
		}
	}
	// What servers publish other servers reach by the proxy, too: where frames on
	// bridges pass through these chains (br_netfilter), one whose destination becomes
	// a server of the same bridge is not routed, but bridged.
	f.rule(pre, f.fromBridges(), accept)
	for _, c := range []*nftables.Chain{pre, own} {
		for _, v := range versions {
			behind := word + map[int]uint32{4: 1, 6: 4}[v] // the word after an address
			for _, found := range f.toPublished(v) {
				f.rule(c, found, rule{nat(expr.NATTypeDestNAT, v, behind)})
			}
		}
	}
}

// toPublished matches what is addressed to a port of the host that is published, and
// loads where that leads.
func (f *filter) toPublished(v int) []rule {
	return []rule{
		join(version(v), toHost(), load(v, destination), rule{lookup("published" + suffix(v) + "-by-address")}),
		join(version(v), toHost(), load(v, nil), rule{lookup("published" + suffix(v))}),
	}
}

// redirect leads to a port of this host.
func redirect(port uint16) rule {
	return rule{
		&expr.Immediate{Register: register, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register},
	}
}

// sources hides servers behind this host's addresses.
func (f *filter) sources() {
	c := f.hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, prioritySNAT)
	masquerade := rule{&expr.Masq{}}
	for _, b := range f.st.Bridges {
		for _, s := range b.Subnets {
			v := s.Version()
			// A server that reaches its neighbour, or itself, by the host's address must
			// have its answer by the host as well.
			f.rule(c, to(b.Name), version(v), within(source(v), s.CIDR), translated(), masquerade)
		}
	}
	for _, v := range versions {
		outside := join(version(v), rule{meta(expr.MetaKeyOIFNAME), notIn(f.bridges)})
		f.rule(c, outside, rule{source(v), lookup("floating-of" + suffix(v)), nat(expr.NATTypeSourceNAT, v, 0)})
	}
	for _, b := range f.st.Bridges {
		for _, s := range b.Subnets {
			v := s.Version()
			f.rule(c, version(v), rule{meta(expr.MetaKeyOIFNAME), notIn(f.bridges)}, within(source(v), s.CIDR), masquerade)
		}
	}
}

// input lets servers reach of this host what answers them, and nothing else.
func (f *filter) input() {
	c := f.hook("input", nftables.ChainTypeFilter, nftables.ChainHookInput, priorityFilter)
	f.rule(c, rule{meta(expr.MetaKeyIIFNAME), notIn(f.bridges)}, accept)
	f.rule(c, state(ctEstablished|ctRelated), accept)
	f.rule(c, protocol(unix.IPPROTO_ICMP), accept)
	f.rule(c, protocol(unix.IPPROTO_ICMPV6), accept)
	for _, port := range []uint16{53, 67, 547} { // DNS, DHCP
		f.rule(c, protocol(unix.IPPROTO_UDP), destinationPort(port), accept)
	}
	for _, port := range []uint16{53, MetadataPort} {
		f.rule(c, protocol(unix.IPPROTO_TCP), destinationPort(port), accept)
	}
	for _, v := range versions {
		for _, found := range f.toPublished(v) {
			f.rule(c, found, accept)
		}
	}
	f.rule(c, reject)
}

// egress decides what may leave a server.
func (f *filter) egress() {
	c := f.hook("egress", nftables.ChainTypeFilter, nftables.ChainHookForward, priorityFilter)
	f.rule(c, rule{meta(expr.MetaKeyIIFNAME), notIn(f.bridges)}, accept)
	f.rule(c, state(ctEstablished|ctRelated), accept)
	f.rule(c, state(ctInvalid), drop)
	for _, b := range f.st.Bridges {
		// What another network publishes is for everybody.
		f.rule(c, from(b.Name), notTo(b.Name), f.toBridges(), direct(), drop)
	}
	for _, v := range versions {
		f.rule(c, version(v), rule{source(v), by(f.fromPort[v])})
	}
	f.pairs(c, source, "egress-")
	f.rule(c, drop)
}

// ingress decides what may reach a server.
func (f *filter) ingress() {
	c := f.hook("ingress", nftables.ChainTypeFilter, nftables.ChainHookForward, priorityFilter+1)
	f.rule(c, rule{meta(expr.MetaKeyOIFNAME), notIn(f.bridges)}, accept)
	f.rule(c, state(ctEstablished|ctRelated), accept)
	for _, v := range versions {
		f.rule(c, version(v), translated(), load(v, destination), rule{in(f.published[v])}, accept)
	}
	f.toPorts(c)
}

// output decides what of this host itself may reach a server.
func (f *filter) output() {
	c := f.hook("local", nftables.ChainTypeFilter, nftables.ChainHookOutput, priorityFilter)
	f.rule(c, rule{meta(expr.MetaKeyOIFNAME), notIn(f.bridges)}, accept)
	// Servers of one network are each other's neighbours, but by this host alone.
	f.rule(c, version(4), protocol(unix.IPPROTO_ICMP), transportByte(0, 5), drop)
	f.rule(c, version(6), protocol(unix.IPPROTO_ICMPV6), transportByte(0, 137), drop)
	f.rule(c, state(ctEstablished|ctRelated), accept)
	for _, kind := range []byte{134, 135, 136} { // router advertisement, ND
		f.rule(c, version(6), protocol(unix.IPPROTO_ICMPV6), transportByte(0, kind), accept)
	}
	for _, port := range []uint16{67, 547} {
		f.rule(c, protocol(unix.IPPROTO_UDP), sourcePort(port), accept)
	}
	for _, v := range versions {
		f.rule(c, version(v), load(v, destination), rule{in(f.published[v])}, accept)
		f.rule(c, version(v), rule{destination(v), in(f.open[v])}, accept)
	}
	f.toPorts(c)
}

// toPorts leads to the chain of the port that a packet is for.
func (f *filter) toPorts(c *nftables.Chain) {
	for _, v := range versions {
		f.rule(c, version(v), rule{destination(v), by(f.toPort[v])})
	}
	f.pairs(c, destination, "ingress-")
	f.rule(c, drop)
}

// pairs leads addresses that a port has beside its own to the port's chain.
func (f *filter) pairs(c *nftables.Chain, load func(int) expr.Any, chain string) {
	for i := range f.st.Taps {
		t := &f.st.Taps[i]
		if t.Down || t.NoPortSecurity {
			continue
		}
		for _, p := range t.AddressPairs {
			v := versionOf(p.IP.Addr())
			f.rule(c, version(v), within(load(v), p.IP), verdict(expr.VerdictGoto, chain+t.ID))
		}
	}
}
