// Package boot is slipway-init: PID 1 of a guest, from the kernel's hand-over
// to the power-off.
//
// It mounts what it needs, loads the modules that the devices at hand ask for,
// opens the agent's port, mounts the share, reads the seed and starts the
// entrypoint, which is PID 1 of a pid namespace and a mount namespace of its
// own with the share's root as its root. From then on it reaps, keeps output,
// answers the agent, and at the end powers the guest off.
//
// Invariants: a step that fails ends the boot: the reason goes to the console
// and, where the agent's port is open, to the host, and the guest powers off.
// The entrypoint's output goes to the agent only and init's messages to the
// console only. After the entrypoint's end the guest stays until a host has
// acknowledged everything.
package boot
