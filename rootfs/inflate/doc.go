// Package inflate decompresses gzip streams with the fastest decoder there is.
//
// Decompression is most of what unpacking an image costs. ISA-L (libisal, in
// Debian libisal2 and libisal-dev) is about three times as fast as any decoder in
// Go. It is used when the package is built with cgo and the tag "isal", for
// which its header must be installed, and the library is there when the program
// runs; otherwise, and on processors it is not made for, klauspost's is.
//
// Both read streams of several members, check each one's checksum and length,
// and refuse what follows the last one.
package inflate

import (
	"io"

	"github.com/klauspost/compress/gzip"
)

// NewReader reads the gzip stream r. Closing it frees memory, but does not
// close r.
func NewReader(r io.Reader) (io.ReadCloser, error) {
	if z := newNative(r); z != nil {
		return z, nil
	}
	return gzip.NewReader(r)
}

// Native says whether ISA-L is in use.
func Native() bool { return haveNative() }
