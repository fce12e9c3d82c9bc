package source

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/share"
)

func TestFileSystem(t *testing.T) {
	image := func(signature string, at int, label string, labelAt int) *bytes.Reader {
		b := make([]byte, 64<<10)
		copy(b[at:], signature)
		copy(b[labelAt:], label)
		return bytes.NewReader(b)
	}
	for _, test := range []struct {
		image         *bytes.Reader
		label, fstype string
	}{
		{image("CD001", 0x8001, "config-2                        ", 0x8028), "config-2", "iso9660"},
		{image("FAT16   ", 0x36, "CONFIG-2   ", 0x2b), "config-2", "vfat"},
		{image("FAT32   ", 0x52, "CIDATA     ", 0x47), "cidata", "vfat"},
		{image("CD001", 0x8001, "Debian", 0x8028), "", ""},
		{bytes.NewReader(nil), "", ""},
	} {
		if label, fstype := fileSystem(test.image); label != test.label || fstype != test.fstype {
			t.Errorf("%q, %q, want %q, %q", label, fstype, test.label, test.fstype)
		}
	}
}

func TestNoCloud(t *testing.T) {
	s, err := read(fstest.MapFS{"meta-data": {Data: []byte("instance-id: i-1\nlocal-hostname: h\n")}, "user-data": {Data: []byte("#!/bin/sh\n")}}, cloudinit.NoCloudLabel)
	if err != nil || s.MetaData.InstanceID != "i-1" || s.MetaData.LocalHostname != "h" || string(s.UserData) != "#!/bin/sh\n" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := read(fstest.MapFS{}, cloudinit.NoCloudLabel); err == nil {
		t.Error("no meta-data is no error")
	}
}

func TestService(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/openstack/latest/meta_data.json":
			_, _ = w.Write([]byte(`{"uuid": "u-1", "hostname": "web", "public_keys": {"k": "ssh-rsa x"}}`))
		case "/openstack/latest/user_data":
			_, _ = w.Write([]byte("#cloud-config\n{}\n"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer service.Close()
	s, err := fromService(t.Context(), service.URL)
	if err != nil || s.MetaData.InstanceID != "u-1" || s.MetaData.LocalHostname != "web" || len(s.MetaData.PublicKeys) != 1 || len(s.UserData) == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fromService(ctx, "http://127.0.0.1:1"); err == nil {
		t.Error("no service is no error")
	}
}

func TestGrant(t *testing.T) {
	ack, err := dhcpv4.New(
		dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1)),
		dhcpv4.WithDNS(net.IPv4(10, 0, 0, 2)), dhcpv4.WithOption(dhcpv4.OptDomainName("example.org")))
	if err != nil {
		t.Fatal(err)
	}
	var i link
	var names resolver
	i.grant(ack, &names)
	if !slices.Equal(i.Addresses, []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}) || len(i.Routes) != 1 || i.Routes[0].Via.String() != "10.0.0.1" ||
		!slices.Equal(names.servers, []string{"10.0.0.2"}) || !slices.Equal(names.search, []string{"example.org"}) {
		t.Errorf("%+v, %+v", i, names)
	}
}

func TestConfigured(t *testing.T) {
	config := &cloudinit.NetworkConfig{Links: []cloudinit.Link{{MAC: "FA:16:3E:00:00:01", DHCP4: true}}}
	for _, test := range []struct {
		config *cloudinit.NetworkConfig
		mac    string
		told   bool
		dhcp   bool
	}{{nil, "x", false, false}, {&cloudinit.NetworkConfig{}, "x", false, false}, {config, "fa:16:3e:00:00:01", true, true}, {config, "fa:16:3e:00:00:02", true, false}} {
		if l, told := configured(test.config, test.mac); told != test.told || l.DHCP4 != test.dhcp {
			t.Errorf("%s: %+v, %v", test.mac, l, told)
		}
	}
}

// The disk's own user-data stays where the cloud brings none.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	process := filepath.Join(dir, "process.json")
	for name, data := range map[string]string{process: `{"version": 2, "args": ["x"]}`, filepath.Join(dir, "user-data"): "own"} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := merge(dir, &cloudinit.Seed{MetaData: cloudinit.MetaData{InstanceID: "i"}}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "user-data")); err != nil || string(b) != "own" {
		t.Errorf("%q, %v", b, err)
	}
	all := links{{Interface: share.Interface{Name: "eth0", MAC: "fa:16:3e:00:00:01", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}}}}
	if err := setProcess(process, all, resolver{servers: []string{"10.0.0.2"}}, true); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(process)
	if err != nil {
		t.Fatal(err)
	}
	if spec, err := share.ParseSpec(b); err != nil || len(spec.Interfaces) != 1 || spec.Nameservers[0] != "10.0.0.2" || spec.Linger != linger {
		t.Errorf("%+v, %v", spec, err)
	}
}
