package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-vm/slipway/cloudinit"
)

// guests is a Source of guests by their addresses.
type guests struct {
	mu  sync.Mutex
	all map[netip.Addr]*Instance
}

func (g *guests) Instance(_ context.Context, from netip.Addr) (*Instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.all[from]
	if i == nil {
		return nil, ErrUnknown
	}
	found := *i
	return &found, nil
}

func (g *guests) SetPassword(_ context.Context, from netip.Addr, password string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.all[from]
	switch {
	case i == nil:
		return ErrUnknown
	case i.Password != "":
		return ErrPasswordSet
	}
	i.Password = password
	return nil
}

// web is a guest that has everything.
func web() *Instance {
	return &Instance{
		Seed: cloudinit.Seed{
			MetaData: cloudinit.MetaData{
				InstanceID: "4a1d0f3e-0000-4000-8000-000000000001", LocalHostname: "web", Name: "my web", AvailabilityZone: "nova", ProjectID: "p",
				PublicKeys: []string{"ssh-ed25519 AAAA me"}, KeyName: "mine", Meta: map[string]string{"role": "front"},
			},
			UserData: []byte("#!/bin/sh\necho \x00\xff\n"), VendorData: []byte("#cloud-config\ntimezone: UTC\n"),
			Network: &cloudinit.NetworkConfig{Links: []cloudinit.Link{{
				Name: "eth0", MAC: "52:54:00:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")},
				Gateway4: netip.MustParseAddr("10.0.0.1"), Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			}}},
		},
		ImageID: "11111111-2222-3333-4444-555555555555", Flavor: "m1.tiny", Reservation: "r-1", SecurityGroups: []string{"default", "web"},
		LocalIPv4: netip.MustParseAddr("10.0.0.5"), PublicIPv4: netip.MustParseAddr("203.0.113.9"),
	}
}

func ask(t *testing.T, h http.Handler, from, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, "http://"+Address+"/", strings.NewReader(body))
	r.URL.Path, r.RemoteAddr = path, from
	// What a guest says about itself changes nothing.
	r.Header.Set("X-Forwarded-For", "10.0.0.6")
	r.Header.Set("X-Instance-ID", "other")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	webPort   = "10.0.0.5:40000"
	otherPort = "10.0.0.6:40000"
)

func testGuests() *guests {
	other := &Instance{Seed: cloudinit.Seed{MetaData: cloudinit.MetaData{InstanceID: "other", LocalHostname: "other"}}}
	return &guests{all: map[netip.Addr]*Instance{netip.MustParseAddr("10.0.0.5"): web(), netip.MustParseAddr("10.0.0.6"): other}}
}

func TestPaths(t *testing.T) {
	h := New(testGuests(), nil)
	tests := []struct {
		path, want string // "" for 404
	}{
		{"/", "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest"},
		{"/ec2", "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n2008-09-01\n2009-04-04\nlatest"},
		{"/latest", "meta-data/\nuser-data"},
		{"/latest/", "meta-data/\nuser-data"},
		{"//latest//meta-data/../meta-data/hostname", "web"},
		{"/1.0/meta-data", "ami-id\nami-launch-index\nami-manifest-path\nhostname\ninstance-id\nlocal-ipv4\npublic-keys/\nreservation-id\nsecurity-groups"},
		{"/2009-04-04/meta-data/", "ami-id\nami-launch-index\nami-manifest-path\nhostname\ninstance-action\ninstance-id\ninstance-type\n" +
			"local-hostname\nlocal-ipv4\nplacement/\npublic-hostname\npublic-ipv4\npublic-keys/\nreservation-id\nsecurity-groups"},
		{"/latest/meta-data/instance-id", "i-4a1d0f3e000040008"},
		{"/latest/meta-data/ami-id", "ami-11111111222233334"},
		{"/latest/meta-data/security-groups", "default\nweb"},
		{"/latest/meta-data/public-keys/", "0=mine"},
		{"/latest/meta-data/public-keys/0/", "openssh-key"},
		{"/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA me"},
		{"/latest/meta-data/placement/availability-zone", "nova"},
		{"/ec2/latest/meta-data/local-ipv4", "10.0.0.5"},
		{"/latest/meta-data/public-ipv4", "203.0.113.9"},
		{"/latest/user-data", "#!/bin/sh\necho \x00\xff\n"},
		{"/1.0/meta-data/instance-type", ""},
		{"/2010-01-01/meta-data", ""},
		{"/latest/meta-data/hostname/x", ""},
		{"/latest/dynamic/instance-identity/document", ""},
		{"/latest/api/token", ""},
		{"/openstack", "2012-08-10\n2013-04-04\n2013-10-17\n2015-10-15\n2016-06-30\n2016-10-06\n2017-02-22\n2018-08-27\nlatest"},
		{"/openstack/2012-08-10", "meta_data.json\nuser_data"},
		{"/openstack/latest/", "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json"},
		{"/openstack/latest/user_data", "#!/bin/sh\necho \x00\xff\n"},
		{"/openstack/latest/vendor_data.json", `{"cloud-init":"#cloud-config\ntimezone: UTC\n"}`},
		{"/openstack/latest/vendor_data2.json", `{}`},
		{"/openstack/2012-08-10/network_data.json", ""},
		{"/openstack/2012-08-10/password", ""},
		{"/openstack/2030-01-01/meta_data.json", ""},
		{"/openstack/latest/meta_data.json/x", ""},
		{"/openstack/content/0000", ""},
		{"/favicon.ico", ""},
	}
	for _, tt := range tests {
		w := ask(t, h, webPort, http.MethodGet, tt.path, "")
		if tt.want == "" {
			if w.Code != http.StatusNotFound {
				t.Errorf("%s: %d %s", tt.path, w.Code, w.Body)
			}
			continue
		}
		if w.Code != http.StatusOK || w.Body.String() != tt.want {
			t.Errorf("%s: %d %q, want %q", tt.path, w.Code, w.Body, tt.want)
		}
	}
}

