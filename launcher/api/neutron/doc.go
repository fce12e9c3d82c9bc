// Package neutron answers OpenStack's network API, v2.0, out of package network: the
// part of it that servers need. Networks, subnets, ports, security groups with their
// rules, and floating IPs can be made and changed; the host routes between all of
// them, so there are no routers to be made, and lists of what does not exist here are
// empty.
//
// Each kind of resource is a table of its attributes: how one is shown, whether a
// request may set it, and who. Bodies, views, filters and sorting all go by it.
package neutron
