// Package network keeps networks and what belongs to them, and gives servers their
// place in them. The words are Neutron's:
//
//   - A network is a broadcast domain: on this host a bridge, which is there while
//     a server is plugged into it.
//   - A subnet is a range of a network's addresses, IPv4 or IPv6, with a gateway
//     (the bridge's own address) and pools that addresses are allocated from.
//   - A port is a place in a network: a MAC, fixed IPs, security groups. The device
//     that it belongs to is a server; plugged, the port is a tap on the bridge.
//   - A security group is a list of rules that say what may reach a port and what
//     may leave it. Nothing else may: a port without rules is silent.
//   - A floating IP is an address of the host that stands for one fixed IP.
//   - A publication is a port of the host that leads to a port of a server, as
//     docker's --publish has it. It lets everybody reach that port of the server,
//     whatever its security groups say.
//
// A Service holds these records, finds free addresses, and refuses what cannot be;
// its errors are of the launcher's kinds, worded as Neutron's. What is committed to
// its store is true; bridges, taps and rules are made from it and can be made again.
//
// All networks share the host's routing, so subnets do not overlap, whichever
// project's they are. The network "default" is made when it is first needed and is
// shared by all projects; so is for each project its security group "default".
package network
