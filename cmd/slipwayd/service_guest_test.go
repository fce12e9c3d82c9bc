//go:build guest

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	gopherstack "github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/moby/sys/mountinfo"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// patience bounds whatever a test waits for.
const patience = 3 * time.Minute

// record keeps what a process writes while it is read.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// slipwayd is one under test, as systemd would start it.
type slipwayd struct {
	t      *testing.T
	cmd    *exec.Cmd
	output *record
	told   chan string // what it tells systemd
	home   string
	auth   gophercloud.AuthOptions
	url    string
}

func startService(t *testing.T, stateDir string) *slipwayd {
	t.Helper()
	bin := os.Getenv("SLIPWAY_TEST_BIN")
	if bin == "" {
		t.Fatal("SLIPWAY_TEST_BIN is not set: run make test")
	}
	notify := filepath.Join(stateDir, "n")
	_ = os.Remove(notify) // of a service before
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	d := &slipwayd{t: t, output: &record{}, told: make(chan string, 100), home: filepath.Join(stateDir, "home")}
	if err := os.MkdirAll(d.home, 0o700); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.told)
		for b := make([]byte, 1<<10); ; {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			select {
			case d.told <- string(b[:n]):
			default:
			}
		}
	}()
	d.cmd = exec.Command(filepath.Join(bin, "slipwayd"), "--state-dir", stateDir, "--listen", "127.0.0.1:0", "--log-level", "debug")
	d.cmd.Stderr = d.output
	d.cmd.Env = append(os.Environ(), "HOME="+d.home, "NOTIFY_SOCKET="+socket.LocalAddr().String(), "WATCHDOG_USEC=3000000", "SUDO_UID=",
		"SLIPWAY_BOOT_TIMEOUT=10m") // others may be at work on this machine
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM) // what stands by ends with it
		hung := time.AfterFunc(time.Minute, func() { _ = d.cmd.Process.Kill() })
		_ = d.cmd.Wait()
		hung.Stop()
		socket.Close()
		if t.Failed() {
			t.Logf("slipwayd wrote:\n%s", d.output)
		}
	})
	d.await("READY=1")
	d.findAuth(stateDir)
	return d
}

// await waits until systemd is told something.
func (d *slipwayd) await(state string) {
	d.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case told := <-d.told:
			if told == state {
				return
			}
		case <-limit:
			d.t.Fatalf("systemd is not told %s", state)
		}
	}
}

// end stops the service as systemd does.
func (d *slipwayd) end() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Fatal(err)
	}
	d.await("STOPPING=1")
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("slipwayd ended with %v", err)
	}
}

var servedAt = regexp.MustCompile(`msg="service ready" url=(\S+)`)

