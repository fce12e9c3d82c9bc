// Package rootfs keeps the root file systems of servers.
//
// Its words:
//
//   - A layer image is one OCI layer as a read-only EROFS file, named by the
//     layer's diff ID. It is made once ([Store.Unpack]), in one pass over the
//     layer's stream, and never changes.
//   - A base is the ordered stack of an image's layer images, and of mends where
//     layers say too little to be stacked as they are.
//   - An overlay is one server's clone of a base: upper.img, a sparse ext4 file
//     system that bounds the bytes and inodes the server can write, and a
//     record of the base it belongs to. A server's whole state is that file.
//
// Invariants, which hold after a crash at any instant:
//
//   - A layer image is in the store if and only if its record is; the record
//     is renamed into place last and removed first, so whatever has a record
//     is whole and was checked against its diff ID.
//   - Half-made things lie under tmp, locked by who makes them; [Open] removes
//     those that nobody holds.
//   - What is mounted is asked of the kernel, never remembered: a restarted
//     engine releases what its predecessor mounted.
//
// Processes sharing a directory exclude one another by locks of the kernel,
// which die with their holder.
package rootfs
