//go:build guest

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// somebody is an ordinary user with a home: nobody, who may do nothing here.
func somebody(t *testing.T) *state {
	t.Helper()
	if err := os.Chmod(scratch, 0o711); err != nil {
		t.Fatal(err)
	}
	home := newDir(t)
	s := &state{t: t, dir: filepath.Join(home, ".local/state/slipway")}
	s.under = []string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"}
	for _, e := range environ("") {
		if !strings.HasPrefix(e, "SLIPWAY_") && !strings.HasPrefix(e, "HOME=") && !strings.HasPrefix(e, "XDG_") {
			s.env = append(s.env, e)
		}
	}
	s.env = append(s.env, "HOME="+home)
	// What lies below another's home he cannot read.
	for from, to := range map[string]string{
		filepath.Join(prepared, "kernels"):   filepath.Join(s.dir, "kernels"),
		bin:                                  filepath.Join(home, "bin"),
		filepath.Join(imageDir, "busybox"):   filepath.Join(home, "busybox"),
		filepath.Join(prepared, "host.json"): filepath.Join(s.dir, "host.json"),
	} {
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-rL", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", from, err, out)
		}
	}
	if out, err := exec.Command("chown", "-R", "nobody:nogroup", home).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v\n%s", err, out)
	}
	s.program = filepath.Join(home, "bin/slipway")
	t.Cleanup(s.end)
	return s
}

// An ordinary user boots, works in and stops a server: as himself, on disks, with
// nothing mounted, on the host's network, below his home.
func TestRootless(t *testing.T) {
	s := somebody(t)
	image := "oci:" + filepath.Join(s.dir, "../../../busybox")
	doctor := s.run("host", "doctor", "-f", "value").ok()
	if !strings.Contains(doctor.stdout, "privileges limited") || !strings.Contains(doctor.stdout, "uses: root mode ok block") {
		t.Errorf("the doctor says:\n%s", doctor.stdout)
	}
	s.run("boot", "--root", "virtiofs", image, "true").exits(125).complains("root mode virtiofs needs root", "--root block")
	s.run("boot", "-v", "/tmp:/mnt", image, "true").exits(125).complains("volumes need root")
	s.run("boot", "--network", "default", image, "true").exits(125).complains("networks need root", "--network host-user")
	s.run("boot", "-p", "80:80", image, "true").exits(125).complains("port 80/tcp of the host is not for an ordinary user")
	s.run("boot", "-d", "--name", "mine", "-p", "127.0.0.1::80", image, "sh", "-c",
		"echo up; echo kept >/kept; mkdir /www; echo served >/www/index.html; httpd -h /www; exec sleep 1000").ok()
	s.run("server", "exec", "mine", "sh", "-c", "id -u; until test -s /kept; do sleep 0.1; done; cat /kept").ok().says("0\nkept\n")
	s.reachesHost("mine")
	published := s.published("mine")
	s.run("boot", "-p", published+":80", image, "true").exits(125).complains("is in use by")
	s.run("server", "publish", "mine", "8080").exits(1).complains("published when it starts")
	s.killEngine()
	if got := s.published("mine"); got != published {
		t.Errorf("published on %s before the engine's end, on %s after", published, got)
	}
	var qemus, passts int
	for pid, args := range traces.Processes() {
		if !slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, s.dir) }) {
			continue
		}
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if !bytes.Contains(status, []byte("\nUid:\t65534\t65534\t65534\t65534\n")) {
			t.Errorf("process %d (%s) is not nobody's:\n%s", pid, args[0], status)
		}
		if strings.Contains(args[0], "qemu-system") {
			qemus++
		}
		if strings.Contains(args[0], "passt") {
			passts++
		}
	}
	if qemus != 1 || passts != 1 {
		t.Errorf("%d QEMUs and %d passts run", qemus, passts)
	}
	s.run("server", "set", "--root", "9p", "mine").exits(1).complains("needs root")
	s.run("server", "stop", "-t", "1s", "mine").ok()
	if conn, err := net.Dial("tcp", published); err == nil {
		_ = conn.Close()
		t.Errorf("%s is open, whose server has stopped", published)
	}
	s.run("server", "start", "mine").ok()
	s.run("server", "exec", "mine", "cat", "/kept").ok().says("kept\n")
}

// reachesHost has a server fetch what this process serves on the host's loopback
// interface, by its gateway's address.
func (s *state) reachesHost(name string) {
	s.t.Helper()
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the host") }))
	defer host.Close()
	_, port, _ := net.SplitHostPort(host.Listener.Addr().String())
	s.run("server", "exec", name, "wget", "-q", "-O", "-", "http://10.0.2.2:"+port).ok().says("the host\n")
}

// published asks a server for its page on the one port that it publishes, and returns
// that port's address.
func (s *state) published(name string) string {
	s.t.Helper()
	address, _, _ := strings.Cut(s.show(name, "ports"), "->")
	client := http.Client{Timeout: 2 * time.Minute}
	r, err := client.Get("http://" + address)
	if err != nil {
		s.t.Fatalf("published on %q: %v", address, err)
	}
	defer func() { _ = r.Body.Close() }()
	if page, err := io.ReadAll(r.Body); err != nil || string(page) != "served\n" {
		s.t.Errorf("the page says %q, %v", page, err)
	}
	return address
}
