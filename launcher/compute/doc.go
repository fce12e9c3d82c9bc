// Package compute holds what stands around servers in Nova's world: flavors, key
// pairs, server groups, quotas, aggregates of hosts, and the compute service of
// this one host.
//
// All of it is little and often read, so it is kept in memory and written through
// to a [Store]; one process owns the store. What is handed out is a copy.
//
// Errors match the launcher's kinds and are worded as Nova words them, so that an
// API can pass them on.
package compute
