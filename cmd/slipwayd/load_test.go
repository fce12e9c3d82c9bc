package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/store"
	"github.com/slipway-vm/slipway/rootfs"
)

// crowd is the network service as it is, but for the hypervisor, whose guests are
// fakes; and its clients.
type crowd struct {
	t       testing.TB
	service *service
	http    *http.Client
	token   string
	image   string

	mu    sync.Mutex
	times map[string][]time.Duration // of answers, by kind of request
}

func newCrowd(t testing.TB) *crowd {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "slipwayd-") //nolint:usetesting // t.TempDir's paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir())
	t.Setenv("SUDO_UID", "")
	cfg := config.Default()
	cfg.StateDir, cfg.API.Listen = dir, "127.0.0.1:0"
	e := &engine{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	e.ctx, e.cancel = context.WithCancel(t.Context())
	if e.store, err = store.Open(t.Context(), e.path("slipway.db")); err != nil {
		t.Fatal(err)
	}
	e.onClose(e.store.Close)
	e.manager = fakeManager(t, e)
	e.onClose(e.manager.Close)
	if e.service, err = openService(t.Context(), e, false); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.service.serve() }()
	c := &crowd{
		t: t, service: e.service, image: launchertest.Image(t, v1.Config{Cmd: []string{"/run"}}, "run"),
		http:  &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}, Timeout: 2 * time.Minute},
		times: map[string][]time.Duration{},
	}
	t.Cleanup(func() {
		c.http.CloseIdleConnections()
		for _, s := range e.manager.Servers() {
			if err := e.manager.Delete(context.Background(), s.ID); err != nil && !errors.Is(err, launcher.ErrNotFound) {
				t.Error(err)
			}
		}
		if err := errors.Join(e.close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	c.login()
	return c
}

// fakeManager is a manager whose guests run until they are stopped.
func fakeManager(t testing.TB, e *engine) *launcher.Manager {
	t.Helper()
	roots, err := rootfs.Open(t.Context(), rootfs.Config{Dir: e.path("rootfs")})
	if err != nil {
		t.Fatal(err)
	}
	e.onClose(roots.Close)
	pulled, err := images.Open(images.Config{Dir: e.path("images")})
	if err != nil {
		t.Fatal(err)
	}
	runs := func(ctx context.Context, p *launchertest.Process) agent.Exit {
		p.Write(ctx, agent.Stdout, "running\n")
		select {
		case <-p.Stop:
		case <-ctx.Done():
		}
		return agent.Exit{Code: 143, Signal: 15}
	}
	m, err := launcher.New(t.Context(), launcher.Config{
		Dir: e.path("servers"), Images: pulled, Roots: roots, Store: e.store, DomainPrefix: "load-",
		Hypervisor: &launchertest.Hypervisor{Programs: map[string]launchertest.Program{"/run": runs}},
		Kernels:    launchertest.Kernels{}, Host: launchertest.Host{}, Init: "/test/init",
		Flavors: flavors(e.cfg), DefaultFlavor: e.cfg.Boot.Flavor, RootMode: "block",
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// login gets a token as the first user, and lifts the quotas of his project.
func (c *crowd) login() {
	c.t.Helper()
	clouds, err := os.ReadFile(filepath.Join(os.Getenv("HOME"), ".config/openstack/clouds.yaml"))
	if err != nil {
		c.t.Fatal(err)
	}
	_, password, _ := strings.Cut(string(clouds), "password: ")
	password, _, _ = strings.Cut(password, "\n")
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"admin","domain":{"id":"default"},"password":%q}}},
		"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}`, password)
	resp, err := c.http.Post(c.service.localURL()+"/identity/v3/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if c.token = resp.Header.Get("X-Subject-Token"); c.token == "" {
		text, _ := io.ReadAll(resp.Body)
		c.t.Fatalf("no token: %s %s", resp.Status, text)
	}
	all := compute.Limits{compute.Instances: -1, compute.Cores: -1, compute.RAM: -1}
	if err := c.service.compute.Quotas.SetClass(c.t.Context(), compute.DefaultClass, all); err != nil {
		c.t.Fatal(err)
	}
}

// ask makes a request and notes how long it took. A status of 409 is the client's own
// doing: whoever uses a server that is busy gets it.
func (c *crowd) ask(ctx context.Context, kind, method, path, body string) (map[string]any, bool) {
	r, err := http.NewRequestWithContext(ctx, method, c.service.localURL()+"/compute/v2.1"+path, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return nil, false
	}
	r.Header.Set("X-Auth-Token", c.token)
	r.Header.Set("OpenStack-API-Version", "compute 2.90")
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.http.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			c.t.Errorf("%s %s: %v", method, path, err)
		}
		return nil, false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		if ctx.Err() == nil {
			c.t.Errorf("%s %s: %v", method, path, err)
		}
		return nil, false
	}
	took := time.Since(began)
	if resp.StatusCode == http.StatusConflict {
		return nil, false
	}
	if resp.StatusCode >= 300 {
		c.t.Errorf("%s %s: %s %s", method, path, resp.Status, text)
		return nil, false
	}
	c.mu.Lock()
	c.times[kind] = append(c.times[kind], took)
	c.mu.Unlock()
	var v map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &v); err != nil {
			c.t.Errorf("%s %s: %v", method, path, err)
			return nil, false
		}
	}
	return v, true
}

