// Package dataplane makes on this host what package network's records say: bridges,
// taps, the rules of nftables, and what listens on published ports.
//
// A network is a bridge with the addresses of its subnets' gateways. A port is a tap
// on it. Taps with port security are isolated from one another: whatever goes from
// one server to the next is routed by the host, which answers ARP and ND for all of
// them, and so meets the same rules as what comes from outside. Ethernet that is no
// IP goes nowhere, and neither does IP's own broadcast. (The rules need connection
// tracking, which kernels have for what is routed, but not all for what is bridged.)
//
// There are two tables, named by the state directory's identity. The one of family
// bridge sees each frame that comes from a tap, and drops those whose addresses are
// not the port's. The one of family inet is for the rest: destination NAT of what is
// published, source NAT of what leaves, security groups, and that no server reaches
// another network or this host. Tables are replaced as a whole, in one transaction.
// Who else deletes them finds them made again.
//
// From the loopback interface, and from servers, published ports are reached by a
// proxy in this process: a packet from 127.0.0.1 or ::1 that is routed elsewhere would
// need the kernel to trust that address on a bridge. The proxy's socket holds the
// port against the host's other processes, too.
package dataplane
