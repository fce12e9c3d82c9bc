// Package erofs writes and reads EROFS images: the read-only file systems
// that layers are kept as.
//
// [Writer] makes an image in one pass over files that arrive in any order. A
// file's whole blocks go straight to the end of the image; its inode, its
// extended attributes and its last partial block are packed into metadata
// chunks that lie between the data, each written once when it is full.
// Directories, known only when everything has been seen, come last; the super
// block is the very last write, so an image cut short is never mistaken for a
// whole one. Memory is bounded by two buffers plus the directory tree that the
// caller hands to [Writer.Finish].
//
// The format is the subset every kernel since Linux 5.4 mounts: 4 KiB blocks,
// extended (64-byte) inodes, flat plain and flat inline data, inline extended
// attributes, no compression. The same input gives the same bytes.
//
// [Reader] looks names up in such an image without mounting it.
//
// The format is described at https://docs.kernel.org/filesystems/erofs.html
// and in fs/erofs/erofs_fs.h of the Linux source.
package erofs
