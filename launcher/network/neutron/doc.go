// Package neutron speaks to OpenStack's network service for package network: it finds
// networks, security groups and ports, and makes, binds and removes ports.
//
// Requests are made by Slipway's own user, who must be allowed to make ports of other
// projects and to bind them: Neutron's policies want the role admin, as they do of
// Nova's. What a project may use is decided as Neutron decides it: its own networks,
// shared ones, and those that it was given (RBAC).
package neutron
