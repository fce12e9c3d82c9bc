package images_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/images"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	img := runnable(t, 2)
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "one"})); err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(runnable(t, 1), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		t.Fatal(err)
	}
	archiveDir(t, filepath.Join(dir, "layout"), filepath.Join(dir, "layout.tar"))
	tag, err := name.NewTag("example.com/a:b")
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(filepath.Join(dir, "docker.tar"), tag, img); err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	s := open(t, func(c *images.Config) { c.Dir = state })
	for _, ref := range []string{"oci:" + dir + "/layout:one", "oci-archive:" + dir + "/layout.tar:one", "oci:" + dir + "/layout",
		"docker-archive:" + dir + "/docker.tar", "docker-archive:" + dir + "/docker.tar:example.com/a:b"} {
		i := resolve(t, s, ref, platform)
		if err := drain(i); err != nil || !i.Local || i.Reference != ref {
			t.Errorf("%s: %v", ref, err)
		}
		if r, err := s.Save(t.Context(), i); err != nil || r.Reference != ref {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if i := resolve(t, s, "oci:"+dir+"/layout:one", platform); i.Digest != digest(t, img) {
		t.Error("another image than the tagged")
	}
	compressFile(t, dir+"/docker.tar", dir+"/docker.tar.gz", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil })
	compressFile(t, dir+"/layout.tar", dir+"/layout.tar.zst", func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			return
		}
		defer w.Close()
		if r, err := os.Open(dir + "/docker.tar.gz"); err == nil {
			io.Copy(w, r)
			r.Close()
		}
	}()
	for _, ref := range []string{"docker-archive:" + dir + "/docker.tar.gz", "oci-archive:" + dir + "/layout.tar.zst:one", "docker-archive:" + pipe} {
		if err := drain(resolve(t, s, ref, platform)); err != nil {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(state, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left %v (%v)", left, err)
	}
	if err := os.Truncate(dir+"/docker.tar.gz", 5000); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Resolve(t.Context(), "docker-archive:"+dir+"/docker.tar.gz", platform); !errors.Is(err, images.ErrCorrupt) {
		t.Errorf("a truncated archive: %v", err)
	}
	for _, ref := range []string{"oci:" + dir + "/layout:none", "oci:" + dir, "oci:" + dir + "/nothing", "oci-archive:" + dir + "/nothing",
		"docker-archive:" + dir + "/layout.tar", "docker-archive:" + dir + "/docker.tar:other:tag"} {
		if _, err := s.Resolve(t.Context(), ref, platform); !errors.Is(err, images.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// An archive may come by a pipe; its image is then known by the name that it has
// there.
func TestPiped(t *testing.T) {
	img := runnable(t, 2)
	tag, err := name.NewTag("example.com/a:b")
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := tarball.Write(tag, img, &archive); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		t.Fatal(err)
	}
	archiveDir(t, filepath.Join(dir, "layout"), filepath.Join(dir, "layout.tar"))
	oci, err := os.ReadFile(filepath.Join(dir, "layout.tar"))
	if err != nil {
		t.Fatal(err)
	}

	state := t.TempDir()
	s := open(t, func(c *images.Config) { c.Dir = state })
	never := platform
	never.Pull = images.PullNever
	for ref, test := range map[string]struct {
		archive []byte
		known   string
	}{
		"docker-archive:-":                 {archive.Bytes(), "example.com/a:b"},
		"docker-archive:-:example.com/a:b": {archive.Bytes(), "example.com/a:b"},
		"oci-archive:-":                    {oci, "oci-archive:-"},
		"oci-archive:-:latest":             {oci, "oci-archive:-:latest"},
	} {
		o := platform
		o.Archive = bytes.NewReader(test.archive)
		i := resolve(t, s, ref, o)
		if err := drain(i); err != nil || i.Reference != test.known || !i.Local {
			t.Errorf("%s: %s, %v", ref, i.Reference, err)
		}
		r, err := s.Save(t.Context(), i)
		if err != nil || r.Reference != test.known {
			t.Errorf("%s: %+v, %v", ref, r, err)
		}
		if i := resolve(t, s, r.ID, never); i.Digest != r.Digest {
			t.Errorf("%s: another image by its ID", ref)
		}
	}
	if i := resolve(t, s, "example.com/a:b", never); !i.Local {
		t.Error("not known by its name")
	}

	for what, r := range map[string]io.Reader{
		"nothing":       strings.NewReader(""),
		"half of one":   bytes.NewReader(archive.Bytes()[:archive.Len()/2]),
		"no archive":    strings.NewReader(strings.Repeat("no archive", 1000)),
		"a broken pipe": iotest.ErrReader(io.ErrUnexpectedEOF),
		"none":          nil,
	} {
		o := platform
		o.Archive = r
		if i, err := s.Resolve(t.Context(), "docker-archive:-", o); err == nil {
			t.Errorf("%s: image %s", what, i.Digest)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := platform
	o.Archive = bytes.NewReader(archive.Bytes())
	if _, err := s.Resolve(ctx, "docker-archive:-", o); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(state, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("left %v (%v)", left, err)
	}
}

func compressFile(t testing.TB, from, to string, with func(io.Writer) (io.WriteCloser, error)) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := with(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func archiveDir(t testing.TB, dir, to string) {
	t.Helper()
	f, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
