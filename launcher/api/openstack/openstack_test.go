package openstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func TestHas(t *testing.T) {
	tests := []struct {
		roles string
		has   string // of admin, member, reader, other
	}{
		{"admin", "admin member reader"},
		{"member", "member reader"},
		{"reader", "reader"},
		{"other", "other"},
		{"", ""},
	}
	for _, tt := range tests {
		c := &openstack.Caller{Roles: strings.Fields(tt.roles)}
		for _, role := range []string{"admin", "member", "reader", "other"} {
			if want := slices.Contains(strings.Fields(tt.has), role); c.Has(role) != want {
				t.Errorf("a caller with roles %q: Has(%s) = %v", tt.roles, role, !want)
			}
		}
	}
	if (*openstack.Caller)(nil).Has("reader") {
		t.Error("nobody is a reader")
	}
}

func TestFaultsOfKinds(t *testing.T) {
	state := &launcher.StateError{Server: "web", Action: "start", VM: launcher.VMActive}
	tests := []struct {
		err     error
		code    int
		message string
	}{
		{fmt.Errorf("server web: %w", launcher.ErrNotFound), 404, "server web: not found"},
		{fmt.Errorf("name: %w", launcher.ErrConflict), 409, "name: conflict"},
		{fmt.Errorf("name: %w", launcher.ErrInvalid), 400, "name: invalid"},
		{fmt.Errorf("kernel: %w", launcher.ErrUnavailable), 503, "kernel: unavailable"},
		{fmt.Errorf("tried: %w", state), 409, "Cannot 'start' instance web while it is in vm_state active"},
		{fmt.Errorf("tried: %w", openstack.Forbidden("no")), 403, "no"},
	}
	for _, tt := range tests {
		if f := openstack.FaultOf(tt.err); f.Code != tt.code || f.Message != tt.message {
			t.Errorf("%v gives %d %q, want %d %q", tt.err, f.Code, f.Message, tt.code, tt.message)
		}
	}
	secret := errors.New("open /etc/shadow: permission denied")
	f := openstack.FaultOf(secret)
	if f.Code != 500 || strings.Contains(f.Message, "shadow") || !errors.Is(f, secret) {
		t.Errorf("an error of no kind gives %+v", f)
	}
}

func TestDialects(t *testing.T) {
	tests := []struct {
		dialect      openstack.Dialect
		err          error
		accept       string
		contentType  string
		body         string
		retryAfter   string
		bodyContains bool
	}{
		{openstack.Compute, openstack.NotFound("Instance x could not be found."), "", "application/json",
			`{"itemNotFound":{"code":404,"message":"Instance x could not be found."}}`, "", false},
		{openstack.Compute, openstack.Faultf(406, "no"), "", "application/json", `{"computeFault":{"code":406,"message":"no"}}`, "", false},
		{openstack.Compute, &openstack.Fault{Code: 429, Message: "slow", RetryAfter: 1500e6}, "", "application/json",
			`{"overLimit":{"code":429,"message":"slow","retryAfter":"2"}}`, "2", false},
		{openstack.Identity, openstack.Conflict("taken"), "", "application/json", `{"error":{"code":409,"message":"taken","title":"Conflict"}}`, "", false},
		{openstack.Image, openstack.NotFound("No <image>"), "", "text/html; charset=UTF-8", "<h1>404 Not Found</h1>\n  No &lt;image&gt;<br /><br />", "", true},
		{openstack.Image, openstack.NotFound("none"), "application/json", "application/json",
			`{"code":"404 Not Found","message":"none\u003cbr /\u003e\u003cbr /\u003e\n\n\n","title":"Not Found"}`, "", false},
		{openstack.Image, openstack.NotFound("none"), "text/plain", "text/plain; charset=UTF-8", "404 Not Found\n\nnone", "", true},
		{openstack.Network, &openstack.Fault{Code: 404, Type: "NetworkNotFound", Message: "none"}, "", "application/json",
			`{"NeutronError":{"detail":"","message":"none","type":"NetworkNotFound"}}`, "", false},
		{openstack.Network, openstack.BadRequest("bad"), "", "application/json", `{"NeutronError":{"detail":"","message":"bad","type":"HTTPBadRequest"}}`, "", false},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if tt.accept != "" {
			r.Header.Set("Accept", tt.accept)
		}
		w := httptest.NewRecorder()
		openstack.WriteFault(w, r, tt.dialect, tt.err)
		body := w.Body.String()
		if tt.bodyContains && !strings.Contains(body, tt.body) || !tt.bodyContains && body != tt.body {
			t.Errorf("%v %v: body is\n%s, want\n%s", tt.dialect, tt.err, body, tt.body)
		}
		if got := w.Header(); w.Code != openstack.FaultOf(tt.err).Code || got.Get("Content-Type") != tt.contentType || got.Get("Retry-After") != tt.retryAfter {
			t.Errorf("%v %v: %d %v", tt.dialect, tt.err, w.Code, got)
		}
	}
}

