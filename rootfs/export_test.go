package rootfs

import (
	"context"
	"crypto/sha256"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Decompress gives a layer's tar stream as Unpack reads it.
func Decompress(l v1.Layer) (io.ReadCloser, error) {
	rc, err := openLayer(context.Background(), l)
	if err != nil {
		return nil, err
	}
	return decompress(rc, newMemory(1<<30).draft(context.Background()))
}

// Floor is the least that unpacking a layer can cost.
func Floor(l v1.Layer, digests bool) error {
	rc, err := openLayer(context.Background(), l)
	if err != nil {
		return err
	}
	defer rc.Close()
	source, sink := io.Reader(rc), io.Discard
	if digests {
		source, sink = io.TeeReader(rc, sha256.New()), sha256.New()
	}
	z, err := decompress(source, newMemory(1<<30).draft(context.Background()))
	if err != nil {
		return err
	}
	defer z.Close()
	_, err = io.CopyBuffer(struct{ io.Writer }{sink}, struct{ io.Reader }{z}, make([]byte, blockBytes))
	return err
}
