//go:build guest

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
func (s *state) request(from, address string) *result { return s.requestAt(from, address, 80) }

func (s *state) requestAt(from, address string, port int) *result {
	return s.run("server", "exec", from, "sh", "-c", fmt.Sprintf(`printf 'GET / HTTP/1.0\r\n\r\n' | timeout 5 nc %s %d | tail -n 1`, address, port))
}

// address is one that a server has on a network, the IPv4 one.
func (s *state) address(server, network string) string {
	s.t.Helper()
	return s.addressOf(server, network, ".")
}

// addressOf is that in which a character is.
func (s *state) addressOf(server, network, with string) string {
	s.t.Helper()
	for _, a := range strings.Split(s.run("server", "show", "-f", "value", "-c", "addresses", server).ok().stdout, ", ") {
		if ip, ok := strings.CutPrefix(strings.TrimSpace(a), network+"="); ok && strings.Contains(ip, with) {
			return ip
		}
	}
	s.t.Fatalf("server %s has no address with %q on %s", server, with, network)
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
	s.run("boot", "--rm", "--network", "none", busybox, "ls", "/sys/class/net").ok().says("lo\n")
	web, both := s.address("web", "default"), s.address("both", "default")
	n.gets(n.outside, hostAddress+":8080", "web")
	n.flows(s)
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

	n.thousand(s)

	s.killEngine()
	n.gets(n.outside, hostAddress+":8080", "web")
	s.request("both", web).ok().says("web\n")
	n.gets(n.host, "127.0.0.1:8080", "web")
	s.run("network", "delete", "back").exits(1).complains("in use")
	s.deleteAll()
	s.run("network", "delete", "back").ok()
	n.empty()
}

// flows checks what server both reaches beside its neighbours: by IPv6, by published
// ports, outside, and not on the host.
func (n *namespace) flows(s *state) {
	n.t.Helper()
	web6 := s.addressOf("web", "default", ":")
	s.request("both", web6).ok().says("web\n")
	n.serve(n.outside)
	n.serve(n.host)
	s.request("both", outsideAddress).ok().says(n.outside + "\n")
	s.request("both", hostAddress).says("")
	for _, from := range []string{"both", "apart", "web"} { // the last by a hairpin
		s.requestAt(from, hostAddress, 8080).ok().says("web\n")
	}
	// Another firewall's reload takes nothing away for long.
	if out, err := exec.Command("ip", "netns", "exec", n.host, "nft", "flush", "ruleset").CombinedOutput(); err != nil {
		n.t.Fatalf("nft flush ruleset: %v: %s", err, out)
	}
	n.gets(n.outside, hostAddress+":8080", "web")
}

// thousand publishes a thousand ports more, and no more.
func (n *namespace) thousand(s *state) {
	n.t.Helper()
	before := n.rules()
	s.run("server", "publish", "web", "20000-20999:80-1079").ok()
	n.gets(n.outside, hostAddress+":20000", "web")
	n.gets(n.host, "127.0.0.1:20000", "web")
	s.run("server", "unpublish", "web", "20000-20999:80-1079").ok()
	if after := n.rules(); after != before {
		n.t.Errorf("rules and listeners before:\n%s\nand after:\n%s", before, after)
	}
	if got, err := n.get(n.outside, hostAddress+":20000"); err == nil {
		n.t.Errorf("a port that is not published any more answers %q", got)
	}
}

// rules are the words of the host's rules, which sets have in no order, and of who
// listens there.
func (n *namespace) rules() string {
	n.t.Helper()
	var all string
	for _, line := range []string{"nft list ruleset", "ss -Hltn"} {
		out, err := exec.Command("ip", append([]string{"netns", "exec", n.host}, strings.Fields(line)...)...).CombinedOutput()
		if err != nil {
			n.t.Fatalf("%s: %v: %s", line, err, out)
		}
		all += string(out)
	}
	words := strings.Fields(strings.ReplaceAll(all, ",", " "))
	slices.Sort(words)
	return strings.Join(words, " ")
}

// serve answers on port 80 of a namespace with its name, until the test ends.
func (n *namespace) serve(where string) {
	n.t.Helper()
	dir := n.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(where+"\n"), 0o644); err != nil {
		n.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", where, "busybox", "httpd", "-f", "-p", "80", "-h", dir)
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	n.gets(where, "127.0.0.1:80", where)
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