func TestReadJSON(t *testing.T) {
	type server struct {
		Name  string `json:"name"`
		Count int    `json:"min_count"`
	}
	type body struct {
		Server server `json:"server"`
	}
	const json = "application/json"
	tests := []struct {
		name, contentType, body string
		strict                  bool
		code                    int
		message                 string // part of
	}{
		{"good", json, `{"server": {"name": "web", "min_count": 1}}`, true, 0, ""},
		{"unknown member", json, `{"server": {"nam": "web"}}`, false, 0, ""},
		{"unknown member refused", json, `{"server": {"nam": "web"}}`, true, 400, "('nam' was unexpected)"},
		{"no type of content", "", `{"server": {}}`, true, 0, ""},
		{"patch", "application/openstack-images-v2.1-json-patch", `{}`, true, 0, ""},
		{"form", "application/x-www-form-urlencoded", `{}`, true, 415, "send application/json"},
		{"empty", json, " \n", false, 400, "it is empty"},
		{"cut off", json, `{"server": {`, false, 400, "ends too early"},
		{"no JSON", json, `{server: 1}`, false, 400, "invalid character"},
		{"two values", json, `{} {}`, false, 400, "more after"},
		{"wrong type", json, `{"server": {"min_count": "2"}}`, false, 400, "field/attribute server.min_count. A value of type string is not of type 'integer'"},
		{"no object", json, `[]`, false, 400, "A value of type array is not of type 'object'"},
		{"too large", json, `{"server": {"name": "` + strings.Repeat("x", openstack.MaxBody) + `"}}`, false, 413, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			read := openstack.ReadJSON
			if tt.strict {
				read = openstack.ReadStrictJSON
			}
			err := read(r, new(body))
			if tt.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if f := openstack.FaultOf(err); f.Code != tt.code || !strings.Contains(f.Message, tt.message) {
				t.Errorf("got %d %q", f.Code, f.Message)
			}
		})
	}
}

func TestMux(t *testing.T) {
	var log bytes.Buffer
	routes := []openstack.Route{
		{"GET", "/v2.1/servers/{id}", func(w http.ResponseWriter, r *http.Request) error {
			return openstack.WriteJSON(w, 200, map[string]string{"id": r.PathValue("id")})
		}},
		{"POST", "/v2.1/broken", func(http.ResponseWriter, *http.Request) error { return errors.New("disk on fire") }},
		{"POST", "/v2.1/panic", func(http.ResponseWriter, *http.Request) error { panic("oh") }},
	}
	m := openstack.NewMux(openstack.Compute, slog.New(slog.NewTextHandler(&log, nil)), routes)
	tests := []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/v2.1/servers/a", 200, `{"id":"a"}`},
		{"GET", "/v2.1/servers/a/", 200, `{"id":"a"}`},
		{"GET", "/v2.1/servers/a%2Fb", 200, `{"id":"a/b"}`},
		{"GET", "/v2.1/nothing", 404, `{"itemNotFound":{"code":404,"message":"The resource could not be found."}}`},
		{"PUT", "/v2.1/servers/a", 405, `{"badMethod":{"code":405,"message":"The method specified is not allowed for this resource."}}`},
		{"PUT", "/v2.1/servers/a/", 404, "could not be found"},
		{"POST", "/v2.1/broken", 500, "Unexpected API Error"},
		{"POST", "/v2.1/panic", 500, "Unexpected API Error"},
	}
	for _, tt := range tests {
		log.Reset()
		w := httptest.NewRecorder()
		x, r := openstack.Begin(w, httptest.NewRequest(tt.method, tt.path, nil))
		m.ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s %s: %d %s", tt.method, tt.path, w.Code, w.Body)
		}
		for _, header := range []string{openstack.RequestIDHeader, "X-Compute-Request-Id"} {
			if got := w.Header().Get(header); got != x.RequestID || !strings.HasPrefix(got, "req-") || len(got) != 40 {
				t.Errorf("%s %s: %s is %q", tt.method, tt.path, header, got)
			}
		}
		if tt.code == 500 && !strings.Contains(log.String(), x.RequestID) {
			t.Errorf("the log does not tell of %s: %s", tt.path, &log)
		}
		if tt.code == 200 && x.Route != "GET /v2.1/servers/{id}" {
			t.Errorf("the route of %s is %q", tt.path, x.Route)
		}
	}
}

