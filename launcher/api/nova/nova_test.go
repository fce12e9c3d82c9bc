package nova

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

const (
	project = "0123456789abcdef0123456789abcdef"
	other   = "fedcba9876543210fedcba9876543210"
)

// call makes a request in a project with roles; version is a microversion or empty.
func call(t *testing.T, h http.Handler, caller *openstack.Caller, version, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.Host = "cloud"
	if version != "" {
		r.Header.Set("OpenStack-API-Version", "compute "+version)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if caller != nil {
		r = r.WithContext(openstack.WithCaller(r.Context(), caller))
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func member(project string) *openstack.Caller {
	return &openstack.Caller{UserID: "user-of-" + project, ProjectID: project, Roles: []string{openstack.Member}}
}

func TestVersionDocuments(t *testing.T) {
	h := New(Config{})
	for path, key := range map[string]string{"/": "versions", "/v2.1": "version", "/v2.1/": "version"} {
		w := call(t, h, nil, "", "GET", path, "")
		var got map[string]json.RawMessage
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 || got[key] == nil {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
		if !strings.Contains(w.Body.String(), `"href":"http://cloud/v2.1/"`) || !strings.Contains(w.Body.String(), `"version":"`+MaxVersion.String()+`"`) {
			t.Errorf("GET %s: %s", path, w.Body)
		}
	}
	for _, path := range []string{"/v2", "/v2/"} {
		if w := call(t, h, nil, "", "GET", path, ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"id":"v2.0"`) || !strings.Contains(w.Body.String(), `"href":"http://cloud/v2/"`) {
			t.Errorf("GET %s: %d %s", path, w.Code, w.Body)
		}
	}
	// Version 2.0 has no microversions, and so what later ones took away.
	for version, want := range map[string]int{"": 200, "2.90": 200, "2.1000": 200} {
		if w := call(t, h, member(project), version, "GET", "/v2/"+project+"/extensions", ""); w.Code != want {
			t.Errorf("extensions of version 2.0, asked for in %q: %d %s", version, w.Code, w.Body)
		}
	}
	if w := call(t, h, nil, "", "GET", "/v20", ""); w.Code != 404 {
		t.Errorf("no version: %d", w.Code)
	}
	if w := call(t, h, nil, "2.1000", "GET", "/v2.1", ""); w.Code != 406 {
		t.Errorf("a version beyond the range: %d", w.Code)
	}
}

func TestProjectInPath(t *testing.T) {
	h := New(Config{})
	if w := call(t, h, member(project), "", "GET", "/v2.1/"+project, ""); w.Code != 200 {
		t.Errorf("the caller's own project: %d %s", w.Code, w.Body)
	}
	w := call(t, h, member(project), "", "GET", "/v2.1/"+other+"/servers", "")
	if w.Code != 400 || !strings.Contains(w.Body.String(), "doesn't match") {
		t.Errorf("another project: %d %s", w.Code, w.Body)
	}
	if w := call(t, h, member(project), "", "GET", "/v2.1/nosuch", ""); w.Code != 404 {
		t.Errorf("nothing there: %d", w.Code)
	}
}

func TestRoutesByVersionAndRole(t *testing.T) {
	ok := func(text string) openstack.Func {
		return func(w http.ResponseWriter, _ *http.Request) error { return openstack.WriteJSON(w, 200, text) }
	}
	mux := openstack.NewMux(openstack.Compute, nil, mounted([]route{
		{method: "GET", path: "/things", role: openstack.Reader, policy: "os_compute_api:things", max: 10, serve: ok("old")},
		{method: "GET", path: "/things", role: openstack.Admin, policy: "os_compute_api:things", min: 11, max: 20, serve: ok("new")},
	}))
	h := versions.Middleware(mux)
	for version, want := range map[string]string{
		"2.10": `200 "old"`,
		"2.11": `403 {"forbidden":{"code":403,"message":"Policy doesn't allow os_compute_api:things to be performed."}}`,
		"2.21": `404 {"itemNotFound":{"code":404,"message":"API version 2.21 is not supported on this method."}}`,
	} {
		w := call(t, h, member(project), version, "GET", "/v2.1/things", "")
		if got := w.Result().Status[:3] + " " + w.Body.String(); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}
