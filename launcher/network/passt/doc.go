// Package passt gives servers the host's network through passt, which any user may
// run: one process for each server, between QEMU and the sockets that it opens for
// what the guest sends. It runs on when the engine ends, is found again by its
// server's directory, and ends itself with QEMU.
//
// Inside, the addresses are those that QEMU's own user mode network has: the guest is
// 10.0.2.15, and 10.0.2.2 is its gateway and the host's loopback interface.
//
// See https://passt.top.
package passt