func TestMicroversions(t *testing.T) {
	const legacy, standard = "X-OpenStack-Nova-API-Version", "OpenStack-API-Version"
	tests := []struct {
		name   string
		header http.Header
		want   string // version, or body of the answer
		code   int
	}{
		{"none", http.Header{}, "2.1", 200},
		{"both", http.Header{legacy: {"2.37"}, standard: {"compute 2.61"}}, "2.61", 200},
		{"legacy", http.Header{legacy: {"2.37"}}, "2.37", 200},
		{"latest", http.Header{legacy: {"latest"}}, "2.90", 200},
		{"of several services", http.Header{standard: {"identity 3.1, compute 2.5"}}, "2.5", 200},
		{"of another service", http.Header{standard: {"volume 3.50"}}, "2.1", 200},
		{"too new", http.Header{standard: {"compute 2.91"}}, `{"computeFault":{"code":406,"message":"Version 2.91 is not supported by the API. Minimum is 2.1 and maximum is 2.90."}}`, 406},
		{"other major", http.Header{standard: {"compute 3.1"}}, "Version 3.1 is not supported", 406},
		{"no version", http.Header{standard: {"compute two"}}, `{"badRequest":{"code":400,"message":"API Version String two is of invalid format. Must be of format MajorNum.MinorNum."}}`, 400},
	}
	m := openstack.Microversions{Min: 1, Max: 90}
	h := m.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, openstack.MicroversionOf(r.Context()))
	}))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for key, values := range tt.header {
				r.Header[http.CanonicalHeaderKey(key)] = values
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			if got := w.Header().Values("Vary"); !slices.Equal(got, []string{standard, legacy}) {
				t.Errorf("Vary: %v", got)
			}
			if tt.code == 200 && (w.Header().Get(standard) != "compute "+tt.want || w.Header().Get(legacy) != tt.want) {
				t.Errorf("headers are %v", w.Header())
			}
		})
	}
}

