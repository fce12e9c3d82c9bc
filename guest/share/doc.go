// Package share is what host and guest agree on before they can speak: the
// names inside the share, the Spec that tells slipway-init what to run, the
// arguments on the kernel command line and the list of modules in the
// initramfs. Package guest gives hosts all of it under its own name.
//
// It is apart from package guest because slipway-init imports it: each
// imported package is initialised before init's first instruction, and under
// emulation those of package guest alone cost 50 ms of every boot. So this
// package, guest/process, guest/agent and guest/boot import little, and
// nothing that does work when it is initialised.
package share
