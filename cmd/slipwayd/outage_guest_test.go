//go:build guest

package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
)

// privateLibvirtd is a libvirtd that has the directory $0 for all its own, and listens
// there.
const privateLibvirtd = `
for dir in /run /var/lib /var/cache /var/log /etc; do
	mkdir -p "$dir/libvirt" "$0$dir" && mount --bind "$0$dir" "$dir/libvirt"
done
printf '%s\n' 'user = "root"' 'group = "root"' 'dynamic_ownership = 0' 'remember_owner = 0' 'security_driver = "none"' \
	'namespaces = []' 'cgroup_controllers = []' 'stdio_handler = "file"' >/etc/libvirt/qemu.conf
printf '%s\n' "unix_sock_dir = \"$0\"" 'auth_unix_rw = "none"' 'auth_unix_ro = "none"' >/etc/libvirt/libvirtd.conf
exec libvirtd --config /etc/libvirt/libvirtd.conf --pid-file "$0/pid"
`

// startLibvirtd returns once it answers, and gives what kills it.
func startLibvirtd(t *testing.T, dir string) (kill func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	said := &record{}
	cmd := exec.Command("unshare", "--mount", "--propagation", "slave", "sh", "-ec", privateLibvirtd, dir)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	for limit := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", filepath.Join(dir, "libvirt-sock"))
		if err == nil {
			_ = conn.Close()
			return kill
		}
		if time.Now().After(limit) {
			t.Fatalf("libvirtd does not answer: %v\n%s", err, said)
		}
	}
}

// A libvirt that is a daemon of its own and restarts takes the service with it, and
// nothing else: the next one finds servers as they run.
func TestLibvirtRestart(t *testing.T) {
	dir := newStateDir(t)
	daemon := filepath.Join(dir, "d")
	t.Setenv("SLIPWAY_LIBVIRT_URI", "qemu+unix:///system?socket="+daemon+"/libvirt-sock")
	// Where / is a private mount, libvirtd's namespace does not see what is mounted later.
	t.Setenv("SLIPWAY_BOOT_ROOT", "block")
	kill := startLibvirtd(t, daemon)
	d := startService(t, dir)
	l := newLoad(t, d, newImage(t, numbering))
	prepare(t, dir, l.image)
	l.create(t.Context(), "writer")
	if list := d.settled(l); len(list) != 1 || list[0].Status != "ACTIVE" {
		t.Fatalf("servers: %+v", list)
	}
	l.awaitLog(dir, "writer", "\n100\n")
	kill()
	if err := d.cmd.Wait(); err == nil || !strings.Contains(d.output.String(), "has ended the connection") {
		t.Errorf("without libvirt slipwayd ended with %v", err)
	}
	startLibvirtd(t, daemon)
	d = startService(t, dir)
	l.url.Store(d.url)
	l.check(dir, d.settled(l))
	id := d.list(l.client())[0].ID
	if err := servers.Stop(t.Context(), l.client(), id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if list := d.settled(l); list[0].Status != "SHUTOFF" {
		t.Errorf("server %s is %s", id, list[0].Status)
	}
	checkNumbered(t, "writer", slipway(t, dir, "server", "logs", id))
	if err := servers.Delete(t.Context(), l.client(), id).ExtractErr(); err != nil {
		t.Error(err)
	}
	if left := d.settled(l); len(left) > 0 {
		t.Errorf("a deleted server is still there: %+v", left)
	}
	d.end()
}

// awaitLog waits until a server has written a text.
func (l *load) awaitLog(dir, name, text string) {
	l.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		log := slipway(l.t, dir, "server", "logs", name)
		if strings.Contains(log, text) {
			return
		}
		if time.Now().After(limit) {
			l.t.Fatalf("server %s wrote %q", name, log)
		}
	}
}

// When the host fails, all of it goes at once: the service, the guests, what serves
// them, and every mount. Servers are off then, or run again where that is their policy,
// and have what they had written.
func TestHostFails(t *testing.T) {
	dir := newStateDir(t)
	d := startService(t, dir)
	l := newLoad(t, d, newImage(t, `[ -e /kept ] && echo again; echo kept >/kept; sync; echo ready; exec sleep 1000`))
	prepare(t, dir, l.image)
	for _, name := range []string{"one", "two"} {
		l.create(t.Context(), name)
	}
	l.names["phoenix"] = true
	slipway(t, dir, "boot", "--detach", "--name", "phoenix", "--restart", "on-failure", "--network", "none", l.image)
	for name := range l.names {
		l.awaitLog(dir, name, "ready\n")
	}
	if err := syscall.Kill(d.cmd.Process.Pid, syscall.SIGSTOP); err != nil { // it shall see nothing of it
		t.Fatal(err)
	}
	killGuests(dir)
	d.kill()
	unmountAll(t, dir)

	d = startService(t, dir)
	l.url.Store(d.url)
	for id := range l.made {
		// One that ended soon after its launch is shown as active for a while.
		within, cancel := context.WithTimeout(t.Context(), patience)
		if err := servers.WaitForStatus(within, l.client(), id, "SHUTOFF"); err != nil {
			t.Fatalf("server %s: %v", l.made[id], err)
		}
		cancel()
		if err := servers.Start(t.Context(), l.client(), id).ExtractErr(); err != nil {
			t.Errorf("start %s: %v", l.made[id], err)
		}
	}
	for _, name := range []string{"one", "two", "phoenix"} {
		l.awaitLog(dir, name, "again\nready\n")
	}
	l.check(dir, d.settled(l))
	slipway(t, dir, "server", "delete", "one", "two", "phoenix")
	d.end()
	d.clean(dir)
}