func TestPages(t *testing.T) {
	type item struct {
		id   string
		size int
	}
	keys := map[string]openstack.Compare[item]{
		"id":   openstack.By(func(i item) string { return i.id }),
		"size": openstack.By(func(i item) int { return i.size }),
	}
	tests := []struct {
		query string
		want  string // ids, + where there are more, or the error
		next  string
	}{
		{"", "b c a d+", "/x?marker=d"},
		{"limit=9", "b c a d+", "/x?limit=9&marker=d"},
		{"limit=2", "b c+", "/x?limit=2&marker=c"},
		{"limit=2&marker=c&name=n", "a d+", "/x?limit=2&marker=d&name=n"},
		{"marker=d", "e", ""},
		{"limit=0", "", ""},
		{"sort_key=id&sort_dir=asc", "a b c d+", "/x?marker=d&sort_dir=asc&sort_key=id"},
		{"sort_key=size&sort_key=id&sort_dir=asc&sort_dir=desc", "d c b e+", "/x?marker=e&sort_dir=asc&sort_dir=desc&sort_key=size&sort_key=id"},
		{"sort=size:asc,id:asc", "b c d a+", "/x?marker=a&sort=size%3Aasc%2Cid%3Aasc"},
		{"sort_key=id", "e d c b+", "/x?marker=b&sort_key=id"},
		{"limit=-1", "Invalid input for query parameters limit. Value: -1. It must be a whole number, 0 or more.", ""},
		{"sort_key=id&sort_dir=up", "Invalid input for query parameters sort_dir. Value: up. It is asc or desc.", ""},
		{"sort_key=colour", "Sort key supplied is invalid: colour", ""},
		{"marker=z", "marker [z] not found", ""},
	}
	for _, tt := range tests {
		items := []item{{"b", 1}, {"c", 1}, {"a", 2}, {"d", 1}, {"e", 2}}
		p, err := openstack.ReadPage(httptest.NewRequest(http.MethodGet, "/x?"+tt.query, nil), 4)
		var part []item
		var more bool
		if err == nil {
			part, more, err = openstack.Cut(items, p, func(i item) string { return i.id }, keys)
		}
		var ids []string
		for _, i := range part {
			ids = append(ids, i.id)
		}
		got := strings.Join(ids, " ")
		if more {
			got += "+"
			if next := p.Next(ids[len(ids)-1]); next != tt.next {
				t.Errorf("%s: the next page is %s, want %s", tt.query, next, tt.next)
			}
		}
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.query, got, tt.want)
		}
	}
}

// tokens is an Authenticator of a fixed set.
type tokens map[string]*openstack.Caller

func (t tokens) Authenticate(_ context.Context, token string) (*openstack.Caller, error) {
	if token == "broken" {
		return nil, errors.New("no database")
	}
	if c := t[token]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("token %s: %w", token, openstack.ErrToken)
}

func TestAuthentication(t *testing.T) {
	h := openstack.Authentication{
		Tokens:      tokens{"good": {UserName: "ann"}},
		IdentityURL: func(r *http.Request) string { return openstack.HostURL(r) + "/identity" },
		Public:      func(r *http.Request) bool { return r.URL.Path == "/" },
		Dialect:     openstack.Compute,
	}.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := "nobody"
		if c := openstack.CallerOf(r.Context()); c != nil {
			name = c.UserName
		}
		fmt.Fprint(w, name)
	}))
	tests := []struct {
		path, token string
		code        int
		body        string
	}{
		{"/servers", "good", 200, "ann"},
		{"/", "", 200, "nobody"},
		{"/", "good", 200, "ann"},
		{"/servers", "", 401, `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}`},
		{"/servers", "bad", 401, `"code":401`},
		{"/servers", "broken", 503, `{"serviceUnavailable":{"code":503`},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(http.MethodGet, tt.path, nil)
		if tt.token != "" {
			r.Header.Set("X-Auth-Token", tt.token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s %q: %d %s", tt.path, tt.token, w.Code, w.Body)
		}
		if got := w.Header().Get("WWW-Authenticate"); (tt.code == 401) != (got == `Keystone uri="http://example.com/identity"`) {
			t.Errorf("%s %q: WWW-Authenticate is %s", tt.path, tt.token, got)
		}
	}
}

// A client's own request id is taken only where it can be one.
func TestGlobalID(t *testing.T) {
	good := "req-01234567-89ab-cdef-0123-456789abcdef"
	for id, want := range map[string]string{good: good, "req-x": "", "x\nerror": "", "": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header[openstack.RequestIDHeader] = []string{id}
		if x, _ := openstack.Begin(httptest.NewRecorder(), r); x.GlobalID != want {
			t.Errorf("%q is taken for %q", id, x.GlobalID)
		}
	}
}

func TestWriteJSON(t *testing.T) {
	w := httptest.NewRecorder()
	if err := openstack.WriteJSON(w, 202, map[string]any{"a": 1}); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(w.Body.Bytes()) || w.Code != 202 || w.Header().Get("Content-Length") != "7" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
