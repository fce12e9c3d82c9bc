package dataplane

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher/network"
)

// MetadataPort is where the metadata service is reached on a bridge by those who
// ask 169.254.169.254 (or fe80::a9fe:a9fe) on port 80. The host itself may be a
// server that has this address for something else.
const MetadataPort = 8775

// The addresses of the metadata service, as OpenStack has them.
var (
	metadata4 = netip.MustParseAddr("169.254.169.254")
	metadata6 = netip.MustParseAddr("fe80::a9fe:a9fe")
)

// versions are those of IP.
var versions = []int{4, 6}

// filter is the table of family inet while it is made.
type filter struct {
	*batch
	st      *network.State
	bridges *nftables.Set
	// For each version of IP: what the addresses of servers are looked up in.
	toPort, fromPort, open map[int]*nftables.Set
	published              map[int]*nftables.Set // guest's addresses and ports
	members                map[string]map[int]*nftables.Set
}

// inet makes the table of family inet.
func inet(conn *nftables.Conn, name string, st *network.State) error {
	f := &filter{
		batch: replace(conn, nftables.TableFamilyINet, name), st: st,
		toPort: map[int]*nftables.Set{}, fromPort: map[int]*nftables.Set{}, open: map[int]*nftables.Set{},
		published: map[int]*nftables.Set{}, members: map[string]map[int]*nftables.Set{},
	}
	var names []nftables.SetElement
	for _, b := range st.Bridges {
		names = append(names, nftables.SetElement{Key: ifname(b.Name)})
	}
	f.bridges = f.set(&nftables.Set{Name: "bridges", KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}, names)
	f.groups()
	f.ports()
	f.publications()
	f.destinations()
	f.sources()
	f.input()
	f.egress()
	f.ingress()
	f.output()
	return f.err
}

func addressType(v int) nftables.SetDatatype {
	if v == 4 {
		return nftables.TypeIPAddr
	}
	return nftables.TypeIP6Addr
}

func suffix(v int) string {
	if v == 4 {
		return "4"
	}
	return "6"
}

// ports makes the chains of each port, and the maps that lead to them.
func (f *filter) ports() {
	to, from, open := map[int][]nftables.SetElement{}, map[int][]nftables.SetElement{}, map[int][]nftables.SetElement{}
	for i := range f.st.Taps {
		t := &f.st.Taps[i]
		in, out := f.portChains(t)
		for _, a := range t.Addresses {
			v, key := versionOf(a), a.AsSlice()
			to[v] = append(to[v], nftables.SetElement{Key: key, VerdictData: in})
			from[v] = append(from[v], nftables.SetElement{Key: key, VerdictData: out})
			if t.Open {
				open[v] = append(open[v], nftables.SetElement{Key: key})
			}
		}
	}
	for _, v := range versions {
		f.toPort[v] = f.set(&nftables.Set{Name: "to" + suffix(v), IsMap: true, KeyType: addressType(v), DataType: nftables.TypeVerdict}, to[v])
		f.fromPort[v] = f.set(&nftables.Set{Name: "from" + suffix(v), IsMap: true, KeyType: addressType(v), DataType: nftables.TypeVerdict}, from[v])
		f.open[v] = f.set(&nftables.Set{Name: "open" + suffix(v), KeyType: addressType(v)}, open[v])
	}
}

// portChains are what decides of what goes to a port and comes from it.
func (f *filter) portChains(t *network.Tap) (in, out *expr.Verdict) {
	switch {
	case t.Down:
		return &expr.Verdict{Kind: expr.VerdictDrop}, &expr.Verdict{Kind: expr.VerdictDrop}
	case t.NoPortSecurity:
		return &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictAccept}
	}
	for _, d := range []network.Direction{network.Ingress, network.Egress} {
		c := f.chain(string(d) + "-" + t.ID)
		for _, g := range t.SecurityGroups {
			f.rule(c, jump(string(d)+"-"+g))
		}
		f.rule(c, drop)
	}
	return &expr.Verdict{Kind: expr.VerdictGoto, Chain: string(network.Ingress) + "-" + t.ID},
		&expr.Verdict{Kind: expr.VerdictGoto, Chain: string(network.Egress) + "-" + t.ID}
}

// groups makes two chains of each security group, which accept what its rules do.
func (f *filter) groups() {
	for id, addresses := range f.st.Members {
		f.members[id] = map[int]*nftables.Set{}
		elements := map[int][]nftables.SetElement{}
		for _, a := range addresses {
			elements[versionOf(a)] = append(elements[versionOf(a)], nftables.SetElement{Key: a.AsSlice()})
		}
		for _, v := range versions {
			f.members[id][v] = f.set(&nftables.Set{Name: "members" + suffix(v) + "-" + id, KeyType: addressType(v)}, elements[v])
		}
	}
	for id, rules := range f.st.Groups {
		inwards, outwards := f.chain(string(network.Ingress)+"-"+id), f.chain(string(network.Egress)+"-"+id)
		for _, r := range rules {
			c, load := inwards, source
			if r.Direction == network.Egress {
				c, load = outwards, destination
			}
			v := 4
			if r.EtherType == "IPv6" {
				v = 6
			}
			match := version(v)
			if r.RemotePrefix.IsValid() {
				match = append(match, within(load(v), r.RemotePrefix)...)
			}
			if r.RemoteGroup != "" {
				match = append(match, load(v), in(f.members[r.RemoteGroup][v]))
			}
			f.rule(c, match, protocolOf(r), accept)
		}
	}
}

