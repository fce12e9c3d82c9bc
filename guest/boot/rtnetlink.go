package boot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// rtnetlink changes the network, see rtnetlink(7). It is not a library's since boots
// wait for it: where a guest is emulated, what a library does for generality's sake takes
// longer than the changes.
type rtnetlink struct {
	fd     int
	number uint32 // of the latest request
}

func openRTNetlink() (*rtnetlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("reach the kernel's network: %w", err)
	}
	return &rtnetlink{fd: fd}, nil
}

func (r *rtnetlink) close() { unix.Close(r.fd) }

// setLink gives an interface a name and an MTU, where these are not empty and 0.
func (r *rtnetlink) setLink(l link, name string, mtu int) error {
	q := request{l.info(false)}
	if name != "" {
		q.attribute(unix.IFLA_IFNAME, append([]byte(name), 0))
	}
	if mtu != 0 {
		q.attribute32(unix.IFLA_MTU, mtu)
	}
	return r.do(unix.RTM_NEWLINK, 0, q)
}

func (r *rtnetlink) raise(l link) error { return r.do(unix.RTM_NEWLINK, 0, request{l.info(true)}) }

// info is a struct ifinfomsg: family, padding, type, index, flags, change of flags.
func (l link) info(up bool) []byte {
	info := make([]byte, unix.SizeofIfInfomsg)
	native.PutUint32(info[4:], uint32(l.index))
	if up {
		native.PutUint32(info[8:], unix.IFF_UP)
		native.PutUint32(info[12:], unix.IFF_UP)
	}
	return info
}

// addAddress gives an interface an address. Nobody else has it: the host sees to that.
func (r *rtnetlink) addAddress(l link, p netip.Prefix) error {
	// A struct ifaddrmsg: family, length of the prefix, flags, scope, index.
	q := request{[]byte{familyOf(p.Addr()), byte(p.Bits()), unix.IFA_F_NODAD, unix.RT_SCOPE_UNIVERSE}}
	q.append32(l.index)
	address := p.Addr().AsSlice()
	q.attribute(unix.IFA_LOCAL, address)
	q.attribute(unix.IFA_ADDRESS, address)
	if p.Addr().Is4() && p.Bits() < 31 {
		broadcast := binary.BigEndian.Uint32(address) | ^uint32(0)>>p.Bits()
		q.attribute(unix.IFA_BROADCAST, binary.BigEndian.AppendUint32(nil, broadcast))
	}
	return r.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, q)
}

// addRoute replaces one to the same destination.
func (r *rtnetlink) addRoute(l link, route share.Route) error {
	// A struct rtmsg: family, lengths of destination and source, type of service,
	// table, protocol, scope, type; and flags.
	q := request{[]byte{
		familyOf(route.Via), byte(route.To.Bits()), 0, 0,
		unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST,
	}}
	q.append32(0)
	q.attribute(unix.RTA_DST, route.To.Masked().Addr().AsSlice())
	q.attribute(unix.RTA_GATEWAY, route.Via.AsSlice())
	q.attribute32(unix.RTA_OIF, l.index)
	return r.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, q)
}

func familyOf(a netip.Addr) byte {
	if a.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// do makes a request and waits for its answer.
func (r *rtnetlink) do(kind, flags uint16, q request) error {
	r.number++
	m := native.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(q.body)))
	m = native.AppendUint16(m, kind)
	m = native.AppendUint16(m, flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = native.AppendUint32(m, r.number)
	m = native.AppendUint32(m, 0)
	m = append(m, q.body...)
	if err := unix.Sendto(r.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	// The kernel has done it by now. Its answer has the request's number, and ends with
	// the request where that failed.
	answer := make([]byte, unix.SizeofNlMsghdr+4+len(m))
	n, _, err := unix.Recvfrom(r.fd, answer, unix.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || native.Uint16(answer[4:]) != unix.NLMSG_ERROR || native.Uint32(answer[8:]) != r.number {
		return errors.New("an answer of the kernel's that was not asked for")
	}
	if errno := unix.Errno(-int32(native.Uint32(answer[unix.SizeofNlMsghdr:]))); errno != 0 {
		return errno
	}
	return nil
}

var native = binary.NativeEndian

// request is what follows the header of one: its fixed part, then attributes.
type request struct{ body []byte }

func (q *request) append32(value int) { q.body = native.AppendUint32(q.body, uint32(value)) }

func (q *request) attribute(kind uint16, value []byte) {
	q.body = native.AppendUint16(q.body, uint16(unix.SizeofRtAttr+len(value)))
	q.body = append(native.AppendUint16(q.body, kind), value...)
	for len(q.body)%unix.RTA_ALIGNTO != 0 {
		q.body = append(q.body, 0)
	}
}

func (q *request) attribute32(kind uint16, value int) {
	q.attribute(kind, native.AppendUint32(nil, uint32(value)))
}
