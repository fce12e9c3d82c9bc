//go:build guest

package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// newStandbyState is a state whose engine keeps a guest standing by, and has one.
func newStandbyState(t *testing.T) *state {
	t.Helper()
	s := newState(t, "SLIPWAY_BOOT_STANDBY=1")
	s.standby = true
	s.run("boot", "--rm", busybox, "true").ok()
	s.standsBy()
	return s
}

// standsBy waits for a guest to stand by and returns the ID that its server will have.
func (s *state) standsBy() (id string) {
	s.t.Helper()
	eventually(s.t, deadline, func() error {
		return lacks(s.run("host", "doctor", "-f", "value").stdout, "guests standing by: 1")
	})
	servers := s.run("server", "list", "-f", "value", "-c", "ID").ok().stdout
	found, err := filepath.Glob(filepath.Join(s.dir, "servers", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	found = slices.DeleteFunc(found, func(dir string) bool { return strings.Contains(servers, filepath.Base(dir)) })
	if len(found) != 1 {
		s.t.Fatalf("there are %q beside the servers", found)
	}
	return filepath.Base(found[0])
}

// emulators are the process IDs of the emulators whose files are in the state directory.
func (s *state) emulators() (pids []int) {
	for pid, args := range traces.Processes() {
		if strings.HasPrefix(filepath.Base(args[0]), "qemu-system-") && strings.Contains(strings.Join(args, " "), s.dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone is an error as long as there is something of a server or a guest.
func (s *state) gone(id string) error {
	if _, err := os.Stat(filepath.Join(s.dir, "servers", id)); err == nil {
		return fmt.Errorf("%s is still there", id)
	}
	return nil
}

// A server whose guest stood by is like any other.
func TestStandby(t *testing.T) {
	t.Parallel()
	s := newStandbyState(t)
	id, emulators := s.standsBy(), s.emulators()
	began := time.Now()
	s.run("boot", "--detach", "--name", "web", "--hostname", "window", "--publish", "127.0.0.1::80", "--env", "COLOUR=blue",
		"--user", "1000:1000", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "--tmpfs", "/www:mode=1777",
		busybox, "sh", "-c", "echo $COLOUR $(id -u) $(ulimit -n) $(date +%s); hostname >/www/index.html; exec httpd -f -p 80 -h /www").ok()
	s.run("server", "list", "-f", "value", "-c", "ID", "-c", "Name").ok().says(id + " web\n")
	if now := s.emulators(); len(emulators) != 1 || !slices.Contains(now, emulators[0]) {
		t.Errorf("emulators were %v and are %v", emulators, now)
	}
	s.start("server", "logs", "--follow", "web").expect("blue 1000 1048576 ")
	words := strings.Fields(s.run("server", "logs", "web").ok().stdout)
	if at, err := strconv.ParseInt(words[len(words)-1], 10, 64); err != nil || time.Unix(at, 0).Before(began.Add(-time.Second)) || time.Unix(at, 0).After(time.Now()) {
		t.Errorf("the guest's clock says %q, %v", words, err)
	}
	page := func() {
		t.Helper()
		port := strings.TrimSpace(s.run("server", "show", "-f", "value", "-c", "ports", "web").ok().stdout)
		address, _, _ := strings.Cut(port, "->")
		eventually(t, deadline, func() error {
			r, err := http.Get("http://" + address)
			if err != nil {
				return err
			}
			defer r.Body.Close()
			body := make([]byte, 100)
			n, _ := r.Body.Read(body)
			return lacks(string(body[:n]), "window\n")
		})
	}
	page()
	if err := lacks(s.run("server", "exec", "web", "sh", "-c", "ip addr show eth0").ok().stdout, s.address("web", "default")); err != nil {
		t.Error(err)
	}
	// What an engine finds of it that has not started it.
	s.killEngine()
	page()
	s.run("server", "exec", "--user", "root", "web", "sh", "-c", "echo kept >/kept").ok()
	s.run("server", "restart", "web").ok()
	page()
	s.run("server", "exec", "web", "cat", "/kept").ok().says("kept\n")
	s.run("server", "delete", "web").ok()

	// An input, and a terminal, are more than what is ready for it.
	s.run("boot", "--rm", busybox, "true").ok() // this engine has started none yet
	s.standsBy()
	s.startWith(strings.NewReader("typed\n"), "boot", "--rm", "--interactive", busybox, "cat").wait().ok().says("typed\n")
	s.standsBy()
	s.run("boot", "--detach", "--tty", "--name", "screen", busybox, "sh", "-c", "tty; ulimit -n").ok()
	s.run("server", "logs", "--follow", "screen").ok().says("/dev/pts/0\r\n1048576\r\n")
}

// Each guest is one server's, whatever that is asked to run, and one that is not what
// was asked for goes.
func TestStandbyKinds(t *testing.T) {
	t.Parallel()
	s := newStandbyState(t)
	boot := func(args ...string) (server, stoodBy string) {
		t.Helper()
		stoodBy = s.standsBy()
		args = append([]string{"boot", "--detach", "--name", "it"}, args...)
		s.run(append(args, busybox, "sh", "-c", "hostname; exec sleep 1000")...).ok()
		s.start("server", "logs", "--follow", "it").expect("it")
		server = strings.TrimSpace(s.run("server", "list", "-f", "value", "-c", "ID").ok().stdout)
		s.run("server", "delete", "it").ok()
		return server, stoodBy
	}
	takes := func(args ...string) {
		t.Helper()
		if server, stoodBy := boot(args...); server != stoodBy {
			t.Errorf("boot %q: server %s, and guest %s stood by", args, server, stoodBy)
		}
	}
	leaves := func(args ...string) (guest string) {
		t.Helper()
		server, stoodBy := boot(args...)
		if server == stoodBy {
			t.Errorf("boot %q: server %s has taken the guest", args, server)
		}
		return stoodBy
	}
	replaces := func(args ...string) {
		t.Helper()
		guest := leaves(args...)
		eventually(t, deadline, func() error { return s.gone(guest) })
		takes(args...)
	}
	takes()
	takes("--env", "A=B", "--tty")
	leaves("--root", "9p")
	takes()
	replaces("--volume", t.TempDir()+":/mnt")
	replaces("--memory", "256M")
	replaces("--network", "none", "--memory", "256M")

	// One that fails says why, as others do.
	s.standsBy()
	s.run("boot", "--network", "none", "--memory", "256M", busybox, "/missing").exits(127).complains("/missing")
	s.run("boot", "--network", "none", "--memory", "256M", "--rm", busybox, "sh", "-c", "exit 7").exits(7)
}

// Volumes reach a guest that has booted before. One that is read-only is so for its
// kernel, too, whatever that does.
func TestStandbyVolumes(t *testing.T) {
	t.Parallel()
	s := newStandbyState(t)
	first := s.standsBy()
	mine, other := t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	for _, name := range []string{filepath.Join(other, "given"), file} {
		if err := os.WriteFile(name, []byte("given\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	boot := func() *result {
		return s.run("boot", "--rm", "--privileged", "--volume", mine+":/mine", "--volume", other+":/other:ro", "--volume", file+":/etc/file:ro",
			busybox, "sh", "-c", `cat /other/given /etc/file; echo made >>/mine/made
			for dir in /other /etc/file; do mount -o remount,bind,rw $dir; done
			echo no >/other/made || echo no >/etc/file || echo refused`).ok()
	}
	boot()
	eventually(t, deadline, func() error { return s.gone(first) })
	guest := s.standsBy()
	if r := boot(); r.stdout != "given\ngiven\nrefused\n" || strings.Count(r.stderr, "Read-only file system") != 2 {
		t.Errorf("it said %q and %q", r.stdout, r.stderr)
	}
	s.start("server", "events", "--filter", "event=create", "--since", "10m").expect(guest)
	if made, err := os.ReadFile(filepath.Join(mine, "made")); err != nil || string(made) != "made\nmade\n" {
		t.Errorf("made: %q, %v", made, err)
	}
}

// What stands by ends with its engine, however that ends.
func TestStandbyEndsWithEngine(t *testing.T) {
	t.Parallel()
	s := newStandbyState(t)
	s.killEngine()
	if n := len(s.emulators()); n != 1 {
		t.Errorf("%d guests after the engine was killed", n)
	}
	s.run("server", "list", "-f", "value").ok().says("")
	s.clean()
	// The guest ends, and the next server has another.
	s.run("boot", "--rm", busybox, "true").ok()
	id := s.standsBy()
	for _, pid := range s.emulators() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	eventually(t, deadline, func() error { return s.gone(id) })
	s.clean()
	s.run("boot", "--rm", busybox, "echo", "on").ok().says("on\n")
	s.standsBy()
	if err := endEngine(s.dir, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	s.clean()
}

// Whatever moment it is at which a boot is interrupted that takes a guest, or its engine
// is killed, nothing is left that would not be of any boot.
func TestStandbyAnytime(t *testing.T) {
	t.Parallel()
	s := newStandbyState(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for n := range 6 {
		s.run("boot", "--rm", busybox, "true").ok()
		s.standsBy()
		later := time.Duration(random.Int64N(int64(400 * time.Millisecond)))
		c := s.start("boot", "--progress", "plain", "--stop-timeout", "0s", busybox, "sh", "-c", "echo ready; exec sleep 1000")
		time.Sleep(later)
		if n%2 == 0 {
			s.killEngine()
			c.interruptible()
		} else {
			c.signal(syscall.SIGINT)
			if r := c.wait(); r.code != codeSlipway && r.code != 137 && r.code != -1 {
				t.Errorf("interrupted after %s: exit status %d: %s", later, r.code, r.stderr)
			}
		}
		s.settled()
		s.deleteAll()
		if err := endEngine(s.dir, syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		s.clean()
		if t.Failed() {
			t.Fatalf("after %s", later)
		}
	}
}
