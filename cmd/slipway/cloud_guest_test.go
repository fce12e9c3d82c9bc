//go:build guest

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/time/rate"
)

// serve starts the engine of the state directory as a service on the network, and
// returns its address.
func (s *state) serve() string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "slipwayd"), "--listen", "127.0.0.1:0")
	cmd.Env = append(s.env, "SUDO_UID=")
	log := &buffer{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	ready := regexp.MustCompile(`msg="service ready".* listen=(\S+)`)
	var address string
	eventually(s.t, deadline, func() error {
		m := ready.FindStringSubmatch(log.String())
		if m == nil {
			return errors.New("slipwayd does not say where it listens: " + log.String())
		}
		address = m[1]
		return nil
	})
	return address
}

// cloud is the state as it is reached through a network service's port.
func (s *state) cloud(address string) *state {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "clouds.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	b = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAll(b, []byte(address))
	file := filepath.Join(s.dir, "clouds-"+strings.ReplaceAll(address, ":", "-")+".yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		s.t.Fatal(err)
	}
	c := *s
	c.env = append(append([]string(nil), s.env...), "OS_CLIENT_CONFIG_FILE="+file, "OS_CLOUD=slipway")
	return &c
}

// slowLink passes connections on to an address, at most so many bytes a second each
// way, and returns where it listens.
func slowLink(t *testing.T, to string, perSecond int) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	pass := func(w, r net.Conn) {
		defer w.Close()
		const piece = 4 << 10
		limit := rate.NewLimiter(rate.Limit(perSecond), piece)
		for b := make([]byte, piece); ; {
			n, err := r.Read(b)
			if n > 0 {
				_ = limit.WaitN(t.Context(), n)
				if _, err := w.Write(b[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go pass(far, near)
			go pass(near, far)
		}
	}()
	return l.Addr().String()
}

// The commands do over the network what they do here, with the same exit statuses,
// also where the link is slow.
func TestCloud(t *testing.T) {
	t.Parallel()
	s := newState(t)
	address := s.serve()
	c := s.cloud(address)
	slow := s.cloud(slowLink(t, address, 400<<10))

	s.run("image", "pull", "-q", busybox).ok()
	c.run("server", "create", "--image", busybox, "--flavor", "m1.tiny", "--nic", "none", "--property", "a=b", "--wait", "-f", "value", "-c", "name", "made").ok().says("made\n")
	c.run("server", "wait", "made").ok().says("0\n")
	c.run("server", "create", "--image", busybox, "--flavor", "m1.nosuch", "x").exits(1).complains("no flavor", "m1.tiny")
	c.run("service", "register").exits(1).complains("the engine of this host")
	c.run("boot", "--rm", "-e", "A=b", busybox, "sh", "-c", "echo $A; exit 6").exits(6).says("b\n")
	if r := c.run("server", "console", "made").ok(); !strings.Contains(r.stdout, "reboot: ") {
		t.Errorf("console: %q", tail(r.stdout))
	}
	c.run("server", "list", "--kernel-outdated", "-f", "value").ok().says("")
	if r := c.run("kernel", "list", "-f", "value", "-c", "Default").ok(); !strings.Contains(r.stdout, "True") {
		t.Errorf("kernels: %q", r.stdout)
	}
	saved := filepath.Join(s.dir, "saved.tar")
	c.run("image", "save", "-o", saved, "--name", "saved:1", busybox).ok()
	c.run("image", "pull", "-q", "docker-archive:"+saved).ok()
	c.run("image", "show", "-f", "value", "-c", "name", "saved:1").ok().says("docker.io/library/saved:1\n")
	c.run("image", "delete", "saved:1").ok()
	c.run("server", "create", "--image", "docker-archive:"+saved, "--flavor", "m1.tiny", "--nic", "none", "-f", "value", "-c", "image", "sent").ok().says("docker.io/library/saved:1\n")
	elsewhere := filepath.Join(s.dir, "elsewhere")
	if err := os.CopyFS(elsewhere, os.DirFS(filepath.Join(imageDir, "busybox"))); err != nil {
		t.Fatal(err)
	}
	c.run("server", "create", "--image", "oci:"+elsewhere, "--flavor", "m1.tiny", "--nic", "none", "--wait", "-f", "value", "-c", "name", "unnamed").ok().says("unnamed\n")
	c.run("server", "create", "--image", "docker-archive:"+saved+".not", "--flavor", "m1.tiny", "x").exits(1).complains("no such file")
	c.run("server", "delete", "sent", "unnamed").ok()

	// Of the servers of this host, which are in the first project.
	s.run("boot", "-d", "-it", "--name", "tty", "--stop-timeout", "1s", busybox, "sh").ok()
	for _, link := range []*state{c, slow} {
		r := link.run("server", "exec", "tty", "sh", "-c", "echo out; echo err >&2; exit 42").exits(42).says("out\n")
		r.complains("err")
		link.run("server", "exec", "tty", "/nothere").exits(127)
		data := make([]byte, 1<<20)
		for i := range data {
			data[i] = byte(i * i >> 7)
		}
		sum := sha256.Sum256(data)
		got := link.startWith(bytes.NewReader(data), "server", "exec", "-i", "tty", "sh", "-c", "cat > /in; cat /in; sha256sum </in >&2").wait().ok()
		if got.stdout != string(data) || !strings.Contains(got.stderr, hex.EncodeToString(sum[:])) {
			t.Errorf("%d bytes came back, %s", len(got.stdout), got.stderr)
		}
	}
	file := filepath.Join(s.dir, "file")
	if err := os.WriteFile(file, []byte("carried"), 0o640); err != nil {
		t.Fatal(err)
	}
	c.run("server", "cp", file, "tty:/nothing/").exits(1).complains("no such directory")
	c.run("server", "cp", file, "tty:/carried").ok()
	c.run("server", "cp", "tty:/carried", file+".back").ok()
	if b, err := os.ReadFile(file + ".back"); err != nil || string(b) != "carried" {
		t.Errorf("copied back: %q, %v", b, err)
	}
	c.run("server", "stats", "--no-stream", "-f", "value", "-c", "Server", "tty").ok().says("tty\n")

	a := c.startTyped("server", "attach", "tty")
	a.types("stty size\n")
	a.expect("33 77")
	if err := pty.Setsize(a.terminal, &pty.Winsize{Rows: 20, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	eventually(t, deadline, func() error {
		a.types("stty size\n")
		time.Sleep(200 * time.Millisecond)
		if !strings.Contains(a.stdout.String(), "20 50") {
			return fmt.Errorf("terminal: %q", tail(a.stdout.String()))
		}
		return nil
	})
	e := slow.startTyped("server", "exec", "-it", "tty", "sh", "-c", "read x; exit $x")
	e.types("9\n")
	e.wait().exits(9)
	followed := c.start("server", "logs", "-f", "tty")
	followed.expect("20 50")
	waits := c.start("server", "wait", "tty")
	a.types("exit 5\n")
	a.wait().exits(5)
	waits.wait().ok().says("5\n")
	followed.wait().ok()
	c.run("server", "logs", "--console", "tty").ok()
	c.run("server", "delete", "tty", "made").ok()
	c.run("server", "list", "-f", "value").ok().says("")

	bad := *c
	bad.env = append(append([]string(nil), s.env...), "OS_AUTH_URL=http://"+address+"/identity/v3", "OS_USERNAME=admin", "OS_PASSWORD=wrong",
		"OS_PROJECT_NAME=admin", "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default")
	bad.run("server", "list").exits(1).complains("log in at", "401")
}

// Shells complete the names of servers, and the manual has a page for each command.
func TestCompletionAndManual(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := s.run("completion", shell).ok(); !strings.Contains(r.stdout, "slipway") {
			t.Errorf("%s: %q", shell, tail(r.stdout))
		}
	}
	s.run("server", "list").ok() // starts the engine
	if r := s.run("__complete", "server", "stop", "").ok(); strings.TrimSpace(r.stdout) != ":4" {
		t.Errorf("completes %q without servers", r.stdout)
	}
	s.run("image", "pull", "-q", busybox).ok()
	s.run("network", "create", "lan").ok()
	for want, args := range map[string][]string{
		busybox: {"image", "show", ""}, "m1.tiny": {"boot", "--flavor", "m1.t"}, testKernel: {"boot", "--kernel", ""}, "lan": {"network", "show", ""},
	} {
		if r := s.run(append([]string{"__complete"}, args...)...).ok(); !slices.Contains(strings.Fields(r.stdout), want) {
			t.Errorf("%q completes to %q, not %s", args, r.stdout, want)
		}
	}
	dir := filepath.Join(s.dir, "man")
	s.run("man", dir).ok()
	page, err := os.ReadFile(filepath.Join(dir, "slipway-server-exec.1"))
	if err != nil || !bytes.Contains(page, []byte("Run a command in a server")) {
		t.Errorf("the page of exec: %v, %.200s", err, page)
	}
	if r := s.run("--version").ok(); !regexp.MustCompile(`^slipway \S+.* go1\.\d+`).MatchString(r.stdout) {
		t.Errorf("version: %q", r.stdout)
	}
}
