// Package guest prepares what a micro-VM boots: a guest kernel, the initramfs
// that carries slipway-init and the kernel's modules, the kernel command line,
// and the Spec that tells slipway-init what to run.
//
// Vocabulary: a guest kernel is an ELF vmlinux with a PVH entry, kept in a
// KernelStore by the digest of everything that belongs to it. The stock kernel
// is the distribution's own package, unpacked but never installed on the host.
// The share is the one directory the guest is given (by virtiofs or 9p); it
// holds the seed, the root and the volumes, at the paths named by the
// constants of package share.
//
// Invariants: a kernel in the store is immutable and complete (it is renamed
// into place after it has been synced), an initramfs depends only on its
// inputs' bytes, and nothing here runs code from, or follows a link out of, a
// file it is given.
package guest
