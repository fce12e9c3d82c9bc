package dataplane

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A rule is matches and a verdict, in the order in which nftables does them. What
// is compared passes through register 1.
type rule = []expr.Any

func join(parts ...rule) rule { return slices.Concat(parts...) }

// The registers of 32 bits lie over those of 128: the first four are register 1.
const (
	register = 1
	word     = unix.NFT_REG32_00
)

func verdict(kind expr.VerdictKind, chain string) rule {
	return rule{&expr.Verdict{Kind: kind, Chain: chain}}
}

var (
	accept = verdict(expr.VerdictAccept, "")
	drop   = verdict(expr.VerdictDrop, "")
	reject = rule{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
)

func jump(chain string) rule { return verdict(expr.VerdictJump, chain) }

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func differ(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

func meta(key expr.MetaKey) expr.Any { return &expr.Meta{Key: key, Register: register} }

// ifname is an interface's name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func from(iface string) rule { return rule{meta(expr.MetaKeyIIFNAME), equal(ifname(iface))} }

func to(iface string) rule { return rule{meta(expr.MetaKeyOIFNAME), equal(ifname(iface))} }

func notTo(iface string) rule { return rule{meta(expr.MetaKeyOIFNAME), differ(ifname(iface))} }

// in asks whether what a rule has loaded is in a set.
func in(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID}
}

func notIn(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: s.Name, SetID: s.ID, Invert: true}
}

// by does what a verdict map says of what a rule has loaded.
func by(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: register, DestRegister: 0, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}
}

// version matches IPv4 or IPv6, in family inet.
func version(v int) rule {
	family := byte(unix.NFPROTO_IPV4)
	if v == 6 {
		family = unix.NFPROTO_IPV6
	}
	return rule{meta(expr.MetaKeyNFPROTO), equal([]byte{family})}
}

func versionOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func payload(base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
}

// The addresses of an IP packet.
func source(v int) expr.Any {
	if v == 4 {
		return payload(expr.PayloadBaseNetworkHeader, 12, 4)
	}
	return payload(expr.PayloadBaseNetworkHeader, 8, 16)
}

func destination(v int) expr.Any {
	if v == 4 {
		return payload(expr.PayloadBaseNetworkHeader, 16, 4)
	}
	return payload(expr.PayloadBaseNetworkHeader, 24, 16)
}

// within compares the address that load loads with a prefix, of the same version.
func within(load expr.Any, p netip.Prefix) rule {
	return append(rule{load}, prefixEqual(p)...)
}

func prefixEqual(p netip.Prefix) rule {
	p = p.Masked()
	bytes := p.Addr().AsSlice()
	if p.IsSingleIP() {
		return rule{equal(bytes)}
	}
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return rule{
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(bytes)), Mask: mask, Xor: make([]byte, len(bytes))},
		equal(bytes),
	}
}

func protocol(number byte) rule { return rule{meta(expr.MetaKeyL4PROTO), equal([]byte{number})} }

// The ports of TCP and UDP; of ICMP, type and code.
func sourcePort(port uint16) rule {
	return rule{payload(expr.PayloadBaseTransportHeader, 0, 2), equal(binaryutil.BigEndian.PutUint16(port))}
}

func destinationPort(port uint16) rule {
	return rule{payload(expr.PayloadBaseTransportHeader, 2, 2), equal(binaryutil.BigEndian.PutUint16(port))}
}

func destinationPorts(first, last uint16) rule {
	if first == last {
		return destinationPort(first)
	}
	return rule{
		payload(expr.PayloadBaseTransportHeader, 2, 2),
		&expr.Range{Op: expr.CmpOpEq, Register: register, FromData: binaryutil.BigEndian.PutUint16(first), ToData: binaryutil.BigEndian.PutUint16(last)},
	}
}

func transportByte(offset uint32, value byte) rule {
	return rule{payload(expr.PayloadBaseTransportHeader, offset, 1), equal([]byte{value})}
}

// The bits of a connection's state and status, of the kernel's
// nf_conntrack_common.h.
const (
	ctInvalid     = 1
	ctEstablished = 2
	ctRelated     = 4
	ctDNAT        = 1 << 5
)

func bits(key expr.CtKey, mask uint32, op expr.CmpOp) rule {
	return rule{
		&expr.Ct{Key: key, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: register, Data: make([]byte, 4)},
	}
}

func state(mask uint32) rule { return bits(expr.CtKeySTATE, mask, expr.CmpOpNeq) }

// translated matches connections whose destination was changed; direct all others.
func translated() rule { return bits(expr.CtKeySTATUS, ctDNAT, expr.CmpOpNeq) }
func direct() rule     { return bits(expr.CtKeySTATUS, ctDNAT, expr.CmpOpEq) }

// toHost matches packets that are addressed to this host.
func toHost() rule {
	return rule{
		&expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true},
		equal(binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)),
	}
}

func etherType(t uint16) rule {
	return rule{meta(expr.MetaKeyPROTOCOL), equal(binary.BigEndian.AppendUint16(nil, t))}
}

func etherSource(mac net.HardwareAddr) rule {
	return rule{payload(expr.PayloadBaseLLHeader, 6, 6), equal(mac)}
}

// nat changes an address, and the port where there is a register for it.
func nat(kind expr.NATType, v int, portRegister uint32) expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if v == 6 {
		family = unix.NFPROTO_IPV6
	}
	return &expr.NAT{Type: kind, Family: family, RegAddrMin: register, RegProtoMin: portRegister}
}

// atMost drops what is more than a rate of bytes a second.
func atMost(rate uint64, burst uint32) rule {
	return append(rule{&expr.Limit{Type: expr.LimitTypePktBytes, Rate: rate, Over: true, Unit: expr.LimitTimeSecond, Burst: burst}}, drop...)
}
