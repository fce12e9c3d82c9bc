// Package vmtest boots real guests under QEMU to test what only a guest can
// show. Its tests need the build tag "guest" and are told by the environment
// what to boot:
//
//	SLIPWAY_TEST_KERNEL  a kernel file: the minimal kernel, a Debian package
//	SLIPWAY_TEST_INIT    the slipway-init binary
//
// They run QEMU with emulation (TCG), so deadlines are generous.
package vmtest