func TestMetaData(t *testing.T) {
	h := New(testGuests(), nil)
	var first, again map[string]any
	for _, into := range []*map[string]any{&first, &again} {
		w := ask(t, h, webPort, http.MethodGet, "/openstack/2018-08-27/meta_data.json", "")
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Header().Get("Content-Type") != "application/json" {
			t.Fatalf("%v: %v %s", err, w.Header(), w.Body)
		}
	}
	if first["uuid"] != "4a1d0f3e-0000-4000-8000-000000000001" || first["public_keys"].(map[string]any)["mine"] != "ssh-ed25519 AAAA me" || first["launch_index"] != 0.0 {
		t.Errorf("%v", first)
	}
	if seed, _ := first["random_seed"].(string); len(seed) != 684 || seed == again["random_seed"] {
		t.Errorf("random seeds %q and %q", seed, again["random_seed"])
	}
}

// A guest is who its connection comes from, whatever it says.
func TestWhoAsks(t *testing.T) {
	h := New(testGuests(), nil)
	if w := ask(t, h, otherPort, http.MethodGet, "/latest/meta-data/hostname", ""); w.Body.String() != "other" {
		t.Errorf("the other guest: %s", w.Body)
	}
	if w := ask(t, h, otherPort, http.MethodGet, "/latest/user-data", ""); w.Code != http.StatusNotFound {
		t.Errorf("no user-data: %d %s", w.Code, w.Body)
	}
	if w := ask(t, h, "[::ffff:10.0.0.5]:40000", http.MethodGet, "/latest/meta-data/hostname", ""); w.Body.String() != "web" {
		t.Errorf("mapped address: %s", w.Body)
	}
	if w := ask(t, h, "10.0.0.7:40000", http.MethodGet, "/openstack", ""); w.Code != http.StatusNotFound {
		t.Errorf("nobody: %d %s", w.Code, w.Body)
	}
}

func TestPassword(t *testing.T) {
	h := New(testGuests(), nil)
	const path = "/openstack/latest/password"
	steps := []struct {
		from, method, path, body string
		code                     int
		want                     string
	}{
		{webPort, "GET", path, "", 200, ""},
		{webPort, "POST", path, strings.Repeat("x", MaxPassword+1), 400, ""},
		{webPort, "PUT", path, "x", 400, ""},
		{webPort, "POST", "/openstack/2012-08-10/password", "x", 405, ""},
		{webPort, "POST", "/openstack/2013-04-04/password", "c2VjcmV0", 200, ""},
		{webPort, "POST", path, "again", 409, ""},
		{webPort, "GET", path, "", 200, "c2VjcmV0"},
		{otherPort, "GET", path, "", 200, ""},
		{webPort, "POST", "/openstack/latest/user_data", "x", 405, ""},
		{webPort, "DELETE", "/latest/meta-data", "", 405, ""},
	}
	for _, s := range steps {
		w := ask(t, h, s.from, s.method, s.path, s.body)
		if w.Code != s.code || s.code == 200 && w.Body.String() != s.want {
			t.Errorf("%s %s: %d %q", s.method, s.path, w.Code, w.Body)
		}
	}
}

// broken is a Source that cannot look.
type broken struct{ *guests }

var errBroken = errors.New("secret detail")

func (broken) Instance(context.Context, netip.Addr) (*Instance, error) { return nil, errBroken }

func TestFailure(t *testing.T) {
	w := ask(t, New(broken{}, nil), webPort, http.MethodGet, "/openstack", "")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
