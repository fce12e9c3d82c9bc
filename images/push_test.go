package images_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-vm/slipway/images"
)

func reference(t *testing.T, s string) images.Reference {
	t.Helper()
	r, err := images.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An image goes from one registry to another, with the layer that was made here, and
// only what is missing there is read and sent.
func TestPushToRegistry(t *testing.T) {
	from, to := serve(t), serve(t)
	push(t, from.host+"/base:1", runnable(t, 3))
	s := open(t)
	base := resolve(t, s, from.host+"/base:1", images.ResolveOptions{})
	rec, err := s.Commit(t.Context(), base, "made", "", oneFile("made"))
	if err != nil {
		t.Fatal(err)
	}
	made := resolve(t, s, "made", images.ResolveOptions{})
	var uploads, reads atomic.Int32
	from.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && path.Base(path.Dir(r.URL.Path)) == "blobs" {
			reads.Add(1)
		}
		return false
	})
	to.answer(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			uploads.Add(1)
		}
		return false
	})
	var last images.PushProgress
	pushed, err := s.Push(t.Context(), base, reference(t, to.host+"/other/base:2"), images.PushOptions{})
	if err != nil || !pushed.New || pushed.Layers != 3 || pushed.Bytes == 0 || pushed.Digest != base.Digest {
		t.Fatalf("pushed %+v (%v)", pushed, err)
	}
	if reads.Load() != 3 || uploads.Load() != 4 {
		t.Errorf("%d layers were read, %d blobs uploaded", reads.Load(), uploads.Load())
	}
	pushed, err = s.Push(t.Context(), made, reference(t, to.host+"/other/base:made"), images.PushOptions{Progress: func(p images.PushProgress) {
		if !p.Exists {
			last = p
		}
	}})
	if err != nil || !pushed.New || pushed.Layers != 1 || pushed.Digest != rec.Digest {
		t.Fatalf("pushed %+v (%v)", pushed, err)
	}
	if last.Index != 3 || last.Complete != last.Total || last.Total == 0 {
		t.Errorf("the last progress is %+v", last)
	}
	if reads.Load() != 3 || uploads.Load() != 6 {
		t.Errorf("%d layers were read, %d blobs uploaded", reads.Load(), uploads.Load())
	}
	pushed, err = s.Push(t.Context(), made, reference(t, to.host+"/other/base:made"), images.PushOptions{})
	if err != nil || pushed.New || pushed.Layers != 0 || uploads.Load() != 6 {
		t.Errorf("pushed again %+v (%v)", pushed, err)
	}
	ref, err := name.ParseReference(pushed.Reference)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil || digest(t, got) != rec.Digest {
		t.Errorf("there is %v (%v)", digest(t, got), err)
	}
}

// In one registry layers are mounted, not sent.
func TestPushMounts(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/base:1", runnable(t, 2))
	s := open(t)
	base := resolve(t, s, f.host+"/base:1", images.ResolveOptions{})
	var mounts atomic.Int32
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		// The registry of the tests has one set of blobs for all repositories.
		if r.Method == http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/copy/blobs/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		if r.Method == http.MethodPost && r.URL.Query().Get("mount") != "" && r.URL.Query().Get("from") == "base" {
			mounts.Add(1)
			w.WriteHeader(http.StatusCreated)
			return true
		}
		return false
	})
	pushed, err := s.Push(t.Context(), base, reference(t, f.host+"/copy:1"), images.PushOptions{})
	if err != nil || pushed.Layers != 0 || !pushed.New || mounts.Load() != 2 {
		t.Errorf("pushed %+v, %d mounted (%v)", pushed, mounts.Load(), err)
	}
}

func TestPushRefuses(t *testing.T) {
	from, to := serve(t), serve(t)
	push(t, from.host+"/base:1", runnable(t, 1))
	s := open(t)
	base := resolve(t, s, from.host+"/base:1", images.ResolveOptions{})
	other := strings.Repeat("1", 64)
	for ref, want := range map[string]error{
		to.host + "/x@sha256:" + other: images.ErrInvalidReference,
		"oci:/tmp/x":                   images.ErrUnsupported,
		"glance:x":                     images.ErrInvalidReference,
	} {
		if _, err := s.Push(t.Context(), base, reference(t, ref), images.PushOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if _, err := s.Push(t.Context(), base, reference(t, to.host+"/x"), images.PushOptions{Public: true}); !errors.Is(err, images.ErrInvalidReference) {
		t.Errorf("public: %v", err)
	}
	// The credentials are the caller's.
	to.answer(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "who" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, err := s.Push(t.Context(), base, reference(t, to.host+"/x"), images.PushOptions{}); !errors.Is(err, images.ErrUnauthorized) {
		t.Errorf("without credentials: %v", err)
	}
	ctx := images.WithCredentials(t.Context(), to.host, authn.AuthConfig{Username: "who", Password: "secret"})
	ctx = images.WithCredentials(ctx, from.host, authn.AuthConfig{Username: "other", Password: "other"})
	if _, err := s.Push(ctx, base, reference(t, to.host+"/x"), images.PushOptions{}); err != nil {
		t.Error(err)
	}
	// The source has gone.
	from.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	if _, err := s.Push(ctx, base, reference(t, serve(t).host+"/y"), images.PushOptions{}); !errors.Is(err, images.ErrNotFound) || !strings.Contains(err.Error(), "kept unpacked") {
		t.Errorf("without the source: %v", err)
	}
}

// An image that is saved is read back with the same digest, whoever reads it, and a
// layer that cannot be had any more ends it with the reason.
func TestArchive(t *testing.T) {
	from := serve(t)
	push(t, from.host+"/base:1", runnable(t, 3))
	s := open(t)
	base := resolve(t, s, from.host+"/base:1", images.ResolveOptions{})
	a, err := base.Archive(from.host + "/base:1")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := a.Write(t.Context(), &b); err != nil || int64(b.Len()) != a.Size() {
		t.Fatalf("%d bytes of %d (%v)", b.Len(), a.Size(), err)
	}
	for _, ref := range []string{"oci-archive:-", "docker-archive:-"} {
		got := resolve(t, s, ref, images.ResolveOptions{Archive: bytes.NewReader(b.Bytes())})
		if err := validate.Image(got.Image); err != nil || got.Reference != from.host+"/base:1" {
			t.Errorf("%s: %s (%v)", ref, got.Reference, err)
		}
		if ref == "oci-archive:-" && got.Digest != base.Digest {
			t.Errorf("%s: digest %s", ref, got.Digest)
		}
	}
	from.answer(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusNotFound)
		return true
	})
	if err := a.Write(t.Context(), io.Discard); !errors.Is(err, images.ErrNotFound) || !strings.Contains(err.Error(), "unpacked alone") {
		t.Errorf("without the source: %v", err)
	}
}
