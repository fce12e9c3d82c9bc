package images_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-vm/slipway/images"
)

// fakeRegistry serves images in memory; before, if set, may answer instead.
type fakeRegistry struct {
	host string

	mu       sync.Mutex
	before   func(w http.ResponseWriter, r *http.Request) bool
	requests []string
}

func serve(t testing.TB) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		before := f.before
		f.requests = append(f.requests, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		if before == nil || !before(w, r) {
			inner.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	f.host = strings.TrimPrefix(s.URL, "http://")
	return f
}

func (f *fakeRegistry) answer(before func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.requests = before, nil
}

func (f *fakeRegistry) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

func push(t testing.TB, ref string, img v1.Image) {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, change ...func(*images.Config)) *images.Store {
	t.Helper()
	c := images.Config{Dir: t.TempDir(), Keychain: authn.NewMultiKeychain()}
	for _, f := range change {
		f(&c)
	}
	s, err := images.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func resolve(t testing.TB, s *images.Store, ref string, o images.ResolveOptions) *images.Image {
	t.Helper()
	i, err := s.Resolve(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// drain reads all layers.
func drain(i *images.Image) error {
	layers, err := i.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		rc, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, rc)
		rc.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// runnable is a random image for this platform.
func runnable(t testing.TB, layers int64, change ...func(*v1.ConfigFile)) v1.Image {
	t.Helper()
	img, err := random.Image(10000, layers)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	for _, f := range change {
		f(c)
	}
	if img, err = mutate.ConfigFile(img, c); err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t testing.TB, i interface{ Digest() (v1.Hash, error) }) v1.Hash {
	t.Helper()
	h, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var platform = images.ResolveOptions{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}

func TestParseReference(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ in, want string }{
		{"nginx", "docker.io/library/nginx:latest"},
		{"docker.io/nginx:1", "docker.io/library/nginx:1"},
		{"docker://nginx:1", "docker.io/library/nginx:1"},
		{"127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"},
		{"localhost:5000/a:t", "localhost:5000/a:t"},
		{"example.com/a@sha256:" + strings.Repeat("a", 64), "example.com/a@sha256:" + strings.Repeat("a", 64)},
		{"oci:dir", "oci:" + wd + "/dir"},
		{"oci:/a/b:tag", "oci:/a/b:tag"},
		{"oci:/a:b/c", "oci:/a:b/c"},
		{"oci-archive:/a.tar:tag", "oci-archive:/a.tar:tag"},
		{"docker-archive:/a.tar", "docker-archive:/a.tar"},
		{"docker-archive:/a.tar:name:tag", "docker-archive:/a.tar:name:tag"},
		{"docker-archive:/a.tar:example.com/name:tag", "docker-archive:/a.tar:example.com/name:tag"},
	}
	for _, test := range tests {
		r, err := images.ParseReference(test.in)
		if err != nil || r.String() != test.want {
			t.Errorf("%s: %s (%v), want %s", test.in, r, err, test.want)
			continue
		}
		if again, err := images.ParseReference(r.String()); err != nil || again.String() != test.want {
			t.Errorf("%s is not stable: %s (%v)", r, again, err)
		}
	}
	for _, bad := range []string{"", "UPPER", "a b", "oci:", "oci-archive::tag", "x:y:z", "http://example.com/a"} {
		if r, err := images.ParseReference(bad); !errors.Is(err, images.ErrInvalidReference) {
			t.Errorf("%q is taken as %s (%v)", bad, r, err)
		}
	}
}

func TestRegistry(t *testing.T) {
	f := serve(t)
	img := runnable(t, 3)
	ref := f.host + "/a/b:tag"
	push(t, ref, img)
	s := open(t)
	i := resolve(t, s, ref, platform)
	if i.Reference != ref || i.Digest != digest(t, img) || i.Local {
		t.Errorf("image %+v", i)
	}
	if err := drain(i); err != nil {
		t.Error(err)
	}
	if _, err := s.Resolve(t.Context(), ref, images.ResolveOptions{Pull: images.PullNever}); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("an unknown image, without pulling: %v", err)
	}
	r, err := s.Save(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := img.ConfigName()
	if r.ID != config.Hex || r.Digest != i.Digest || r.Reference != ref || len(r.DiffIDs) != 3 || r.Size == 0 || r.Pulled.IsZero() {
		t.Errorf("record %+v", r)
	}

	// Remembered, it is answered without the network, layers apart.
	f.answer(nil)
	i = resolve(t, s, ref, platform)
	if f.count() != 0 || !i.Local || i.Digest != r.Digest {
		t.Errorf("%d requests for a remembered image", f.count())
	}
	if err := drain(i); err != nil || f.count() == 0 {
		t.Errorf("layers of a remembered image: %v", err)
	}
	never := platform
	never.Pull = images.PullNever
	if i := resolve(t, s, r.ID[:12], never); i.Digest != r.Digest || i.Reference != ref {
		t.Errorf("by ID: %+v", i)
	}
	if _, err := s.Resolve(t.Context(), r.ID[:4], never); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("by a prefix that is a name as well: %v", err)
	}
	always := platform
	always.Pull = images.PullAlways
	f.answer(nil)
	if i := resolve(t, s, ref, always); f.count() != 1 || i.Digest != r.Digest {
		t.Errorf("%d requests to see that nothing has changed", f.count())
	}
	newer := runnable(t, 1)
	push(t, ref, newer)
	if i := resolve(t, s, ref, platform); i.Digest != r.Digest {
		t.Error("PullMissing pulled")
	}
	if i := resolve(t, s, ref, always); i.Digest != digest(t, newer) {
		t.Error("PullAlways did not pull")
	}
}

func TestRecords(t *testing.T) {
	f := serve(t)
	s := open(t)
	var records []images.Record
	for n, img := range []v1.Image{runnable(t, 1), runnable(t, 2)} {
		for _, tag := range []string{"a", "b"} {
			ref := fmt.Sprintf("%s/image%d:%s", f.host, n, tag)
			push(t, ref, img)
			r, err := s.Save(t.Context(), resolve(t, s, ref, platform))
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 4 || all[0].Reference != records[0].Reference || all[3].Config.Architecture != "amd64" {
		t.Errorf("list %+v (%v)", all, err)
	}
	for _, what := range []string{records[2].Reference, records[2].ID, records[2].ID[:12], records[2].Digest.String(), "sha256:" + records[2].ID} {
		if r, err := s.Lookup(t.Context(), what); err != nil || r.Reference != records[2].Reference {
			t.Errorf("lookup %s: %+v (%v)", what, r, err)
		}
	}
	for _, what := range []string{"nothing", "ffff", "abc", "", "UPPER", "../x"} {
		if _, err := s.Lookup(t.Context(), what); !errors.Is(err, images.ErrNotFound) {
			t.Errorf("lookup %q: %v", what, err)
		}
	}
	if _, err := s.Delete(t.Context(), records[0].Reference); err != nil {
		t.Error(err)
	}
	if r, err := s.Lookup(t.Context(), records[0].ID); err != nil || r.Reference != records[1].Reference {
		t.Errorf("the other tag: %+v (%v)", r, err)
	}
	if _, err := s.Delete(t.Context(), records[2].ID[:12]); err != nil {
		t.Error(err)
	}
	if all, err := s.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("list %+v (%v)", all, err)
	}
	if _, err := s.Delete(t.Context(), records[2].ID); !errors.Is(err, images.ErrNotFound) {
		t.Errorf("deleting twice: %v", err)
	}
}

func TestResolveRefuses(t *testing.T) {
	f := serve(t)
	foreign, err := mutate.Append(runnable(t, 0), mutate.Addendum{Layer: static.NewLayer([]byte("x"), types.DockerForeignLayer), URLs: []string{"http://example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	chart := mutate.ConfigMediaType(runnable(t, 1), "application/vnd.cncf.helm.config.v1+json")
	push(t, f.host+"/arm", runnable(t, 1, func(c *v1.ConfigFile) { c.Architecture = "arm64" }))
	push(t, f.host+"/chart", chart)
	f.put(t, "foreign", foreign)
	f.put(t, "count", runnable(t, 1, func(c *v1.ConfigFile) { c.RootFS.DiffIDs = nil }))
	tests := []struct {
		ref  string
		kind error
		say  string
	}{
		{f.host + "/nothing", images.ErrNotFound, "nothing"},
		{f.host + "/arm", images.ErrUnsupported, "linux/arm64"},
		{f.host + "/chart", images.ErrUnsupported, "helm"},
		{f.host + "/foreign", images.ErrUnsupported, "foreign layer"},
		{f.host + "/count", images.ErrCorrupt, "1 layers"},
		{"No Reference", images.ErrInvalidReference, "No Reference"},
		{f.host + "/arm@sha256:" + strings.Repeat("0", 64), images.ErrNotFound, ""},
	}
	for _, test := range tests {
		_, err := open(t).Resolve(t.Context(), test.ref, platform)
		if !errors.Is(err, test.kind) || !strings.Contains(err.Error(), test.say) {
			t.Errorf("%s: %v, want %v: %s", test.ref, err, test.kind, test.say)
		}
	}
}

// put stores an image without what remote.Write would make right.
func (f *fakeRegistry) put(t testing.TB, repo string, img v1.Image) {
	t.Helper()
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	send := func(method, path, kind string, b []byte) {
		r, err := http.NewRequestWithContext(context.Background(), method, "http://"+f.host+"/v2/"+repo+path, bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s", method, path, resp.Status)
		}
	}
	send(http.MethodPost, "/blobs/uploads/?digest="+id.String(), "application/octet-stream", config)
	send(http.MethodPut, "/manifests/latest", string(types.OCIManifestSchema1), raw)
}

func TestIndex(t *testing.T) {
	f := serve(t)
	amd, arm := runnable(t, 1), runnable(t, 1, func(c *v1.ConfigFile) { c.Architecture = "arm64" })
	attestation := runnable(t, 1)
	add := func(img v1.Image, p *v1.Platform, annotations map[string]string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p, Annotations: annotations}}
	}
	index := mutate.AppendManifests(empty.Index,
		add(attestation, &v1.Platform{OS: "unknown", Architecture: "unknown"}, map[string]string{"vnd.docker.reference.type": "attestation-manifest"}),
		add(attestation, &v1.Platform{OS: "linux", Architecture: "amd64"}, map[string]string{"vnd.docker.reference.type": "attestation-manifest"}),
		add(arm, &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, nil),
		add(amd, &v1.Platform{OS: "linux", Architecture: "amd64"}, nil))
	nested := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: index})
	for _, idx := range []v1.ImageIndex{index, mutate.IndexMediaType(index, types.DockerManifestList), nested} {
		r, err := name.ParseReference(f.host + "/a")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.WriteIndex(r, idx); err != nil {
			t.Fatal(err)
		}
		for arch, want := range map[string]v1.Image{"amd64": amd, "arm64": arm} {
			i := resolve(t, open(t), f.host+"/a", images.ResolveOptions{Platform: &v1.Platform{OS: "linux", Architecture: arch}})
			if i.Digest != digest(t, want) {
				t.Errorf("another image than that for %s", arch)
			}
		}
		_, err = open(t).Resolve(t.Context(), f.host+"/a", images.ResolveOptions{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}})
		if !errors.Is(err, images.ErrNotFound) || !strings.Contains(err.Error(), "linux/arm64/v8, linux/amd64") {
			t.Errorf("error %v", err)
		}
	}
}

// Documents that are full of nothing would take many times their size of memory.
func TestCrowdedDocuments(t *testing.T) {
	f := serve(t)
	history := runnable(t, 1, func(c *v1.ConfigFile) { c.History = make([]v1.History, 110_000) })
	r, err := name.ParseReference(f.host + "/history")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, history); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, b := range map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": `{"schemaVersion":2,"manifests":[{}` + strings.Repeat(",{}", 60_000) + `]}`} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, ref := range []string{f.host + "/history", "oci:" + dir} {
		if _, err := open(t).Resolve(t.Context(), ref, images.ResolveOptions{}); !errors.Is(err, images.ErrCorrupt) || !strings.Contains(err.Error(), "more than 100000 values") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}
