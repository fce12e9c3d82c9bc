package images_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/slipway-vm/slipway/images"
)

// FuzzArchive feeds archives of images. What is refused is refused for a reason, and
// of what is taken each layer is either read or found not to be what it should.
func FuzzArchive(f *testing.F) {
	f.Fuzz(func(t *testing.T, archive []byte, layout bool, tag string) {
		s := open(t)
		ref := "docker-archive:-"
		if layout {
			ref = "oci-archive:-"
		}
		if tag != "" {
			ref += ":" + tag
		}
		if r, err := images.ParseReference(ref); err == nil && !r.Piped() {
			t.Skip("another file")
		}
		o := platform
		o.Archive = bytes.NewReader(archive)
		i, err := s.Resolve(t.Context(), ref, o)
		if err != nil {
			known(t, err)
			return
		}
		layers, err := i.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			rc, err := l.Compressed()
			if err == nil {
				_, err = io.Copy(io.Discard, rc)
				rc.Close()
			}
			known(t, err)
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
}

// known tells the errors that say whose fault they are from the others.
func known(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, kind := range []error{images.ErrCorrupt, images.ErrNotFound, images.ErrUnsupported, images.ErrAmbiguous, images.ErrInvalidReference} {
		if errors.Is(err, kind) {
			return
		}
	}
	t.Errorf("error of no kind: %v", err)
}
