package images_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
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
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-vm/slipway/images"
)

// Whatever a registry says that is not so is an error that names the digest.
func TestLies(t *testing.T) {
	img := runnable(t, 1)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer := digest(t, layers[0])
	config, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	body := func(b string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, b) }
	}
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	stored, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(stored)
	changed[len(changed)/2] ^= 1
	tests := []struct {
		name string
		path string
		with func(http.ResponseWriter, *http.Request)
		say  v1.Hash
	}{
		{"a changed layer", "/blobs/" + layer.String(), body(string(changed)), layer},
		{"a short layer", "/blobs/" + layer.String(), body(string(stored[:100])), layer},
		{"a long layer", "/blobs/" + layer.String(), body(string(stored) + "more"), layer},
		{"a long layer in chunks", "/blobs/" + layer.String(), func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			w.Write(stored)
			io.WriteString(w, "more")
		}, layer},
		{"another config", "/blobs/" + config.String(), body(`{"architecture":"amd64","os":"linux"}`), config},
		{"another manifest", "/manifests/" + digest(t, img).String(), func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			io.WriteString(w, `{"schemaVersion":2}`)
		}, digest(t, img)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := serve(t)
			ref := f.host + "/a@" + digest(t, img).String()
			push(t, f.host+"/a:latest", img)
			f.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, test.path) {
					test.with(w, r)
					return true
				}
				return false
			})
			i, err := open(t).Resolve(t.Context(), ref, platform)
			if err == nil {
				err = drain(i)
			}
			if !errors.Is(err, images.ErrCorrupt) || !strings.Contains(err.Error(), test.say.String()) {
				t.Errorf("error %v, want one that names %s", err, test.say)
			}
		})
	}
}

func TestResume(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		t.Run(fmt.Sprintf("ranges=%v", ranges), func(t *testing.T) {
			f := serve(t)
			data := make([]byte, 1<<20)
			for i := range data {
				data[i] = byte(i * i >> 8)
			}
			img, err := mutate.AppendLayers(runnable(t, 0), static.NewLayer(data, types.OCIUncompressedLayer))
			if err != nil {
				t.Fatal(err)
			}
			push(t, f.host+"/a", img)
			layers, _ := img.Layers()
			path := "/blobs/" + digest(t, layers[0]).String()
			var mu sync.Mutex
			var asked []string
			f.answer(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, path) {
					return false
				}
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, r.Header.Get("Range"))
				if len(asked) == 2 {
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				from := 0
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && ranges {
					w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
					w.WriteHeader(http.StatusPartialContent)
				} else {
					from = 0
				}
				if len(asked) < 4 {
					w.Header().Set("Content-Length", fmt.Sprint(len(data)-from))
					w.Write(data[from : from+(len(data)-from)/2])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				w.Write(data[from:])
				return true
			})
			if err := drain(resolve(t, open(t), f.host+"/a", platform)); err != nil {
				t.Fatal(err)
			}
			if len(asked) != 4 || asked[1] != "bytes=524288-" {
				t.Errorf("asked for %q", asked)
			}
		})
	}
}

// A registry that stays broken is given up, and one that nobody serves at once.
func TestUnavailable(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/a", runnable(t, 1))
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	})
	tests := []struct {
		name string
		ref  string
		kind error
	}{
		{"broken", f.host + "/a", images.ErrUnavailable},
		{"nobody", "127.0.0.1:1/a", images.ErrUnavailable},
		{"no such host", "registry.invalid/a", images.ErrUnavailable},
	}
	// A second or two on an idle machine; what this is to find takes minutes.
	const soon = 30 * time.Second
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := open(t).Resolve(t.Context(), test.ref, platform)
			if !errors.Is(err, test.kind) || time.Since(start) > soon {
				t.Errorf("error %v after %v", err, time.Since(start))
			}
		})
	}
}

// A registry that asks for patience gets it.
func TestRetryAfter(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/a", runnable(t, 1))
	var mu sync.Mutex
	var first time.Time
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.URL.Path, "/manifests/") && first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		return false
	})
	resolve(t, open(t), f.host+"/a", platform)
	if waited := time.Since(first); waited < time.Second {
		t.Errorf("asked again after %v", waited)
	}
}

