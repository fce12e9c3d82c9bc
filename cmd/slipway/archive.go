package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
)

// loadArchive makes an image ready that the engine cannot read by itself: one in the
// standard input, or, where the engine is a cloud's service, in a file or directory of
// this host.
func loadArchive(ctx context.Context, engine *client.Client, image string, progress func(launcher.PullProgress)) (loaded bool, _ launcher.Image, err error) {
	ref, archive, err := archiveOf(engine, image)
	if err != nil || archive == nil {
		return false, launcher.Image{}, err
	}
	defer func() { _ = archive.Close() }()
	img, err := engine.Load(ctx, ref, archive, progress)
	return true, img, err
}

// archiveOf opens the archive that an image is to be sent in, nil where it need not be,
// and gives the reference to it that the engine takes.
func archiveOf(engine *client.Client, image string) (string, io.ReadCloser, error) {
	ref, err := images.ParseReference(image)
	switch {
	case err != nil:
		return "", nil, nil //nolint:nilerr // the engine says what is wrong with a reference
	case ref.Piped():
		if isTerminal(os.Stdin) {
			return "", nil, fmt.Errorf("image %s is an archive in the standard input, which is a terminal: pipe one in", image)
		}
		return image, io.NopCloser(os.Stdin), nil
	case ref.Remote() || !engine.Remote():
		return "", nil, nil
	case ref.Transport == images.Layout:
		sent := images.Reference{Transport: images.LayoutArchive, Path: images.Stdin, Tag: ref.Tag}
		return sent.String(), archiveDirectory(ref.Path), nil
	}
	f, err := os.Open(ref.Path)
	return images.Reference{Transport: ref.Transport, Path: images.Stdin, Tag: ref.Tag}.String(), f, err
}

// archiveDirectory is a directory as a tar stream.
func archiveDirectory(dir string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		t := tar.NewWriter(w)
		_ = w.CloseWithError(errors.Join(t.AddFS(os.DirFS(dir)), t.Close()))
	}()
	return r
}

// referenceOf is what an image that was sent is booted by: its name or, where the
// archive had none, its ID.
func referenceOf(img launcher.Image) string {
	if r, err := images.ParseReference(img.Reference); err == nil && !r.Piped() {
		return img.Reference
	}
	return img.ID
}
