// Package responder answers the servers of networks on their bridges: DNS, DHCP and
// the metadata service. It listens on each bridge by itself, and knows who asks by
// the bridge and by the address that the packet comes from, which the bridge lets
// through from that server's port alone.
package responder