func TestCredentials(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/a", runnable(t, 1))
	tokens := 0
	bearer := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			if user != "user" || password != "secret" || r.URL.Query().Get("scope") != "repository:a:pull" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			tokens++
			json.NewEncoder(w).Encode(map[string]any{"token": fmt.Sprint("token", tokens)})
			return true
		}
		// A token is good for one resource, which forces refreshing.
		if r.Header.Get("Authorization") == fmt.Sprint("Bearer token", tokens) && (!strings.Contains(r.URL.Path, "blobs") || tokens > 1) {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="s",scope="repository:a:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	basic := func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "user" && password == "secret" {
			return false
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	for kind, guard := range map[string]func(http.ResponseWriter, *http.Request) bool{"basic": basic, "bearer": bearer} {
		t.Run(kind, func(t *testing.T) {
			f.answer(guard)
			known := open(t, func(c *images.Config) { c.Keychain = keychain{"user", "secret"} })
			if err := drain(resolve(t, known, f.host+"/a", platform)); err != nil {
				t.Error(err)
			}
			for _, who := range []keychain{{"user", "wrong"}, {}} {
				unknown := open(t, func(c *images.Config) { c.Keychain = who })
				if _, err := unknown.Resolve(t.Context(), f.host+"/a", platform); !errors.Is(err, images.ErrUnauthorized) {
					t.Errorf("%v: error %v", who, err)
				}
			}
		})
	}
}

// A helper of docker's may give a refresh token, which tokens are then had for.
func TestCredentialHelper(t *testing.T) {
	f := serve(t)
	push(t, f.host+"/a", runnable(t, 1))
	f.answer(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.URL.Path == "/token":
			if r.Method != http.MethodPost || r.PostFormValue("grant_type") != "refresh_token" || r.PostFormValue("refresh_token") != "refresh" {
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			json.NewEncoder(w).Encode(map[string]any{"access_token": "access"})
			return true
		case r.Header.Get("Authorization") == "Bearer access":
			return false
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+f.host+`/token",service="s",scope="repository:a:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	dir := t.TempDir()
	for name, content := range map[string]string{
		"config.json": fmt.Sprintf(`{"credHelpers": {%q: "bosun"}}`, f.host),
		// As docker-credential-helpers have it, the user <token> stands for a refresh token.
		"docker-credential-bosun": "#!/bin/sh\nread host\n" +
			`printf '{"ServerURL": "%s", "Username": "<token>", "Secret": "refresh"}' "$host"` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	s := open(t, func(c *images.Config) { c.Keychain = nil })
	if err := drain(resolve(t, s, f.host+"/a", platform)); err != nil {
		t.Error(err)
	}
}

type keychain struct{ user, password string }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	if k.user == "" {
		return authn.Anonymous, nil
	}
	return &authn.Basic{Username: k.user, Password: k.password}, nil
}

func TestMirrors(t *testing.T) {
	origin, mirror := serve(t), serve(t)
	img := runnable(t, 1)
	push(t, origin.host+"/a/b", img)
	s := open(t, func(c *images.Config) {
		c.Mirrors = map[string][]string{origin.host: {"127.0.0.1:1", mirror.host + "/proxy"}}
	})
	// Without the image on a mirror, the registry has the word.
	if err := drain(resolve(t, s, origin.host+"/a/b", platform)); err != nil {
		t.Error(err)
	}
	push(t, mirror.host+"/proxy/a/b", img)
	origin.answer(nil)
	i := resolve(t, s, origin.host+"/a/b", platform)
	if err := drain(i); err != nil || origin.count() != 0 || i.Reference != origin.host+"/a/b:latest" {
		t.Errorf("%d requests to the registry (%v)", origin.count(), err)
	}
}

func TestTLS(t *testing.T) {
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewUnstartedServer(inner)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "https://")
	r, err := name.ParseReference(host + "/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, runnable(t, 1), remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]*images.Store{
		"authority": open(t, func(c *images.Config) { c.CAFiles = []string{ca} }),
		"insecure":  open(t, func(c *images.Config) { c.Insecure = []string{host} }),
	} {
		if err := drain(resolve(t, s, host+"/a", platform)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := open(t).Resolve(t.Context(), host+"/a", platform); !errors.Is(err, images.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	if _, err := images.Open(images.Config{Dir: t.TempDir(), CAFiles: []string{"/nowhere"}}); err == nil {
		t.Error("a missing file of authorities passed")
	}
}
