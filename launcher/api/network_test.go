package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/jsonschema-go/jsonschema"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	networking "github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// callers are known by their tokens.
type callers map[string]openstack.Caller

func (c callers) Authenticate(_ context.Context, token string) (*openstack.Caller, error) {
	caller, ok := c[token]
	if !ok {
		return nil, openstack.ErrToken
	}
	return &caller, nil
}

// site is the API on the network, with a manager whose guests are fakes.
type site struct {
	t     *testing.T
	m     *launcher.Manager
	url   string
	image string
}

func newSite(t *testing.T) *site {
	t.Helper()
	ctx := t.Context()
	dir, err := os.MkdirTemp("/tmp", "sln") //nolint:usetesting // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	roots, err1 := rootfs.Open(ctx, rootfs.Config{Dir: filepath.Join(dir, "rootfs")})
	pulled, err2 := images.Open(images.Config{Dir: filepath.Join(dir, "images")})
	log, err3 := events.Open(filepath.Join(dir, "events"))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	run := func(ctx context.Context, p *launchertest.Process) agent.Exit {
		p.Write(ctx, agent.Stdout, "one\n")
		p.Write(ctx, agent.Stderr, "two\n")
		select {
		case <-p.Stop:
		case <-ctx.Done():
		}
		return agent.Exit{Code: 7}
	}
	net, err1 := networking.Open(ctx, networking.Config{Store: launchertest.NewSection(), Identity: "abcde"})
	kernels, err2 := guest.OpenKernels(filepath.Join(dir, "kernels"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	flavors := []launcher.Flavor{{Name: "tiny", VCPUs: 1, Memory: 128 << 20, Disk: 64 << 20}}
	m, err := launcher.New(ctx, launcher.Config{
		Dir: filepath.Join(dir, "servers"), Images: pulled, Roots: roots, Store: &launchertest.Store{}, Events: log,
		Hypervisor: &launchertest.Hypervisor{Programs: map[string]launchertest.Program{"/run": run}},
		Kernels:    launchertest.Kernels{}, Host: launchertest.Host{}, DomainPrefix: "test-", Init: "/test/init", Configure: "/etc/passwd",
		Flavors: flavors, DefaultFlavor: "tiny",
	})
	if err != nil {
		t.Fatal(err)
	}
	around, err := compute.Open(ctx, compute.Config{Store: &launchertest.Records{}, Flavors: flavors, DefaultFlavor: "tiny", Servers: m.Each, Images: m})
	if err != nil {
		t.Fatal(err)
	}
	known, err := catalog.Open(ctx, catalog.Config{Dir: filepath.Join(dir, "catalog"), Store: launchertest.NewSection(), Launcher: m, Referred: around.Images})
	if err != nil {
		t.Fatal(err)
	}
	who := callers{
		"owner":  {ProjectID: "p1", UserID: "u1", Roles: []string{openstack.Member}},
		"reader": {ProjectID: "p1", UserID: "u2", Roles: []string{openstack.Reader}},
		"other":  {ProjectID: "p2", UserID: "u3", Roles: []string{openstack.Member}},
		"admin":  {ProjectID: "p0", UserID: "u0", Roles: []string{openstack.Admin}},
	}
	handler := openstack.Authentication{
		Tokens: who, Public: api.NetworkPublic, Dialect: openstack.Slipway,
		IdentityURL: func(*http.Request) string { return "http://identity" },
	}.Middleware(api.NewNetwork(api.NetworkConfig{
		Manager: m, Networks: net, Kernels: kernels, Compute: around, Images: known, DefaultFlavor: "tiny", LocalProject: "p0", Version: "test",
	}))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, r = openstack.Begin(w, r)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		for _, s := range m.Servers() {
			if err := m.Delete(context.WithoutCancel(ctx), s.ID); err != nil {
				t.Error(err)
			}
		}
		server.Close()
		if err := errors.Join(known.Close(), m.Close(), net.Close(), log.Close(), roots.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return &site{t, m, server.URL, launchertest.Image(t, v1.Config{Cmd: []string{"/run"}}, "run")}
}

// withToken authenticates what a client sends.
type withToken string

func (token withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(openstack.TokenHeader, string(token))
	return http.DefaultTransport.RoundTrip(r)
}

func (s *site) as(token string) *client.Client {
	return client.NewRemote(s.url+api.NetworkVersion, &http.Client{Transport: withToken(token)})
}

// create makes a server of a project's, and waits until it runs.
func (s *site) create(project, name string) launcher.Server {
	s.t.Helper()
	made, err := s.m.CreateFor(s.t.Context(), launcher.NewServer{
		Project: project, Spec: launcher.Spec{Name: name, Image: s.image}, Details: launcher.Details{UserData: "c2VjcmV0"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	err = s.m.Watch(s.t.Context(), made.ID, func(srv launcher.Server) error {
		switch srv.VMState {
		case launcher.VMActive:
			return io.EOF
		case launcher.VMError:
			return errors.New(srv.Fault)
		}
		return nil
	})
	if !errors.Is(err, io.EOF) {
		s.t.Fatal(err)
	}
	return made
}

func (s *site) get(token, path string) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+api.NetworkVersion+path, http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: withToken(token)}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, b
}

// What a running server of one's own can be asked for, over a real connection.
func TestNetworkServer(t *testing.T) {
	s := newSite(t)
	srv := s.create("p1", "web")
	c, ctx := s.as("owner"), t.Context()
	got, err := c.Server(ctx, "web")
	if err != nil || got.ID != srv.ID || got.UserData != "" || got.Timeline.Total == 0 {
		t.Errorf("show: %+v, %v", got, err)
	}
	var out bytes.Buffer
	in := strings.Repeat("0123456789abcdef", 1<<15)
	exit, err := c.Exec(ctx, "web", agent.ExecRequest{Args: []string{"cat", "-"}}, agent.ExecIO{Stdin: strings.NewReader(in), Stdout: &out})
	if err != nil || exit.Code != 1 || out.String() != in {
		t.Errorf("exec: %+v, %v, %d bytes", exit, err, out.Len())
	}
	stop := make(chan int, 1)
	stop <- 2
	open, _ := io.Pipe()
	exit, err = c.Exec(ctx, "web", agent.ExecRequest{Args: []string{"cat"}}, agent.ExecIO{Stdin: open, Signals: stop})
	if err != nil || exit.Code != 0 {
		t.Errorf("exec that is signalled: %+v, %v", exit, err)
	}
	var text [3]string
	read := make(chan error, 1)
	go func() {
		read <- c.Output(ctx, "web", client.OutputQuery{Follow: true}, func(r output.Record) error {
			text[r.Stream] += string(r.Data)
			return nil
		})
	}()
	if err := c.Stop(ctx, "web", nil); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || text[output.Stdout] != "one\n" || text[output.Stderr] != "two\n" {
		t.Errorf("output: %q, %v", text, err)
	}
	code, body := s.get("owner", "/servers/web/wait?timeout=60")
	var ended launcher.Server
	if err := json.Unmarshal(body, &ended); err != nil || code != http.StatusOK || ended.Exit == nil || ended.Exit.Code != 7 {
		t.Errorf("wait: %d %s", code, body)
	}
	if code, body := s.get("owner", "/servers/web/wait?status=ACTIVE&timeout=0.01"); code != http.StatusRequestTimeout {
		t.Errorf("wait in vain: %d %s", code, body)
	}
	if err := c.Stop(ctx, "web", nil); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("stop of a stopped server: %v", err)
	}
	if err := c.Delete(ctx, "web"); err != nil {
		t.Error(err)
	}
	if _, err := c.Server(ctx, srv.ID); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("a deleted server: %v", err)
	}
}

// Nobody reaches another project's servers, nor does with his own what his role or
// a lock forbids.
func TestNetworkIsolation(t *testing.T) {
	s := newSite(t)
	srv := s.create("p1", "web")
	_ = s.create("p2", "web")
	ctx := t.Context()
	for _, ref := range []string{srv.ID, "web"} {
		got, err := s.as("other").Server(ctx, ref)
		if ref == "web" && (err != nil || got.ID == srv.ID) || ref != "web" && !errors.Is(err, launcher.ErrNotFound) {
			t.Errorf("%s of another project: %v, %v", ref, got.ID, err)
		}
	}
	_, err := s.as("other").Exec(ctx, srv.ID, agent.ExecRequest{Args: []string{"x"}}, agent.ExecIO{})
	if !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("exec in another project's: %v", err)
	}
	for what, err := range map[string]error{
		"stop":   s.as("reader").Stop(ctx, "web", nil),
		"output": s.as("reader").Output(ctx, "web", client.OutputQuery{}, func(output.Record) error { return nil }),
		"copy":   s.as("reader").CopyFrom(ctx, "web", "/etc", false, io.Discard),
	} {
		if !errors.Is(err, launcher.ErrForbidden) {
			t.Errorf("%s by a reader: %v", what, err)
		}
	}
	if got, err := s.as("reader").Servers(ctx); err != nil || len(got) != 1 || got[0].ID != srv.ID {
		t.Errorf("a reader's list: %v, %v", got, err)
	}
	if got, err := s.as("admin").Server(ctx, srv.ID); err != nil || got.ID != srv.ID {
		t.Errorf("an administrator's: %v", err)
	}
	if err := s.m.Lock(ctx, srv.ID, launcher.ActionLock, func(s *launcher.Server) { s.Locked = true }); err != nil {
		t.Fatal(err)
	}
	if err := s.as("owner").Signal(ctx, "web", "TERM"); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("signal to a locked server: %v", err)
	}
	for path, want := range map[string]int{
		"/servers": http.StatusUnauthorized, "": http.StatusOK, "/openapi.json": http.StatusOK,
	} {
		if code, body := s.get("nobody", path); code != want {
			t.Errorf("%q without a token: %d %s", path, code, body)
		}
	}
	if code, _ := s.get("owner", "/servers?all_projects=true"); code != http.StatusForbidden {
		t.Errorf("all projects for a member: %d", code)
	}
	if code, body := s.get("admin", "/servers?all_projects=true"); code != http.StatusOK || strings.Count(string(body), `"vm_state"`) != 2 {
		t.Errorf("all projects for an administrator: %d %s", code, body)
	}
}

