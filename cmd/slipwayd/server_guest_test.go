//go:build guest

package main

import (
	"fmt"
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
	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// counting is an entrypoint that lives until it is stopped, and numbers what it says.
// It brings a chpasswd of its own taste; busybox has none.
const counting = `mkdir -p /usr/local/bin; cat >/usr/local/bin/chpasswd <<'end'
#!/bin/sh
read -r line
case $line in *weak) echo too weak; exit 1 ;; esac
echo "$line" >/etc/given
end
chmod 755 /usr/local/bin/chpasswd
trap 'echo stopped; exit 0' TERM; i=0
while :; do i=$((i+1)); echo "line $i"; sleep 0.2; done`

// newImage makes an image of busybox whose entrypoint is a script, and returns its
// reference.
func newImage(t *testing.T, script string) string {
	t.Helper()
	from, err := layout.ImageIndexFromPath(filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), "busybox"))
	if err != nil {
		t.Fatalf("SLIPWAY_TEST_IMAGES, %v: run make test", err)
	}
	manifest, err := from.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := from.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.Config.Entrypoint, config.Config.Cmd = []string{"/bin/sh", "-c", script}, nil
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	to, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"})); err != nil {
		t.Fatal(err)
	}
	return "oci:" + dir
}

// slipway calls the command line on the service's socket.
func slipway(t *testing.T, stateDir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(os.Getenv("SLIPWAY_TEST_BIN"), "slipway"), args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_STATE_DIR="+stateDir, "SLIPWAY_BOOT_STANDBY=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// prepare gives a new service a kernel and images. What an image's name is to a
// client is its reference.
func prepare(t *testing.T, stateDir string, images ...string) {
	t.Helper()
	slipway(t, stateDir, "kernel", "import", os.Getenv("SLIPWAY_TEST_KERNEL"))
	for _, image := range images {
		slipway(t, stateDir, "image", "pull", image)
	}
}

// step is a command of the openstack client, and what it writes: all of want, or,
// where that begins with "!", nothing of the rest.
type step struct {
	command string
	want    []string
}

// follow runs commands in one process of the real client, and holds what each writes
// against what is wanted. It returns what they wrote.
func (d *slipwayd) follow(steps ...step) []string {
	d.t.Helper()
	// Between two commands the client is made to say where one ends.
	mark := func(i int) string { return fmt.Sprintf("No Flavor found for end-of-%d\n", i) }
	var lines []string
	for i, s := range steps {
		lines = append(lines, s.command, fmt.Sprintf("flavor show end-of-%d", i))
	}
	out := d.openstack(lines...)
	said := make([]string, 0, len(steps))
	for i, s := range steps {
		part, rest, found := strings.Cut(out, mark(i))
		if !found {
			d.t.Fatalf("openstack %s: has no end in\n%s", s.command, out)
		}
		out = rest
		said = append(said, strings.TrimSpace(part))
		for _, want := range s.want {
			unwanted, not := strings.CutPrefix(want, "!")
			if strings.Contains(part, unwanted) == not {
				d.t.Errorf("openstack %s: wanted %q of\n%s", s.command, want, part)
			}
		}
	}
	return said
}

// clean fails the test unless nothing is left of any server. The kernel may take a
// while to end the last of a process.
func (d *slipwayd) clean(stateDir string) {
	d.t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		found, err := traces.Of(stateDir)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(found) == 0 {
			return
		}
		if time.Now().After(limit) {
			d.t.Fatalf("still there:\n\t%s", strings.Join(found, "\n\t"))
		}
	}
}

