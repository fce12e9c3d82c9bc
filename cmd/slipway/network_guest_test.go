//go:build guest

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// namespace is a host of its own, and a machine outside of it.
type namespace struct {
	t             *testing.T
	host, outside string
}

// The addresses of the host and of the machine outside.
const hostAddress, outsideAddress = "203.0.113.1", "203.0.113.2"

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	n := &namespace{t: t, host: fmt.Sprintf("slw%dh", os.Getpid()), outside: fmt.Sprintf("slw%do", os.Getpid())}
	t.Cleanup(func() {
		for _, name := range []string{n.host, n.outside} {
			if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
				t.Errorf("ip netns del %s: %v: %s", name, err, out)
			}
		}
	})
	for _, line := range []string{
		"netns add " + n.host, "netns add " + n.outside,
		"-n " + n.host + " link set lo up", "-n " + n.outside + " link set lo up",
		"-n " + n.host + " link add up0 type veth peer name out0 netns " + n.outside,
		"-n " + n.host + " addr add " + hostAddress + "/24 dev up0", "-n " + n.host + " link set up0 up",
		"-n " + n.outside + " addr add " + outsideAddress + "/24 dev out0", "-n " + n.outside + " link set out0 up",
		"-n " + n.host + " route add default via " + outsideAddress,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	return n
}

// get asks an HTTP server from a namespace.
func (n *namespace) get(where, address string) (string, error) {
	host, port, _ := strings.Cut(address, ":")
	script := fmt.Sprintf(`exec 3<>/dev/tcp/%s/%s && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3`, host, port)
	out, err := exec.Command("ip", "netns", "exec", where, "timeout", "10", "bash", "-c", script).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(lines[len(lines)-1]), err
}

func (n *namespace) gets(where, address, want string) {
	n.t.Helper()
	eventually(n.t, deadline, func() error {
		got, err := n.get(where, address)
		if err == nil && got != want {
			err = fmt.Errorf("got %q, want %q", got, want)
		}
		return err
	})
}

const webServer = `mkdir -p /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www`

// request has a server ask another for its page.
func (s *state) request(from, address string) *result {
	return s.run("server", "exec", from, "sh", "-c", fmt.Sprintf(`printf 'GET / HTTP/1.0\r\n\r\n' | timeout 5 nc %s 80 | tail -n 1`, address))
}

// address is one that a server has on a network, the IPv4 one.
func (s *state) address(server, network string) string {
	s.t.Helper()
	for _, a := range strings.Split(s.run("server", "show", "-f", "value", "-c", "addresses", server).ok().stdout, ", ") {
		if ip, ok := strings.CutPrefix(strings.TrimSpace(a), network+"="); ok && strings.Contains(ip, ".") {
			return ip
		}
	}
	s.t.Fatalf("server %s has no address on %s", server, network)
	return ""
}

// Servers in a namespace that is a host of its own: networks, published ports, names,
// isolation, an engine that is killed.
func TestNetworks(t *testing.T) {
	n := newNamespace(t)
	s := newState(t)
	s.under = []string{"ip", "netns", "exec", n.host}
	s.run("network", "create", "--subnet", "10.9.0.0/24", "back").ok()
	boots := []*command{
		s.start("boot", "-d", "--name", "web", "-p", "8080:80", busybox, "sh", "-c", webServer),
		s.start("boot", "-d", "--name", "both", "--network", "default", "--network", "back,ip=10.9.0.7,mac=fa:16:3e:00:00:07", busybox, "sh", "-c", webServer),
		s.start("boot", "-d", "--name", "apart", "--network", "back", busybox, "sh", "-c", webServer),
	}
	for _, b := range boots {
		b.wait().ok()
	}
	web, both := s.address("web", "default"), s.address("both", "default")
	n.gets(n.outside, hostAddress+":8080", "web")
	n.gets(n.host, "127.0.0.1:8080", "web")
	n.gets(n.host, both+":80", "both")
	s.request("both", web).ok().says("web\n")
	s.request("apart", "10.9.0.7").ok().says("both\n")
	s.request("apart", web).says("")
	s.run("server", "exec", "both", "ip", "-o", "link", "show", "eth1").ok().mentions("fa:16:3e:00:00:07")
	s.run("server", "exec", "both", "nslookup", "web").ok().mentions(web)
	// Nothing comes from an address that is not the server's own.
	s.run("server", "exec", "both", "ping", "-c", "1", "-W", "5", web).ok()
	foreign := web[:strings.LastIndexByte(web, '.')] + ".200"
	s.run("server", "exec", "--privileged", "both", "ip", "addr", "add", foreign+"/24", "dev", "eth0").ok()
	s.run("server", "exec", "both", "ping", "-c", "1", "-W", "2", "-I", foreign, web).exits(1)

	s.run("server", "publish", "both", "127.0.0.1:8081:80").ok().says("127.0.0.1:8081->80/tcp\n")
	n.gets(n.host, "127.0.0.1:8081", "both")
	s.run("server", "publish", "both", "8080:80").exits(1).complains("published by server web")
	s.run("server", "unpublish", "both", "8081:80").ok()
	if got, err := n.get(n.host, "127.0.0.1:8081"); err == nil {
		t.Errorf("a port that is not published any more answers %q", got)
	}

	s.killEngine()
	n.gets(n.outside, hostAddress+":8080", "web")
	s.request("both", web).ok().says("web\n")
	n.gets(n.host, "127.0.0.1:8080", "web")
	s.run("network", "delete", "back").exits(1).complains("in use")
	s.deleteAll()
	s.run("network", "delete", "back").ok()
	n.empty()
}

// empty fails the test unless the host is as it was.
func (n *namespace) empty() {
	n.t.Helper()
	for _, line := range []string{"ip -o link", "nft list tables"} {
		out, err := exec.Command("ip", append([]string{"netns", "exec", n.host}, strings.Fields(line)...)...).CombinedOutput()
		left := strings.Contains(string(out), "slipway") || strings.Contains(string(out), ": sb") || strings.Contains(string(out), ": st")
		if err != nil || left {
			n.t.Errorf("%s: %v:\n%s", line, err, out)
		}
	}
}

// mentions fails the test unless standard output contains want.
func (r *result) mentions(want string) *result {
	r.t.Helper()
	if !strings.Contains(r.stdout, want) {
		r.t.Errorf("slipway %q: no %q in:\n%s\nstderr:\n%s", r.args, want, tail(r.stdout), tail(r.stderr))
	}
	return r
}