// findAuth reads how the first user logs in. A restarted service has another port.
func (d *slipwayd) findAuth(stateDir string) {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(stateDir, "clouds.yaml"))
	if err != nil {
		d.t.Fatal(err)
	}
	var file struct {
		Clouds map[string]struct {
			Auth struct {
				AuthURL  string `yaml:"auth_url"`
				Password string `yaml:"password"`
			} `yaml:"auth"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(data, &file); err != nil {
		d.t.Fatal(err)
	}
	limit := time.Now().Add(patience)
	for d.url == "" {
		if found := servedAt.FindSubmatch([]byte(d.output.String())); found != nil {
			d.url = string(found[1])
		} else if time.Now().After(limit) {
			d.t.Fatal("slipwayd does not say where it listens")
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
	d.auth = gophercloud.AuthOptions{
		IdentityEndpoint: d.url + "/identity/v3", Username: "admin", Password: file.Clouds["slipway"].Auth.Password,
		DomainName: "Default", Scope: &gophercloud.AuthScope{ProjectName: "admin", DomainName: "Default"},
	}
}

// openstack runs commands in one process of the real client, a line each.
func (d *slipwayd) openstack(commands ...string) string {
	d.t.Helper()
	cmd := exec.CommandContext(d.t.Context(), "openstack")
	cmd.Env = append(os.Environ(), "HOME="+d.home, "XDG_CONFIG_HOME=", "OS_CLOUD=slipway", "PYTHONUNBUFFERED=1")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("openstack: %v\n%s", err, out)
	}
	return string(out)
}

func (d *slipwayd) get(path string) (int, string) {
	d.t.Helper()
	resp, err := http.Get(d.url + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// stateDir makes a directory whose path is short enough for sockets.
func newStateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "slipwayd-") //nolint:usetesting // t.TempDir's paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killGuests(dir) // a test that has failed leaves them, and they outlive the service
		unmountAll(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// killGuests ends all guests of a state directory, and what serves them.
func killGuests(dir string) {
	for pid, args := range traces.Processes() {
		if name := filepath.Base(args[0]); strings.HasPrefix(name, "qemu") || name == "virtiofsd" {
			if strings.Contains(strings.Join(args, " "), dir+"/") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
}

// unmountAll unmounts what is mounted in a directory, and the directory.
func unmountAll(t *testing.T, dir string) {
	t.Helper()
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Error(err)
	}
	for _, m := range slices.Backward(mounts) {
		// Detached, since who used it may be on its way out.
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", m.Mountpoint, err)
		}
	}
}

func TestServiceWithOpenstackClient(t *testing.T) {
	d := startService(t, newStateDir(t))
	out := d.openstack(
		"catalog list -f value -c Name -c Type",
		"project create --description first demo -f value -c name -c description",
		"project list -f value -c Name",
		"project show demo -f value -c description",
		"user create --password an0ther-s3cret --project demo ann -f value -c name",
		"user set --email ann@example.org ann",
		"user show ann -f value -c email",
		"role add --project demo --user ann member",
		"role list -f value -c Name",
		"role assignment list --names --user ann -f value -c Role -c Project",
		"application credential create --secret s3cret-of-ci ci -f value -c name -c secret",
		"application credential list -f value -c Name",
		"group create crew -f value -c name",
		"group add user crew ann",
		"group contains user crew ann",
		"domain list -f value -c Name",
		"endpoint list --service identity --interface public -f value -c URL",
		"project delete demo",
		"project show demo",
		"user delete ann",
		"user list -f value -c Name",
	)
	for _, want := range []string{
		"keystone identity", "first\ndemo", "ann@example.org", "admin\nmember\nreader", "member demo@Default",
		"ci\ns3cret-of-ci", "ann in group crew", "Default", d.url + "/identity/v3", "No project with a name or ID of 'demo' exists.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the client's output has no %q:\n%s", want, out)
		}
	}
	if _, users, _ := strings.Cut(out, "No project with a name"); strings.Contains(users, "ann") {
		t.Errorf("a deleted user is listed: %s", users)
	}
	if strings.Contains(d.output.String(), "s3cret") || strings.Contains(d.output.String(), "an0ther") {
		t.Error("the log tells secrets")
	}
}

func TestServiceWithGophercloud(t *testing.T) {
	ctx := t.Context()
	dir := newStateDir(t)
	d := startService(t, dir)
	provider, err := gopherstack.AuthenticatedClient(ctx, d.auth)
	if err != nil {
		t.Fatal(err)
	}
	keystone, err := gopherstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		t.Fatal(err)
	}
	project, err := projects.Create(ctx, keystone, projects.CreateOpts{Name: "demo"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	me, err := tokens.Get(ctx, keystone, provider.TokenID).ExtractUser()
	if err != nil {
		t.Fatal(err)
	}
	credential, err := applicationcredentials.Create(ctx, keystone, me.ID, applicationcredentials.CreateOpts{Name: "ci"}).Extract()
	if err != nil {
		t.Fatal(err)
	}
	token := provider.TokenID
	d.await("WATCHDOG=1")
	d.end()

	// Users, credentials and tokens survive; the password is not told again.
	d = startService(t, dir)
	if strings.Contains(d.output.String(), "with the password") {
		t.Error("the second start makes a first user")
	}
	keystone.Endpoint = d.url + "/identity/v3/"
	if got, err := projects.Get(ctx, keystone, project.ID).Extract(); err != nil || got.Name != "demo" {
		t.Errorf("with the token of before: %+v, %v", got, err)
	}
	other, err := gopherstack.AuthenticatedClient(ctx, gophercloud.AuthOptions{
		IdentityEndpoint: d.url + "/identity/v3", ApplicationCredentialID: credential.ID, ApplicationCredentialSecret: credential.Secret,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tokens.Revoke(ctx, keystone, other.TokenID).Err; err != nil {
		t.Error(err)
	}
	if _, err := tokens.Get(ctx, keystone, other.TokenID).Extract(); !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		t.Errorf("a revoked token: %v", err)
	}
	if strings.Contains(d.output.String(), token) || strings.Contains(d.output.String(), credential.Secret) {
		t.Error("the log tells tokens or secrets")
	}
	if code, text := d.get("/healthz"); code != http.StatusOK || !strings.Contains(text, `"libvirt":"ok"`) {
		t.Errorf("/healthz: %d %s", code, text)
	}
	code, text := d.get("/metrics")
	for _, want := range []string{`route="GET /identity/v3/projects/{project}"`, `slipway_servers{status="ACTIVE"} 0`} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("/metrics: %d, without %s", code, want)
		}
	}
	d.end()
}

// Clients that send slowly, or too much, are let go, and nobody else notices.
func TestServiceSheds(t *testing.T) {
	d := startService(t, newStateDir(t))
	address := strings.TrimPrefix(d.url, "http://")
	var slow []net.Conn
	for range 50 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-"); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	body, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.WriteString(body, "POST /identity/v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if code, text := d.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz beside slow clients: %d %s", code, text)
	}
	resp, err := http.Post(d.url+"/identity/v3/auth/tokens", "application/json", strings.NewReader(strings.Repeat(" ", 2<<20)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 2 MiB is answered %s", resp.Status)
	}
	for _, conn := range append(slow, body) {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		// Whatever is answered, the connection ends.
		if _, err := io.Copy(io.Discard, bufio.NewReader(conn)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a slow client is still connected")
		}
	}
}

// What a command has started gives way to a service that is started by hand, and the
// service does not give way to another.
func TestServiceTakesOver(t *testing.T) {
	dir := newStateDir(t)
	slipway := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(os.Getenv("SLIPWAY_TEST_BIN"), "slipway"), "--state-dir", dir, "server", "list")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	slipway()
	d := startService(t, dir)
	slipway() // by the socket of the service
	second := exec.Command(d.cmd.Path, "--state-dir", dir, "--listen", "127.0.0.1:0")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "an engine runs already") || !strings.Contains(string(out), "(kill ") {
		t.Errorf("a second service: %v, %s", err, out)
	}
	d.end()
}
