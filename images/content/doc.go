// Package content keeps files that are named by what is in them, and is how
// anything in Slipway's stores becomes durable.
//
// A [Store] holds blobs: manifests, configurations, and the layers that nobody else
// has (the others are kept unpacked, by package rootfs). A blob is in the store if and
// only if it has its final name, and then it is whole: it was written beside, its
// digest checked, synced, renamed, and the directory synced. Blobs are read-only and
// never change.
//
// [Temporary], [Commit] and [Sweep] are that order of steps for other files, and
// [Locks] is how processes that share a directory keep out of one another's way.
package content
