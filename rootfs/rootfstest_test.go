package rootfs_test

import "github.com/slipway-vm/slipway/rootfs/rootfstest"

type (
	Entry = rootfstest.Entry
	Layer = rootfstest.Layer
)

var (
	File     = rootfstest.File
	Dir      = rootfstest.Dir
	Symlink  = rootfstest.Symlink
	Link     = rootfstest.Link
	PAX      = rootfstest.PAX
	Tar      = rootfstest.Tar
	Gzip     = rootfstest.Gzip
	Zstd     = rootfstest.Zstd
	Plain    = rootfstest.Plain
	Raw      = rootfstest.Raw
	Image    = rootfstest.Image
	Simple   = rootfstest.Simple
	Numbered = rootfstest.Numbered
)
