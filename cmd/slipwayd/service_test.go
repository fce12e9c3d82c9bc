package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func TestProjectLimits(t *testing.T) {
	h := newProjectLimits(1).middleware(openstack.Compute, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	ask := func(project string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if project != "" {
			r = r.WithContext(openstack.WithCaller(r.Context(), &openstack.Caller{ProjectID: project}))
		}
		h.ServeHTTP(w, r)
		return w
	}
	var refused *httptest.ResponseRecorder
	for range 1000 {
		if w := ask("busy"); w.Code != http.StatusNoContent {
			refused = w
			break
		}
	}
	if refused == nil || refused.Code != http.StatusTooManyRequests || refused.Header().Get("Retry-After") == "" {
		t.Fatalf("a project that asks too much is answered %+v", refused)
	}
	for _, project := range []string{"idle", ""} {
		if w := ask(project); w.Code != http.StatusNoContent {
			t.Errorf("project %q is answered %d", project, w.Code)
		}
	}
}

// A user's own clouds.yaml is never touched, and nothing is written out of the home.
func TestOfferClouds(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("SUDO_UID", "")
	path := filepath.Join(home, ".config/openstack/clouds.yaml")
	for _, want := range []string{path, ""} {
		if got, err := offerClouds([]byte("first")); err != nil || got != want {
			t.Errorf("written to %q, %v; want %q", got, err, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	home = t.TempDir()
	t.Setenv("HOME", home)
	elsewhere := t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(home, ".config")); err != nil {
		t.Fatal(err)
	}
	if got, err := offerClouds([]byte("x")); err == nil {
		t.Errorf("written to %s through a link out of the home", got)
	}
	if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 {
		t.Errorf("elsewhere there are %v, %v", entries, err)
	}
}
