//go:build guest && openstack

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// realCloud is the OpenStack that `make openstack` has brought up: at least Keystone
// and Glance.
type realCloud struct {
	t        *testing.T
	dir      string
	clouds   string // the file of users' passwords
	identity string // Keystone's URL
	glance   *traffic
}

// traffic passes requests on to Glance, and counts the bytes of images.
type traffic struct {
	url      string
	up, down atomic.Int64
}

// moved gives what has gone to Glance and come from it since the last call.
func (m *traffic) moved() (up, down int64) { return m.up.Swap(0), m.down.Swap(0) }

func newTraffic(t *testing.T, to string) *traffic {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	m := &traffic{}
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/file") {
			r.Body = countingBody{r.Body, &m.up}
			w = countingWriter{w, &m.down}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

type countingBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c countingBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countingWriter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func newCloud(t *testing.T) *realCloud {
	t.Helper()
	c := &realCloud{t: t, dir: os.Getenv("SLIPWAY_TEST_OPENSTACK")}
	c.clouds = filepath.Join(c.dir, "clouds.yaml")
	if _, err := os.Stat(c.clouds); err != nil {
		t.Fatalf("SLIPWAY_TEST_OPENSTACK: %v: run make test-openstack", err)
	}
	c.rewrite(func(clouds map[string]cloudEntry) {
		c.identity = clouds["admin"].Auth["auth_url"]
		for name, entry := range clouds {
			entry.Region = "" // the client would take no other
			clouds[name] = entry
		}
	})
	c.glance = newTraffic(t, c.openstack("admin", "endpoint list --service image --interface public --region RegionOne -f value -c URL"))
	c.sweep()
	t.Cleanup(c.sweep)
	return c
}

// cloudEntry is one in clouds.yaml.
type cloudEntry struct {
	Auth    map[string]string `yaml:"auth"`
	Version int               `yaml:"identity_api_version"`
	Region  string            `yaml:"region_name,omitempty"`
}

// rewrite changes the users that openstack knows, in a copy.
func (c *realCloud) rewrite(change func(map[string]cloudEntry)) {
	c.t.Helper()
	data, err := os.ReadFile(c.clouds)
	if err != nil {
		c.t.Fatal(err)
	}
	var file struct {
		Clouds map[string]cloudEntry `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		c.t.Fatal(err)
	}
	change(file.Clouds)
	if data, err = yaml.Marshal(file); err != nil {
		c.t.Fatal(err)
	}
	c.clouds = filepath.Join(c.t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(c.clouds, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// openstack runs commands in one process of the real client, a line each, as a user of
// the cloud. An error is in the output, which is given without spaces around it.
func (c *realCloud) openstack(user string, commands ...string) string {
	return c.openstackIn("RegionOne", user, commands...)
}

func (c *realCloud) openstackIn(region, user string, commands ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openstack")
	cmd.Env = append(os.Environ(), "OS_CLIENT_CONFIG_FILE="+c.clouds, "HOME="+scratch,
		"OS_CLOUD="+user, "OS_REGION_NAME="+region, "OS_COMPUTE_API_VERSION=2.79")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("openstack %q: %v\n%s", commands, err, out)
	}
	return strings.TrimSpace(string(out))
}

// user lets openstack know another user of the cloud.
func (c *realCloud) user(name, password, project string) {
	c.t.Helper()
	c.rewrite(func(clouds map[string]cloudEntry) {
		clouds[name] = cloudEntry{Version: 3, Auth: map[string]string{
			"auth_url": c.identity, "username": name, "password": password, "project_name": project,
			"user_domain_name": "Default", "project_domain_name": "Default",
		}}
	})
}

// settings make Slipway a part of the cloud.
func (c *realCloud) settings() []string {
	return []string{"SLIPWAY_CLOUD_NAME=slipway", "SLIPWAY_CLOUD_FILE=" + filepath.Join(c.dir, "clouds.yaml"), "SLIPWAY_IMAGE_URL=" + c.glance.url}
}

// image uploads a file as an image, and gives its ID. It goes with the test, by its
// name, which begins with test-.
func (c *realCloud) image(user, name, file string, options ...string) string {
	c.t.Helper()
	options = append(options, "--container-format docker")
	if !strings.Contains(strings.Join(options, " "), "--disk-format") {
		options = append(options, "--disk-format raw")
	}
	options = append(options, "--file "+file)
	id := c.openstack(user, "image create -f value -c id "+strings.Join(options, " ")+" "+name)
	if !regexp.MustCompile(`^[0-9a-f-]{36}$`).MatchString(id) {
		c.t.Fatalf("openstack image create: %s", id)
	}
	return id
}

// queued makes an image without data, which the client cannot where it has no terminal.
func (c *realCloud) queued(user, name string) {
	c.t.Helper()
	body := strings.NewReader(`{"name": "` + name + `", "container_format": "docker", "disk_format": "raw"}`)
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.glance.url+"/v2/images", body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", c.openstack(user, "token issue -f value -c id"))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		c.t.Fatalf("POST /v2/images: %s", resp.Status)
	}
}

// sweep deletes the images of these tests, hidden ones too: also what a test has left
// that was killed.
func (c *realCloud) sweep() {
	c.t.Helper()
	var ids []string
	for line := range strings.Lines(c.openstack("slipway", "image list -f value -c ID -c Name", "image list --hidden -f value -c ID -c Name")) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if slices.ContainsFunc([]string{"test-", "sha256:"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		c.openstack("slipway", "image delete "+strings.Join(ids, " "))
	}
}

// startService starts a slipwayd that serves the network for a state, and gives its URL.
func (s *state) startService(settings ...string) string {
	s.t.Helper()
	var log buffer
	cmd := exec.Command(filepath.Join(bin, "slipwayd"), "--listen", "127.0.0.1:0")
	cmd.Env, cmd.Stderr = append(s.env, settings...), &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if s.t.Failed() {
			s.t.Logf("slipwayd wrote:\n%s", tail(log.String()))
		}
	})
	ready := regexp.MustCompile(`msg="service ready" url=(\S+)`)
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if found := ready.FindStringSubmatch(log.String()); found != nil {
			return found[1]
		}
		if time.Now().After(end) {
			s.t.Fatalf("slipwayd does not serve:\n%s", log.String())
		}
	}
}