// create makes a server and waits until it is active.
func (c *crowd) create(ctx context.Context, name string) (id string) {
	v, ok := c.ask(ctx, "create", "POST", "/servers", fmt.Sprintf(
		`{"server":{"name":%q,"imageRef":%q,"flavorRef":"m1.nano","networks":"none"}}`, name, c.image))
	if !ok {
		return ""
	}
	id = v["server"].(map[string]any)["id"].(string)
	for ctx.Err() == nil {
		v, ok := c.ask(ctx, "show", "GET", "/servers/"+id, "")
		if !ok {
			return ""
		}
		switch srv := v["server"].(map[string]any); srv["status"] {
		case "ACTIVE":
			return id
		case "BUILD":
			time.Sleep(50 * time.Millisecond)
		default:
			c.t.Errorf("server %s is %v: %v", name, srv["status"], srv["fault"])
			return id
		}
	}
	return id
}

// fill makes n servers, some at a time.
func (c *crowd) fill(ctx context.Context, n int) []string {
	ids := make([]string, n)
	var makers sync.WaitGroup
	for worker := range 16 {
		makers.Go(func() {
			for i := worker; i < n; i += 16 {
				ids[i] = c.create(ctx, fmt.Sprintf("server-%d", i))
			}
		})
	}
	makers.Wait()
	return ids
}

// use is one client until ctx ends: it reads the servers of all, changes some, and
// makes and deletes its own.
func (c *crowd) use(ctx context.Context, n int, ids []string) {
	for i := 0; ctx.Err() == nil; i++ {
		server := "/servers/" + ids[rand.N(len(ids))]
		switch rand.N(20) {
		case 0, 1, 2:
			c.ask(ctx, "list", "GET", "/servers", "")
		case 3:
			c.ask(ctx, "list with details", "GET", "/servers/detail", "")
		case 4, 5, 6:
			c.ask(ctx, "page with details", "GET", "/servers/detail?limit=20", "")
		case 7, 8, 9, 10, 11:
			c.ask(ctx, "show", "GET", server, "")
		case 12, 13:
			c.ask(ctx, "flavors", "GET", "/flavors/detail", "")
		case 14, 15, 16:
			c.ask(ctx, "set metadata", "POST", server+"/metadata", fmt.Sprintf(`{"metadata":{"client":"%d"}}`, n))
		case 17:
			c.ask(ctx, "pause", "POST", server+"/action", `{"pause":null}`)
		case 18:
			c.ask(ctx, "unpause", "POST", server+"/action", `{"unpause":null}`)
		case 19:
			if id := c.create(ctx, fmt.Sprintf("client-%d-%d", n, i)); id != "" {
				c.ask(context.WithoutCancel(ctx), "delete", "DELETE", "/servers/"+id, "")
			}
		}
	}
}

// together has clients use the service at once for a while.
func (c *crowd) together(ids []string, clients int, span time.Duration) {
	ctx, cancel := context.WithTimeout(c.t.Context(), span)
	defer cancel()
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() { c.use(ctx, n, ids) })
	}
	all.Wait()
}

// TestManyClients is BenchmarkManyClients in small. A busy host may take longer
// to answer requests of every kind.
func TestManyClients(t *testing.T) {
	c := newCrowd(t)
	ids := c.fill(t.Context(), 30)
	var missing []string
	for span := 3 * time.Second; span < time.Minute; span *= 2 {
		c.together(ids, 200, span)
		missing = slices.DeleteFunc([]string{"list", "show", "set metadata", "create", "delete"},
			func(kind string) bool { return len(c.times[kind]) > 0 })
		if len(missing) == 0 {
			return
		}
	}
	t.Errorf("no requests of these kinds were answered: %s", strings.Join(missing, ", "))
}

// BenchmarkManyClients has 200 clients use a service of 1,000 servers for a minute. An
// answer that is an error, other than a conflict, fails it.
func BenchmarkManyClients(b *testing.B) {
	c := newCrowd(b)
	ids := c.fill(b.Context(), 1000)
	for range b.N {
		for _, clients := range []int{1, 200} {
			c.times = map[string][]time.Duration{}
			c.together(ids, clients, time.Minute)
			c.report(fmt.Sprintf("clients: %d", clients), time.Minute)
		}
	}
}

// report prints the times of all kinds of requests.
func (c *crowd) report(name string, span time.Duration) {
	total := 0
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "\n%s\trequests\tmedian\tp99\t\n", name)
	kinds := make([]string, 0, len(c.times))
	for kind := range c.times {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		all := c.times[kind]
		slices.Sort(all)
		total += len(all)
		fmt.Fprintf(w, "%s\t%d\t%.1f ms\t%.1f ms\t\n", kind, len(all), ms(all[len(all)/2]), ms(all[len(all)*99/100]))
	}
	fmt.Fprintf(w, "all, a second\t%.0f\t\t\t\n", float64(total)/span.Seconds())
	w.Flush()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
