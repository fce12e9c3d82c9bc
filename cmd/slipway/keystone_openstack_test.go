//go:build guest && openstack

package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// call makes a request with a token, and gives the status of the answer.
func call(t *testing.T, method, url, token, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", "compute 2.37")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// ids are those of a login's user and project.
func ids(t *testing.T, login *gophercloud.ProviderClient) []string {
	t.Helper()
	result := login.GetAuthResult().(tokens.CreateResult)
	user, err := result.ExtractUser()
	if err != nil {
		t.Fatal(err)
	}
	project, err := result.ExtractProject()
	if err != nil {
		t.Fatal(err)
	}
	return []string{user.ID, project.ID}
}

// Users of a real Keystone boot images of a real Glance on Slipway, by its catalog.
func TestKeystone(t *testing.T) {
	const region = "slipway-test"
	c := newCloud(t)
	s := newState(t, append(c.settings(), "SLIPWAY_IDENTITY_URL="+c.identity, "SLIPWAY_IDENTITY_TOKEN_CACHE=2s")...)
	at := s.startService()
	s.run("service", "deregister", "--region", region) // what a killed test has left
	s.run("service", "register", "--url", at, "--region", region).ok()
	t.Cleanup(func() { s.run("service", "deregister", "--region", region).ok() })
	s.run("service", "register", "--url", at, "--region", region).ok()
	s.run("service", "register", "--url", c.identity, "--region", region).exits(1).complains("is not Slipway")

	img := configured(t, func(cfg *v1.Config) {
		cfg.Entrypoint, cfg.Cmd = []string{"/bin/sh", "-c"}, []string{"echo hello from $(hostname); exec sleep 1000"}
	})
	private := c.image("demo", "test-keystone-private", dockerSave(t, img), func(o *images.CreateOpts) {
		private := images.ImageVisibilityPrivate
		o.Visibility = &private
	})
	out := c.openstackIn(region, "demo",
		"server create --image test-keystone-private --flavor m1.nano --nic none --wait web -f value -c status",
		"server list -f value -c Name",
		"server show web -f value -c image -c user_id -c project_id",
	)
	if !strings.Contains(out, "ACTIVE") || !strings.Contains(out, "test-keystone-private") {
		t.Fatalf("the client says:\n%s", out)
	}
	if err := lacks(out, ids(t, c.login("demo"))...); err != nil {
		t.Error(err)
	}
	eventually(t, deadline, func() error {
		return lacks(c.openstackIn(region, "demo", "console log show web"), "hello from web")
	})

	// Another project has neither the server nor the image.
	out = c.openstackIn(region, "other",
		"server list -f value -c Name", "server show web",
		"server create --image "+private+" --flavor m1.nano --nic none no")
	if err := lacks(out, "No server with a name or ID of 'web' exists", "No Image found for "+private); err != nil {
		t.Error(err)
	}
	token := func(user string) string { return c.login(user).Token() }
	other := token("other")
	body := `{"server": {"name": "no", "flavorRef": "m1.nano", "networks": "none", "imageRef": "` + private + `"}}`
	if code := call(t, "POST", at+"/compute/v2.1/servers", other, body); code != http.StatusBadRequest {
		t.Errorf("a server from another project's image: %d", code)
	}
	if code := call(t, "GET", at+"/image/v2/images/"+private, other, ""); code != http.StatusNotFound {
		t.Errorf("another project's image: %d", code)
	}

	// Who may only read does not create; who is revoked is refused soon.
	c.reader("test-keystone-reader", "demo")
	reader := token("test-keystone-reader")
	if code := call(t, "GET", at+"/compute/v2.1/servers", reader, ""); code != http.StatusOK {
		t.Errorf("a reader lists servers: %d", code)
	}
	body = strings.Replace(body, private, c.image("demo", "test-keystone-other", dockerSave(t, img)), 1)
	if code := call(t, "POST", at+"/compute/v2.1/servers", reader, body); code != http.StatusForbidden {
		t.Errorf("a reader creates a server: %d", code)
	}
	if err := tokens.Revoke(t.Context(), c.keystone(), reader).Err; err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(t, deadline, func() error {
		if code := call(t, "GET", at+"/compute/v2.1/servers", reader, ""); code != http.StatusUnauthorized {
			return fmt.Errorf("a revoked token is answered %d", code)
		}
		return nil
	})
	t.Logf("a revoked token was good for %s", time.Since(began).Round(time.Millisecond))
	if code := call(t, "GET", at+"/compute/v2.1/servers", "nonsense", ""); code != http.StatusUnauthorized {
		t.Errorf("no token: %d", code)
	}
	c.openstackIn(region, "demo", "server delete --wait web")
}
