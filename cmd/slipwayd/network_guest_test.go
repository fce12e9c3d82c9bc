//go:build guest

package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// slipway runs the command line in the service's state directory.
func (d *slipwayd) slipway(args ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), filepath.Join(os.Getenv("SLIPWAY_TEST_BIN"), "slipway"), args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_STATE_DIR="+filepath.Dir(d.home))
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Errorf("slipway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// lasting makes an image of busybox whose entrypoint serves what it is asked to, and
// does not end.
func lasting(t *testing.T) string {
	t.Helper()
	from, err := layout.FromPath(filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), "busybox"))
	if err != nil {
		t.Fatalf("%v: run make test", err)
	}
	index, err := from.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	image, err := from.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config := file.Config
	config.Cmd = []string{"sh", "-c", "mkdir -p /www && hostname > /www/name && exec httpd -f -p 80 -h /www"}
	if image, err = mutate.Config(image, config); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "lasting")
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.AppendImage(image); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// TestServerNetworking has the real client put servers on networks, and the guests
// ask what answers there.
func TestServerNetworking(t *testing.T) {
	d := startService(t, newStateDir(t))
	d.slipway("kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL"))
	image := lasting(t)
	d.slipway("image", "pull", image)
	userData := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(userData, []byte("#cloud-config\nwrite_files: [{path: /told, content: by user-data}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := d.openstack(
		"network create --mtu 1400 lan -f value -c name",
		"subnet create --network lan --subnet-range 10.211.7.0/24 lan4 -f value -c gateway_ip",
		"security group create web -f value -c name",
		"security group rule create --protocol tcp --dst-port 80 web -f value -c direction",
		"port create --network lan --fixed-ip ip-address=10.211.7.77 --security-group web p1 -f value -c status",
		"server create --image "+image+" --flavor m1.tiny --port p1 --user-data "+userData+" --property role=front --wait one -f value -c status",
		"server create --image "+image+" --flavor m1.tiny --network lan --security-group default --wait two -f value -c status",
		"server show one -f value -c addresses -c security_groups",
		"port show p1 -f value -c status -c device_owner",
		"network create --external public -f value -c name",
		"subnet create --network public --subnet-range 10.211.8.0/24 --no-dhcp public4 -f value -c cidr",
		"floating ip create --floating-ip-address 10.211.8.9 public -f value -c status",
		"server add floating ip one 10.211.8.9",
		"server list -f value -c Name -c Networks",
	)
	for _, want := range []string{"ACTIVE", "10.211.7.1", "{'lan': ['10.211.7.77']}\n[{'name': 'web'}]", "compute:nova\nACTIVE", "one {'lan': ['10.211.7.77', '10.211.8.9']}"} {
		if !strings.Contains(out, want) {
			t.Errorf("the client's output has no %q:\n%s", want, out)
		}
	}
	d.askInside()
	// A floating IP leads to the server, from this host too.
	if got, err := fetch(t, "http://10.211.8.9/name"); err != nil || got != "one\n" {
		t.Errorf("by the floating IP: %q, %v", got, err)
	}
	out = d.openstack(
		"server remove floating ip one 10.211.8.9",
		"server remove security group one web",
		"server delete --wait one", "server delete --wait two",
		"port show p1 -f value -c status -c device_id",
		"port delete p1", "network delete lan", "port list -f value -c ID --network lan",
	)
	if !strings.Contains(out, "DOWN") || !strings.Contains(out, "No Network found for lan") {
		t.Errorf("after the servers: %s", out)
	}
}

