package images_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images"
)

// oneFile writes a layer of one file.
func oneFile(name string) func(io.Writer) error {
	return func(w io.Writer) error {
		t := tar.NewWriter(w)
		if err := t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
			return err
		}
		return t.Close()
	}
}

// An image that is made of another has its layers, from where they came from, and
// its own, from here, as long as it is remembered.
func TestCommit(t *testing.T) {
	f := serve(t)
	ref := f.host + "/base:1"
	src := runnable(t, 2)
	push(t, ref, src)
	var dir string
	s := open(t, func(c *images.Config) { dir = c.Dir })
	base := resolve(t, s, ref, images.ResolveOptions{})
	if _, err := s.Save(t.Context(), base); err != nil {
		t.Fatal(err)
	}
	one, err := s.Commit(t.Context(), base, "made", "of a server", oneFile("one"))
	if err != nil {
		t.Fatal(err)
	}
	if one.Reference != "docker.io/library/made:latest" || !one.Own || len(one.DiffIDs) != 3 {
		t.Errorf("record %+v", one)
	}
	made := resolve(t, s, "made", images.ResolveOptions{})
	if !made.Local || made.Digest != one.Digest {
		t.Errorf("resolved %+v", made)
	}
	if err := s.Verify(t.Context(), one); err != nil {
		t.Error(err)
	}
	two, err := s.Commit(t.Context(), made, "localhost/made:2", "again", oneFile("two"))
	if err != nil {
		t.Fatal(err)
	}
	checkConfig(t, src, one, 1)
	checkConfig(t, src, two, 2)
	// The base is forgotten, and what was made of it is whole.
	for _, what := range []string{base.Reference, "made"} {
		if _, err := s.Delete(t.Context(), what); err != nil {
			t.Fatal(err)
		}
	}
	second := resolve(t, s, two.ID[:12], images.ResolveOptions{})
	if _, err := s.Save(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second = resolve(t, s, "localhost/made:2", images.ResolveOptions{Pull: images.PullNever})
	if err := drain(second); err != nil {
		t.Error(err)
	}
	spoilLayer(t, filepath.Join(dir, "blobs/sha256"))
	if err := s.Verify(t.Context(), two); !errors.Is(err, images.ErrCorrupt) {
		t.Errorf("a layer that was changed: %v", err)
	}
	if _, err := s.Delete(t.Context(), two.ID); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"blobs/sha256", "tmp"} {
		if left, err := os.ReadDir(filepath.Join(dir, d)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v (%v)", d, left, err)
		}
	}
}

// checkConfig compares a configuration with the one that it was made of.
func checkConfig(t *testing.T, src v1.Image, r images.Record, more int) {
	t.Helper()
	was, err := src.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(r.Config.History), len(was.History)+more; got != want {
		t.Errorf("%d entries of history, not %d", got, want)
	}
	last := r.Config.History[len(r.Config.History)-1]
	if last.Created.IsZero() || last.Comment == "" || last.EmptyLayer || !r.Config.Created.Equal(last.Created.Time) {
		t.Errorf("history %+v, created %v", last, r.Config.Created)
	}
	got, err := json.Marshal(r.Config.Config)
	if err != nil {
		t.Fatal(err)
	}
	want, err := json.Marshal(was.Config)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("config %s, not %s", got, want)
	}
}

func TestCommitRefuses(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/base:1", runnable(t, 1))
	var dir string
	s := open(t, func(c *images.Config) { dir = c.Dir })
	base := resolve(t, s, f.host+"/base:1", images.ResolveOptions{})
	for _, ref := range []string{"", "Upper", "glance:x", "oci:/tmp/x"} {
		if _, err := s.Commit(t.Context(), base, ref, "", oneFile("x")); !errors.Is(err, images.ErrInvalidReference) {
			t.Errorf("%q: %v", ref, err)
		}
	}
	broken := errors.New("broken")
	if _, err := s.Commit(t.Context(), base, "made", "", func(io.Writer) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left %v (%v)", left, err)
	}
}

// spoilLayer changes a byte of a layer in dir.
func spoilLayer(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var name string
	var data []byte
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 2 && b[0] == 0x1f && b[1] == 0x8b { // a layer
			name, data = filepath.Join(dir, f.Name()), b
		}
	}
	data[len(data)-1] ^= 1
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, data, 0o600)); err != nil {
		t.Fatal(err)
	}
}
