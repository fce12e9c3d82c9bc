//go:build guest && openstack

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"go.yaml.in/yaml/v3"

	"github.com/slipway-vm/slipway/cmd/internal/traffic"
	"github.com/slipway-vm/slipway/images/glance"
)

// realCloud is the OpenStack that `make openstack` has brought up: at least Keystone
// and Glance.
type realCloud struct {
	t        *testing.T
	dir      string
	clouds   string // the file of users' passwords
	identity string // Keystone's URL
	imageURL string // Glance's
	glance   *traffic.Meter
}

// newCloud is reachCloud for tests of images: those of other tests go.
func newCloud(t *testing.T) *realCloud {
	t.Helper()
	c := reachCloud(t)
	c.sweep()
	t.Cleanup(c.sweep)
	return c
}

func reachCloud(t *testing.T) *realCloud {
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
	var err error
	c.imageURL, err = c.login("admin").EndpointLocator(gophercloud.EndpointOpts{Type: "image", Region: "RegionOne", Availability: gophercloud.AvailabilityPublic})
	if err != nil {
		t.Fatal(err)
	}
	c.imageURL = strings.TrimRight(c.imageURL, "/")
	if c.glance, err = traffic.New(c.imageURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.glance.Close)
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

// keystone is the identity service as an administrator has it.
func (c *realCloud) keystone() *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{ProviderClient: c.login("admin"), Endpoint: c.identity + "/", Type: "identity"}
}

// reader makes a user who may only read in a project, and lets openstack know him. He
// goes with the test.
func (c *realCloud) reader(name, project string) {
	c.t.Helper()
	const password = "r3ader"
	keystone := c.keystone()
	c.removeUser(keystone, name) // whom a killed test has left
	made, err := users.Create(c.t.Context(), keystone, users.CreateOpts{Name: name, Password: password, DomainID: "default"}).Extract()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.removeUser(keystone, name) })
	pages, err := roles.List(keystone, roles.ListOpts{Name: "reader"}).AllPages(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	role, err := roles.ExtractRoles(pages)
	if err != nil || len(role) != 1 {
		c.t.Fatal(role, err)
	}
	to := ids(c.t, c.login(project))[1] // the user of its name is in it
	if err := roles.Assign(c.t.Context(), keystone, role[0].ID, roles.AssignOpts{UserID: made.ID, ProjectID: to}).ExtractErr(); err != nil {
		c.t.Fatal(err)
	}
	c.rewrite(func(clouds map[string]cloudEntry) {
		clouds[name] = cloudEntry{Version: 3, Auth: map[string]string{
			"auth_url": c.identity, "username": name, "password": password, "project_name": project,
			"user_domain_name": "Default", "project_domain_name": "Default",
		}}
	})
}

func (c *realCloud) removeUser(keystone *gophercloud.ServiceClient, name string) {
	pages, err := users.List(keystone, users.ListOpts{Name: name}).AllPages(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	found, err := users.ExtractUsers(pages)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, user := range found {
		if err := users.Delete(context.Background(), keystone, user.ID).ExtractErr(); err != nil {
			c.t.Errorf("delete user %s: %v", name, err)
		}
	}
}

// settings make Slipway a part of the cloud.
func (c *realCloud) settings() []string {
	return []string{"SLIPWAY_CLOUD_NAME=slipway", "SLIPWAY_CLOUD_FILE=" + filepath.Join(c.dir, "clouds.yaml"), "SLIPWAY_IMAGE_URL=" + c.glance.URL}
}

// login gives a client that is logged in as a user of the cloud.
func (c *realCloud) login(user string) *gophercloud.ProviderClient {
	c.t.Helper()
	auth, _, transport, err := clouds.Parse(clouds.WithCloudName(user), clouds.WithLocations(c.clouds))
	if err != nil {
		c.t.Fatal(err)
	}
	provider, err := config.NewProviderClient(context.Background(), auth, config.WithTLSConfig(transport))
	if err != nil {
		c.t.Fatal(err)
	}
	return provider
}

// images is Glance as a user has it.
func (c *realCloud) images(user string) *gophercloud.ServiceClient {
	return &gophercloud.ServiceClient{ProviderClient: c.login(user), Endpoint: c.imageURL + "/", ResourceBase: c.imageURL + "/v2/", Type: "image"}
}

// image uploads a file as an image, and gives its ID. It goes with the test, by its
// name, which begins with test-.
func (c *realCloud) image(user, name, file string, change ...func(*images.CreateOpts)) string {
	c.t.Helper()
	service := c.images(user)
	f, err := os.Open(file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	id := c.queued(user, name, change...)
	if err := imagedata.Upload(c.t.Context(), service, id, f).ExtractErr(); err != nil {
		c.t.Fatalf("upload image %s: %v", name, err)
	}
	return id
}

// queued makes an image without data.
func (c *realCloud) queued(user, name string, change ...func(*images.CreateOpts)) string {
	c.t.Helper()
	opts := images.CreateOpts{Name: name, ContainerFormat: "docker", DiskFormat: "raw"}
	for _, f := range change {
		f(&opts)
	}
	made, err := images.Create(c.t.Context(), c.images(user), opts).Extract()
	if err != nil {
		c.t.Fatalf("create image %s: %v", name, err)
	}
	return made.ID
}

// listed are the images that a user sees, hidden or not, by ID.
func (c *realCloud) listed(user string, hidden bool) map[string]string {
	names := map[string]string{}
	for _, i := range c.all(user, hidden) {
		names[i.ID] = i.Name
	}
	return names
}

func (c *realCloud) all(user string, hidden bool) []images.Image {
	c.t.Helper()
	pages, err := images.List(c.images(user), images.ListOpts{Hidden: hidden}).AllPages(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	list, err := images.ExtractImages(pages)
	if err != nil {
		c.t.Fatal(err)
	}
	return list
}

// sweep deletes the images of these tests, hidden ones too: also what a test has left
// that was killed.
func (c *realCloud) sweep() {
	c.t.Helper()
	service := c.images("slipway")
	for _, hidden := range []bool{false, true} {
		for _, i := range c.all("slipway", hidden) {
			if !strings.HasPrefix(i.Name, "test-") && i.Properties[glance.Digest] == nil && i.Properties[glance.Export] == nil {
				continue
			}
			if err := images.Delete(context.Background(), service, i.ID).ExtractErr(); err != nil {
				c.t.Errorf("delete image %s: %v", i.Name, err)
			}
		}
	}
}

// startService starts a slipwayd that serves the network for a state, and gives its URL.
func (s *state) startService(settings ...string) string {
	s.t.Helper()
	var log buffer
	line := slices.Concat(s.under, []string{filepath.Join(bin, "slipwayd"), "--listen", "127.0.0.1:0"})
	cmd := exec.Command(line[0], line[1:]...)
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
