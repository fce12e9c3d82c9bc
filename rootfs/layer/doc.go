// Package layer turns one OCI layer, a tar stream, into one layer image, an
// EROFS file system that overlayfs can stack.
//
// [Convert] reads the stream once. File contents pass straight into the image;
// only the directory tree is kept in memory until the end. The tree is the
// package's own, not a directory of the host, so nothing in a layer can
// reach outside: ".." stops at the root, and links on the way to an entry
// are followed inside the tree.
//
// A layer says what it removes from those below it by entries named ".wh.NAME"
// and ".wh..wh..opq". In the image these become what overlayfs has for them:
// a character device 0:0 and the attribute trusted.overlay.opaque. They count
// for the layers below only, so an entry and a whiteout of the same name leave
// the entry, whichever came first.
//
// A directory without an entry of its own, which some entry needs as its
// parent, is made (root's, mode 0755) and reported as implied: where a layer
// below has that directory, its attributes are the ones that count.
package layer
