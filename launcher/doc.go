// Package launcher turns requests for servers into running micro-VMs and keeps
// them in order until they are deleted.
//
// A Manager owns the servers of one state directory. It brings together what the
// packages images, rootfs, guest and cloudinit make, runs the result on a
// Hypervisor, and records every server in a Store. The adapters to libvirt, to
// SQLite and to HTTP live below this package; none of them knows another.
//
// A server rests in a VM state and passes through task states, both Nova's:
//
//	         create                     entrypoint started
//	(none) ─────────▶ building/spawning ───────────────────▶ active
//	                     │      │                             │ ▲
//	              failed │      │ failed, RemoveFailed        │ │ start:
//	                     ▼      ▼                             │ │ powering-on
//	                   error   deleted ◀── AutoRemove ─┐      │ │
//	                     │                             │      ▼ │
//	                     │ delete: deleting      entrypoint ended, or stop:
//	                     ▼                       powering-off
//	                  deleted ◀───────────────────── stopped
//	                                 delete
//
// One goroutine, the server's run, takes it from spawning to its end; all other
// actions are requests to that goroutine or happen while there is none. What a
// run makes it takes back in reverse: domain, mounts, and, where the server is
// deleted, its directory and its record.
//
// The engine may end at any moment, killed included. Domains go on without it,
// the guest keeps what the entrypoint writes, and a Manager that opens the same
// state directory picks everything up where it was.
package launcher