// askInside asks in the guests what answers on their network.
func (d *slipwayd) askInside() {
	d.t.Helper()
	in := func(server, script string) string { return d.slipway("server", "exec", server, "sh", "-c", script) }
	const metadata = "wget -qO- http://169.254.169.254/"
	for _, q := range []struct{ script, want string }{
		{"cat /told", "by user-data"},
		{"cat /sys/class/net/eth0/mtu", "1400"},
		{metadata + "latest/meta-data/local-ipv4", "10.211.7.77"},
		{metadata + "latest/meta-data/security-groups", "web"},
		{metadata + "openstack/latest/meta_data.json", `"meta":{"role":"front"}`},
		{metadata + "openstack/latest/network_data.json", `"ip_address":"10.211.7.77"`},
		{metadata + "latest/user-data", "#cloud-config\nwrite_files"},
		{metadata + "latest/meta-data/hostname --header 'X-Forwarded-For: 10.211.7.2'", "one"},
		{metadata + "openstack/latest/password --post-data c2VjcmV0; " + metadata + "openstack/latest/password", "c2VjcmV0"},
		{metadata + "latest/meta-data/nosuch 2>&1 || true", "404 Not Found"},
		{"nslookup two.openstacklocal", "Address: 10.211.7."},
		{"nslookup 10.211.7.77", "name = one.openstacklocal"},
		{"wget -qO- http://one/name", "one"},
		{"printf '#!/bin/sh\nset\n' > /show; chmod +x /show; udhcpc -i eth0 -nqf -s /show 2>&1", "ip='10.211.7.77'"},
		{"udhcpc -i eth0 -nqf -O staticroutes -s /show 2>&1", "staticroutes='169.254.169.254/32 10.211.7.1 0.0.0.0/0 10.211.7.1'"},
	} {
		if got := in("one", q.script); !strings.Contains(got, q.want) {
			d.t.Errorf("%s: %q, want %q", q.script, got, q.want)
		}
	}
	if got := in("two", metadata+"latest/meta-data/hostname"); got != "two" {
		d.t.Errorf("the other server is told that it is %q", got)
	}
	// Whoever takes another's address is not heard.
	two := strings.TrimSpace(in("two", metadata+"latest/meta-data/local-ipv4"))
	d.slipway("server", "exec", "--privileged", "one", "sh", "-c",
		"ip addr add "+two+"/32 dev eth0 && ip route add 169.254.169.254 via 10.211.7.1 src "+two)
	if got := in("one", "timeout 10 "+metadata+"latest/meta-data/hostname 2>&1 || echo unheard"); !strings.Contains(got, "unheard") || strings.Contains(got, "two") {
		d.t.Errorf("with the address of another: %q", got)
	}
	if out := d.openstack("server show -f json one"); strings.Contains(out, "c2VjcmV0") {
		d.t.Error("the server's password is shown with it")
	}
}

// TestBandwidth compares what goes to and from a server whose flavor bounds it with what
// goes to and from one that nothing bounds.
func TestBandwidth(t *testing.T) {
	t.Setenv("SLIPWAY_BOOT_STANDBY", "0")
	dir := newStateDir(t)
	d := startService(t, dir)
	image := newImage(t, `mkdir -p /www/cgi-bin && dd if=/dev/zero of=/www/data bs=1M count=4 &&
printf '#!/bin/sh\ncat >/dev/null\nprintf "Content-Type: text/plain\\r\\n\\r\\ntaken"\n' >/www/cgi-bin/take &&
chmod +x /www/cgi-bin/take && exec httpd -f -p 80 -h /www`)
	prepare(t, dir, image)
	create := "server create --image " + image + " --flavor "
	d.openstack(
		"flavor create --ram 256 --disk 1 --vcpus 1 --property quota:vif_inbound_average=1024 --property quota:vif_outbound_average=1024 slow",
		create+"slow --wait slow", create+"m1.nano --wait free",
	)
	took := map[string]time.Duration{}
	for _, server := range []string{"free", "slow"} {
		at := "http://" + strings.Fields(d.slipway("server", "publish", server, "127.0.0.1::80"))[0]
		at = strings.TrimSuffix(at, "->80/tcp")
		for way, move := range map[string]func() (string, error){
			"from": func() (string, error) { return fetch(t, at+"/data") },
			"to":   func() (string, error) { return post(at+"/cgi-bin/take", make([]byte, 4<<20)) },
		} {
			begin := time.Now()
			for limit := begin.Add(patience); ; begin = time.Now() {
				got, err := move()
				if err == nil && (len(got) == 4<<20 || got == "taken") {
					break
				}
				if time.Now().After(limit) {
					t.Fatalf("%s server %s: %d bytes, %v", way, server, len(got), err)
				}
			}
			took[way+server] = time.Since(begin)
		}
	}
	for _, way := range []string{"from", "to"} {
		slow, free := took[way+"slow"], took[way+"free"]
		t.Logf("4 MiB %s a server: %s bounded to 1 MiB/s, %s not", way, slow, free)
		if slow < 2*free {
			t.Errorf("4 MiB %s a bounded server take %s, and %s of another", way, slow, free)
		}
	}
	d.openstack("server delete --wait slow", "server delete --wait free")
	d.clean(dir)
}

// post sends a server a body.
func post(url string, body []byte) (string, error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Post(url, "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), err
}

// fetch gets a page of a server, in a time that a busy machine keeps.
func fetch(t *testing.T, url string) (string, error) {
	t.Helper()
	client := http.Client{Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
