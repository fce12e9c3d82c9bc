// Package dns answers DNS on one network: the names and addresses of the servers on
// it, by themselves and in the network's domain, and everything else as the host's
// own resolvers say.
//
// What a guest can make it do is bounded: questions that are being forwarded, the
// time they take, and connections.
package dns
