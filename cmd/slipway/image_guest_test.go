//go:build guest

package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// An image boots from wherever it can come, and is there for the next time.
func TestImageSources(t *testing.T) {
	ociArchive := func(t *testing.T, img v1.Image) string {
		file := filepath.Join(t.TempDir(), "image.tar")
		makeArchive(t, strings.TrimPrefix(ociLayout(t, img), "oci:"), file)
		return "oci-archive:" + file
	}
	dockerArchive := func(t *testing.T, img v1.Image) string {
		file := filepath.Join(t.TempDir(), "image.tar")
		ref, err := name.NewTag("example.org/test/it:1")
		if err != nil {
			t.Fatal(err)
		}
		if err := tarball.WriteToFile(file, ref, img); err != nil {
			t.Fatal(err)
		}
		return "docker-archive:" + file
	}
	tests := []struct {
		name  string
		write func(*testing.T, v1.Image) string
	}{
		{"registry", func(t *testing.T, img v1.Image) string { return newHub(t).push(t, "test/it:1", img) }},
		{"oci", ociLayout},
		{"oci-archive", ociArchive},
		{"docker-archive", dockerArchive},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			// Several layers, the last of which changes what the first has.
			img := layered(t, testImage(t), map[string]string{"etc/passwd": "root:x:0:0:changed:/:/bin/sh\n", "etc/.wh.group": ""})
			ref := tt.write(t, img)
			const script = "cat /etc/passwd; test ! -e /etc/group"
			s.run("boot", "--rm", ref, "sh", "-c", script).ok().says("root:x:0:0:changed:/:/bin/sh\n")
			r := s.run("image", "pull", "--progress", "none", ref).ok()
			if !strings.Contains(r.stdout, "nothing to do") {
				t.Errorf("a second pull: %q", r.stdout)
			}
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if tt.name != "docker-archive" && !strings.Contains(r.stdout, digest.String()) { // its manifest is made up
				t.Errorf("pulled %q, want %s", r.stdout, digest)
			}
			s.run("image", "show", ref, "-f", "value", "-c", "layers").ok().says("2\n")
			s.clean()
		})
	}
}

// makeArchive writes the files below dir to a tar file.
func makeArchive(t *testing.T, dir, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.AddFS(os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// layered adds a layer of files to an image.
func layered(t *testing.T, img v1.Image, files map[string]string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for name, content := range files {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		t.Fatal(err)
	}
	return img
}

// What is pulled is asked for once, shared by images, and deleted with the last of
// them, but not while a server needs it.
func TestImageLife(t *testing.T) {
	t.Parallel()
	s := newState(t)
	h := newHub(t)
	base, err := random.Image(1<<20, 3)
	if err != nil {
		t.Fatal(err)
	}
	one := h.push(t, "test/one", base)
	two := h.push(t, "test/two:v2", layered(t, base, map[string]string{"file": "more"}))
	if r := s.run("image", "pull", one).ok(); !strings.Contains(r.stdout, one+":latest@sha256:") && !strings.Contains(r.stdout, one+"@sha256:") {
		t.Errorf("pulled %q", r.stdout)
	}
	h.through(nil)
	s.run("image", "pull", two).ok().complains("exists")
	if n := h.asked("GET /v2/test/two/blobs/"); n > 2 {
		t.Errorf("%d blobs were fetched, want one layer and one configuration", n)
	}
	h.through(nil)
	s.run("image", "pull", "--quiet", two).ok()
	if n := h.asked("/blobs/"); n > 1 {
		t.Errorf("%d blobs were asked for again, want at most the configuration", n)
	}
	if n := len(layerFiles(t, s)); n != 4 {
		t.Errorf("%d layers, want 4", n)
	}
	s.run("image", "verify").ok().says(one + ":latest: whole\n" + two + ": whole\n")
	damaged := layerFiles(t, s)[0]
	data, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := errors.Join(os.Chmod(damaged, 0o600), os.WriteFile(damaged, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	digest := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(damaged), "sha256-"), ".erofs")
	s.run("image", "verify").exits(1).complains(digest, "corrupt", "pull it again")
	s.run("image", "pull", two).ok().complains("done")
	s.run("image", "verify", two).ok().says(two + ": whole\n")
	s.run("image", "delete", two).ok()
	if n := len(layerFiles(t, s)); n != 3 {
		t.Errorf("%d layers are left, want 3", n)
	}
	s.run("image", "show", two).exits(1).complains(two)
	s.run("image", "delete", one).ok()
	if left := layerFiles(t, s); len(left) != 0 {
		t.Errorf("layers are left: %q", left)
	}
	s.run("image", "list", "-f", "value").ok().says("")

	s.run("boot", "--detach", "--name", "user", busybox, "sh", "-c", "exec sleep 1000").ok()
	s.run("image", "delete", busybox).exits(1).complains("in use", "user")
	s.run("server", "stop", "--timeout", "0s", "user").ok()
	s.run("image", "delete", busybox).exits(1).complains("in use", "user")
	// By force the name goes; what the server runs on stays.
	s.run("image", "delete", "--force", busybox).ok()
	s.run("server", "start", "user").ok()
	s.run("server", "delete", "user").ok()
}

// layerFiles lists the layer images.
func layerFiles(t *testing.T, s *state) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "rootfs/layers/*.erofs"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A registry that wants a password gets it from docker's configuration.
func TestRegistryLogin(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const user, password = "bosun", "p:ss word"
	img, err := random.Image(1000, 1)
	if err != nil {
		t.Fatal(err)
	}
	closed := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				http.Error(w, `{"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}`, http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	h.through(closed)
	ref := h.push(t, "private/it", img, remote.WithAuth(&authn.Basic{Username: user, Password: password}))

	config := func(password string) string {
		dir := t.TempDir()
		auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		writeFile(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths": {%q: {"auth": %q}}}`, h.host, auth))
		return dir
	}
	newState(t, "DOCKER_CONFIG="+config(password)).run("image", "pull", ref).ok()
	wrong := "DOCKER_CONFIG=" + config("wrong")
	// What counts is who asks, not who has started the engine.
	s := newState(t, wrong)
	s.run("image", "pull", ref).exits(1).complains(ref, "nauthorized")
	s.env = environ(s.dir, "DOCKER_CONFIG="+config(password))
	s.run("image", "pull", ref).ok()
	s.env = environ(s.dir, wrong)
	s.run("image", "pull", ref).exits(1).complains(ref, "nauthorized")
	for _, env := range []string{wrong, "DOCKER_CONFIG=/nonexistent"} {
		s := newState(t, env)
		r := s.run("boot", ref).exits(codeSlipway).complains(ref, "nauthorized")
		if strings.Contains(r.stderr, password) {
			t.Errorf("the password is shown: %s", r.stderr)
		}
		s.clean()
	}
}