func TestNetworkEvents(t *testing.T) {
	s := newSite(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	_ = s.create("p2", "theirs")
	_ = s.create("p1", "mine")
	var seen []string
	err := s.as("reader").Events(ctx, events.Query{Since: begin}, func(e events.Event) error {
		if seen = append(seen, e.Name); e.Action == events.Start {
			return io.EOF
		}
		return nil
	})
	if !errors.Is(err, io.EOF) || strings.Contains(strings.Join(seen, " "), "theirs") {
		t.Errorf("events of %v, %v", seen, err)
	}
}

// The description names all routes, and what they answer is as it says.
func TestOpenAPI(t *testing.T) {
	s := newSite(t)
	srv := s.create("p1", "web")
	if _, err := s.as("owner").CreateNetwork(t.Context(), api.NetworkBody{Name: "default"}); err != nil {
		t.Fatal(err)
	}
	_, data := s.get("", "/openapi.json")
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
		Parts   struct {
			Schemas map[string]*jsonschema.Schema `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(data, &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatalf("%v: %.300s", err, data)
	}
	routes := 0
	for path, methods := range doc.Paths {
		for method := range methods {
			routes++
			// Whoever may not is told so; a path that is not served is not found.
			req, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method),
				s.url+api.NetworkVersion+strings.NewReplacer("{server}", "nothing", "{network}", "nothing").Replace(path), http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if public := path == "/" || path == "/openapi.json"; public != (resp.StatusCode == http.StatusOK) || !public && resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s: %s", method, path, resp.Status)
			}
		}
	}
	if routes != 47 {
		t.Errorf("%d operations are described", routes)
	}
	for path, want := range map[string]struct {
		typ  reflect.Type
		list bool
	}{
		"": {reflect.TypeFor[api.Version](), false}, "/servers": {reflect.TypeFor[launcher.Server](), true},
		"/servers/web": {reflect.TypeFor[launcher.Server](), false}, "/servers/nothing": {reflect.TypeFor[api.ErrorBody](), false},
		"/servers/" + srv.ID + "/wait?status=ACTIVE": {reflect.TypeFor[launcher.Server](), false},
		"/images": {reflect.TypeFor[launcher.Image](), true}, "/image?ref=" + s.image: {reflect.TypeFor[launcher.Image](), false},
		"/networks": {reflect.TypeFor[api.Network](), true}, "/networks/default": {reflect.TypeFor[api.Network](), false},
		"/root-modes": {reflect.TypeFor[rootfs.Mode](), true},
	} {
		schema := doc.Parts.Schemas[want.typ.Name()]
		if schema == nil {
			t.Errorf("%s is not described", want.typ)
			continue
		}
		resolved, err := schema.Resolve(nil)
		if err != nil {
			t.Fatal(err)
		}
		_, body := s.get(map[bool]string{true: "admin", false: "owner"}[strings.HasPrefix(path, "/image?")], path)
		var values []any
		if want.list {
			err = json.Unmarshal(body, &values)
		} else {
			values = make([]any, 1)
			err = json.Unmarshal(body, &values[0])
		}
		if err != nil || len(values) == 0 {
			t.Errorf("%s answers %s, %v", path, body, err)
		}
		for _, v := range values {
			if err := resolved.Validate(v); err != nil {
				t.Errorf("%s answers %s: %v", path, body, err)
			}
		}
	}
}