// protocolOf matches a rule's protocol and its ports, or types and codes.
func protocolOf(r network.Rule) rule {
	number := r.ProtocolNumber()
	if number < 0 {
		return nil
	}
	match := protocol(byte(number))
	switch {
	case r.Min == nil:
	case number == unix.IPPROTO_ICMP || number == unix.IPPROTO_ICMPV6:
		match = append(match, transportByte(0, byte(*r.Min))...)
		if r.Max != nil {
			match = append(match, transportByte(1, byte(*r.Max))...)
		}
	default:
		match = append(match, destinationPorts(uint16(*r.Min), uint16(*r.Max))...)
	}
	return match
}

// publications makes the maps from ports of the host, of all its addresses or of
// one, and the sets of what they lead to.
func (f *filter) publications() {
	type maps struct{ all, one, guest []nftables.SetElement }
	elements := map[int]*maps{4: {}, 6: {}}
	for _, p := range f.st.Published {
		for _, guest := range p.Guests {
			v := versionOf(guest)
			if p.HostIP.IsValid() && versionOf(p.HostIP) != v {
				continue
			}
			key := join4([]byte{number(p.Protocol)}, binaryutil.BigEndian.PutUint16(p.HostPort))
			value := join4(guest.AsSlice(), binaryutil.BigEndian.PutUint16(p.GuestPort))
			m := elements[v]
			if p.HostIP.IsValid() {
				m.one = append(m.one, nftables.SetElement{Key: join4(p.HostIP.AsSlice(), key), Val: value})
			} else {
				m.all = append(m.all, nftables.SetElement{Key: key, Val: value})
			}
			m.guest = append(m.guest, nftables.SetElement{Key: join4(guest.AsSlice(), []byte{number(p.Protocol)}, binaryutil.BigEndian.PutUint16(p.GuestPort))})
		}
	}
	for _, v := range versions {
		f.published[v] = f.set(&nftables.Set{
			Name: "guests" + suffix(v), Concatenation: true,
			KeyType: nftables.MustConcatSetType(addressType(v), nftables.TypeInetProto, nftables.TypeInetService),
		}, unique(elements[v].guest))
		target := nftables.MustConcatSetType(addressType(v), nftables.TypeInetService)
		f.set(&nftables.Set{
			Name: "published" + suffix(v), IsMap: true, Concatenation: true, DataType: target,
			KeyType: nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService),
		}, elements[v].all)
		f.set(&nftables.Set{
			Name: "published" + suffix(v) + "-by-address", IsMap: true, Concatenation: true, DataType: target,
			KeyType: nftables.MustConcatSetType(addressType(v), nftables.TypeInetProto, nftables.TypeInetService),
		}, elements[v].one)
	}
	f.floating("floating", func(x network.Floating) (netip.Addr, netip.Addr) { return x.IP, x.Fixed })
	f.floating("floating-of", func(x network.Floating) (netip.Addr, netip.Addr) { return x.Fixed, x.IP })
}

func (f *filter) floating(name string, pair func(network.Floating) (key, value netip.Addr)) {
	elements := map[int][]nftables.SetElement{}
	for _, x := range f.st.Floating {
		key, value := pair(x)
		elements[versionOf(key)] = append(elements[versionOf(key)], nftables.SetElement{Key: key.AsSlice(), Val: value.AsSlice()})
	}
	for _, v := range versions {
		f.set(&nftables.Set{Name: name + suffix(v), IsMap: true, KeyType: addressType(v), DataType: addressType(v)}, elements[v])
	}
}

func number(protocol string) byte {
	if protocol == "udp" {
		return unix.IPPROTO_UDP
	}
	return unix.IPPROTO_TCP
}

// join4 puts the parts of a concatenation together, each padded to whole words.
func join4(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p...)
		for len(all)%4 != 0 {
			all = append(all, 0)
		}
	}
	return all
}

// unique drops elements whose keys are there already.
func unique(elements []nftables.SetElement) []nftables.SetElement {
	seen := map[string]bool{}
	var all []nftables.SetElement
	for _, e := range elements {
		if !seen[string(e.Key)] {
			seen[string(e.Key)] = true
			all = append(all, e)
		}
	}
	return all
}

// load puts what a concatenation is of into registers: an address where there is
// one, protocol and port.
func load(v int, address func(int) expr.Any) rule {
	var all rule
	next := uint32(word)
	if address != nil {
		all = append(all, address(v))
		next += map[int]uint32{4: 1, 6: 4}[v]
	}
	return append(all,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// lookup puts what a map says of register 1 in its place.
func lookup(name string) expr.Any {
	return &expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: name}
}
