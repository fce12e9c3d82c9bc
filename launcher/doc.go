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
//	        create: scheduling, spawning
//	(none) ──────────────▶ building ─────▶ active ◀────────────▶ paused
//	                          │             │ ▲   pausing, unpausing
//	                   failed │  entrypoint │ │
//	                          ▼      ended, │ │ start: powering-on
//	                        error     stop: ▼ │
//	                          ▲ powering-off stopped
//
//	reboot    active                    ─▶ rebooting      ─▶ reboot_started      ─▶ active
//	  (hard)  any but building, resized ─▶ rebooting_hard ─▶ reboot_started_hard ─▶ active
//	suspend   active                    ─▶ suspending                            ─▶ suspended
//	resume    suspended                 ─▶ resuming                              ─▶ active
//	rebuild   active, error             ─▶ rebuilding     ─▶ rebuild_spawning    ─▶ active
//	          stopped                   ─▶ rebuilding                            ─▶ stopped
//	resize    active                    ─▶ resize_prep    ─▶ resize_finish       ─▶ resized
//	          stopped                   ─▶ resize_prep                           ─▶ resized
//	confirm   resized                                                  ─▶ active or stopped
//	revert    resized                   ─▶ resize_reverting ─▶ resize_finish     ─▶ active
//	delete    any                       ─▶ deleting                              ─▶ deleted
//
// The first of two tasks takes the server down and changes it, the second boots it.
// A boot that fails leads to error, from where start tries again. rules.go decides
// every pair of state and action.
//
// One goroutine, the server's run, takes it from the start of its boot to its end;
// other actions are requests to that goroutine, or work beside it or between two
// runs. What a run makes it takes back in reverse: domain, mounts, and, where the
// server is deleted, its directory and its record; the record of a project's server
// is kept for a while, and with it what was done to the server.
//
// Only so many roots are made and so many guests boot at once; the other servers
// wait for their turn in the state that they are in. All work has a deadline, and
// ends at once where its server is deleted.
//
// The engine may end at any moment, killed included. Domains go on without it,
// the guest keeps what the entrypoint writes, and a Manager that opens the same
// state directory picks everything up where it was: a boot, or work that a task
// stands for, is done again from its beginning.
package launcher