// nova is gophercloud's client.
func (d *slipwayd) nova() *gophercloud.ServiceClient {
	d.t.Helper()
	provider, err := gopherstack.AuthenticatedClient(d.t.Context(), d.auth)
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := gopherstack.NewComputeV2(provider, gophercloud.EndpointOpts{})
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// list returns all servers.
func (d *slipwayd) list(nova *gophercloud.ServiceClient) []servers.Server {
	d.t.Helper()
	all, err := servers.List(nova, servers.ListOpts{}).AllPages(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	list, err := servers.ExtractServers(all)
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

// logged waits until the console output of the one server that there is has a text.
func (d *slipwayd) logged(text string) {
	d.t.Helper()
	nova := d.nova()
	for limit := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		output, err := servers.ShowConsoleOutput(d.t.Context(), nova, d.list(nova)[0].ID, servers.ShowConsoleOutputOpts{}).Extract()
		if err == nil && strings.Contains(output, text) {
			return
		}
		if time.Now().After(limit) {
			d.t.Fatalf("the server does not write %q: %v\n%s", text, err, output)
		}
	}
}

// until waits until the one server that there is has a status and is at rest.
func (d *slipwayd) until(status string) {
	d.t.Helper()
	nova := d.nova()
	for limit := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		list := d.list(nova)
		if len(list) == 1 && list[0].Status == status && list[0].TaskState == "" {
			return
		}
		if time.Now().After(limit) {
			d.t.Fatalf("the server is not %s: %+v", status, list)
		}
	}
}

// TestServersWithOpenstackClient takes a server through its life with the client
// alone: what it sends, and what it waits for.
func TestServersWithOpenstackClient(t *testing.T) {
	dir := newStateDir(t)
	d := startService(t, dir)
	steady := newImage(t, counting)
	prepare(t, dir, steady)
	userData := filepath.Join(d.home, "user-data")
	if err := os.WriteFile(userData, []byte("#cloud-config\nwrite_files: [{path: /etc/told, content: by cloud-init}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	create := "server create --image " + steady + " --flavor m1.nano --nic none "
	d.follow(
		step{"keypair create own", []string{"BEGIN RSA PRIVATE KEY"}},
		step{"server group create --policy anti-affinity apart -f value -c policies -c policy", []string{"anti-affinity"}},
		step{"flavor create --ram 320 --disk 2 --vcpus 1 --property slipway:root_mode=block bigger -f value -c name -c ram", []string{"bigger", "320"}},
		step{create + "--key-name nosuch web", []string{"Invalid key_name provided. (HTTP 400)"}},
		step{create + "--key-name own --property role=web --tag blue --description first --use-config-drive --user-data " + userData +
			" --wait web -f json -c status -c name -c key_name -c config_drive -c properties -c tags -c description",
			[]string{`"status": "ACTIVE"`, `"key_name": "own"`, `"config_drive": "True"`, `"role": "web"`, `"blue"`, `"first"`}},
		step{"server list", []string{"| web  | ACTIVE |", "m1.nano"}},
		step{"server list -f json", []string{`"Status": "ACTIVE"`}},
		step{"server list -f yaml", []string{"Status: ACTIVE"}},
		step{"server list -f csv", []string{`"web","ACTIVE"`}},
		step{"server list --long -f value -c Name -c Host -c Properties", []string{"web", "role"}},
		step{"server list --name nosuch -f value", []string{"!web"}},
		step{"server list --status SHUTOFF -f value", []string{"!web"}},
		step{"server list --tags blue --all-projects -f value -c Name", []string{"web"}},
		step{"server show web -f yaml", []string{"status: ACTIVE", "OS-EXT-STS:power_state: 1", "OS-EXT-STS:vm_state: active"}},
		step{"server show web -f shell -c flavor -c image", []string{"'m1.nano'", steady}},
		step{"server show nosuch", []string{"No server with a name or ID of 'nosuch' exists."}},
		step{"console url show web", []string{"Unavailable console type novnc."}},
		step{"server set --property size=small --tag red --name www --description second web", nil},
		step{"server unset --property role --tag blue www", nil},
		step{"server show www -f value -c properties -c tags -c description", []string{"size", "red", "second", "!role", "!blue"}},
		step{"server add security group www nosuch", []string{"none found (HTTP 404)"}},
		step{"server set --password weak www", []string{"Failed to set admin password", "too weak", "HTTP 409"}},
		step{"server set --password str0ng www", []string{"!HTTP"}},
	)
	if out := slipway(t, dir, "server", "exec", "www", "cat", "/etc/given"); out != "root:str0ng\n" {
		t.Errorf("chpasswd was given %q", out)
	}
	d.follow(step{"server pause www", nil})
	d.until("PAUSED")
	d.follow(
		step{"server stop www", []string{"while it is in vm_state paused (HTTP 409)"}},
		step{"server unpause www", nil},
	)
	d.until("ACTIVE")
	d.follow(step{"server suspend www", nil})
	d.until("SUSPENDED")
	d.follow(step{"server resume www", nil})
	d.until("ACTIVE")
	d.follow(
		step{"server lock --reason because www", nil},
		step{"server show www -f value -c locked -c locked_reason", []string{"True", "because"}},
		step{"server unlock www", nil},
		step{"server reboot --wait www", []string{"Complete"}},
	)
	d.logged("line 2")
	d.follow(
		step{"console log show --lines 1 www", []string{"line "}},
		step{"server reboot --hard --wait www", []string{"Complete"}},
		step{"server rebuild --image " + steady + " --wait www", []string{"Complete"}},
		step{"server resize --flavor m1.nano www", []string{"When resizing, instances must change flavor! (HTTP 400)"}},
		step{"server resize --flavor bigger --wait www", []string{"Complete"}},
		step{"server show www -f value -c status -c flavor", []string{"VERIFY_RESIZE", "bigger"}},
		step{"server resize confirm www", nil},
		step{"server stop www", nil},
	)
	d.until("SHUTOFF")
	d.follow(
		step{"console log show --lines 3 www", []string{"stopped"}}, // Nova has none of a server that has ended
		step{"server resize --flavor m1.small --wait www", []string{"Complete"}},
		step{"server resize revert www", nil},
	)
	d.until("SHUTOFF")
	d.follow(
		step{"server show www -f value -c flavor", []string{"bigger"}},
		step{"server start www", nil},
	)
	d.until("ACTIVE")
	d.follow(
		step{"server event list www -f value -c Action", []string{"create", "changePassword", "pause", "unpause", "suspend", "resume", "lock", "reboot", "rebuild", "resize", "confirmResize", "revertResize", "stop", "start"}},
		step{"limits show --absolute -f value", []string{"totalInstancesUsed 1"}},
		step{"server delete --wait www", nil},
		step{"server list -f value", []string{"!www"}},
		step{"server show www", []string{"No server with a name or ID of 'www' exists."}},
		step{"usage list -f value -c Servers -c Project", []string{"1"}},
	)
	d.end()
	d.clean(dir)
}

// TestServersWithGophercloud has servers that end by themselves, and their last words.
func TestServersWithGophercloud(t *testing.T) {
	ctx := t.Context()
	dir := newStateDir(t)
	d := startService(t, dir)
	brief := newImage(t, "echo last words; exit 3")
	prepare(t, dir, brief)
	nova := d.nova()
	nova.Microversion = "2.90"
	made, err := servers.Create(ctx, nova, servers.CreateOpts{
		Name: "brief", ImageRef: brief, FlavorRef: "m1.nano", Networks: "none",
	}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	if err := servers.WaitForStatus(ctx, nova, made.ID, "ACTIVE"); err != nil {
		t.Fatal(err)
	}
	if err := servers.WaitForStatus(ctx, nova, made.ID, "SHUTOFF"); err != nil {
		t.Fatal(err)
	}
	nova.Microversion = "" // as the openstack client asks
	output, err := servers.ShowConsoleOutput(ctx, nova, made.ID, servers.ShowConsoleOutputOpts{}).Extract()
	if err != nil || !strings.HasSuffix(output, "last words\n") {
		t.Errorf("console output %q, %v", output, err)
	}
	if err := servers.ForceDelete(ctx, nova, made.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		_, err := servers.Get(ctx, nova, made.ID).Extract()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			break
		}
		if err != nil || time.Now().After(limit) {
			t.Fatalf("a deleted server: %v", err)
		}
	}
	d.end()
	d.clean(dir)
}
