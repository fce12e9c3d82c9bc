// Package kernel carries how the minimal guest kernel is built, so that an
// installed slipway can do it: a script and what it reads.
package kernel

import "embed"

// Files are the script "build", which says how it is used, and what it reads.
//
//go:embed build minimal.config emulated.patch
var Files embed.FS
