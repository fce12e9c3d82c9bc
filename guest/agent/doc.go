// Package agent is the conversation between a guest and its host: the wire
// format, the guest's end (Server) and the host's end (Client).
//
// It has three layers. The port is a virtio-serial port, a byte pipe whose
// host end is a unix socket of QEMU. The host may vanish at any byte and come
// back; what was in flight is then lost, or arrives late in the middle of
// something else. The link makes sessions of that: self-synchronising frames
// with a checksum, a sequence number and the number of a session, which the
// host draws at random and starts; frames of other sessions are dropped, and
// the newest session wins. In a session, yamux carries one stream per call,
// opened by the host, on which length-prefixed messages travel.
//
// Invariants: the guest keeps output until a host has acknowledged it, and
// gives every host that asks the same bytes at the same offsets. The guest
// waits for a host without limit. Whatever the guest sends, the host's memory
// stays bounded, it accepts no stream, and it uses no name or path from the
// guest to find anything on the host.
package agent
