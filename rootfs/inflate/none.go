//go:build !cgo || !isal

package inflate

import "io"

func haveNative() bool { return false }

func newNative(io.Reader) io.ReadCloser { return nil }
