//go:build guest && openstack

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"
)

// The kinds of etc/openstack/agent.
const (
	openvswitch = "openvswitch"
	hybrid      = "hybrid"
	linuxbridge = "linuxbridge"
)

// neutronHost is a host of the cloud's Neutron: a namespace with an agent of a kind that
// looks after its ports, from where the cloud is reached as from without.
type neutronHost struct {
	*realCloud
	kind      string
	agent     string // what the host is called in Neutron
	name, dir string
	network   string // Neutron's URL
}

func newNeutronHost(t *testing.T, kind string) *neutronHost {
	t.Helper()
	h := &neutronHost{realCloud: reachCloud(t), kind: kind, agent: "slipway-test-" + kind, name: fmt.Sprintf("slw%dn", os.Getpid()), dir: t.TempDir()}
	h.ip("netns add " + h.name)
	t.Cleanup(func() { h.ip("netns del " + h.name) })
	h.ip("-n " + h.name + " link set lo up")
	h.ip("-n " + h.name + " link add up0 type veth peer name up1") // its MAC is how Neutron's agent tells hosts apart
	h.network = h.openstack("admin", "endpoint list --service network --interface public --region RegionOne -f value -c URL")
	settings, err := os.ReadFile(filepath.Join(h.realCloud.dir, "etc/neutron.conf"))
	if err != nil {
		t.Fatalf("%v: this needs the whole cloud: make test-openstack", err)
	}
	queue := regexp.MustCompile(`transport_url = rabbit://[^@]*@([^/]+)`).FindStringSubmatch(string(settings))
	for _, u := range []string{h.identity, h.glance.URL, h.network, "tcp://" + queue[1]} {
		h.forward(u)
	}
	h.startAgent()
	return h
}

func (h *neutronHost) ip(line string) {
	h.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		h.t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// forward makes an address of the loopback interface that of the outer namespace.
func (h *neutronHost) forward(to string) {
	h.t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		h.t.Fatal(err)
	}
	l, err := listenIn(h.name, u.Host)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			inner, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer inner.Close()
				outer, err := net.Dial("tcp", u.Host)
				if err != nil {
					return
				}
				defer outer.Close()
				go func() {
					_, _ = io.Copy(outer, inner)
					_ = outer.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(inner, outer)
			}()
		}
	}()
}

// listenIn listens in another network namespace.
func listenIn(namespace, address string) (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and the thread ends with the goroutine
		var f *os.File
		if f, err = os.Open("/run/netns/" + namespace); err != nil {
			return
		}
		defer f.Close()
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			l, err = net.Listen("tcp", address)
		}
	}()
	<-done
	return l, err
}

// startAgent starts what looks after the host's ports, and waits until Neutron knows.
func (h *neutronHost) startAgent() {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.dir, "log"))
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", h.name, "../../etc/openstack/agent", h.agent, h.dir, h.kind)
	cmd.Env = append(os.Environ(), "OPENSTACK_DIR="+h.realCloud.dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if h.t.Failed() {
			for _, name := range []string{"log", "agent.log"} {
				text, _ := os.ReadFile(filepath.Join(h.dir, name))
				h.t.Logf("%s of the agent:\n%s", name, tail(string(text)))
			}
		}
	})
	eventually(h.t, 2*deadline, func() error {
		select {
		case err := <-ended:
			ended <- err
			h.t.Fatalf("the agent ended: %v", err)
		default:
		}
		return lacks(h.openstack("admin", "network agent list --host "+h.agent+" -f value -c Alive -c Binary"), "True neutron-")
	})
}

// joined are the interfaces that are joined to a network, of Open vSwitch or on the
// network's bridge.
func (h *neutronHost) joined(network string) string {
	h.t.Helper()
	cmd := exec.Command("ovs-vsctl", "--db=unix:"+h.dir+"/db.sock", "list-ports", "br-int")
	if h.kind == linuxbridge {
		cmd = exec.Command("ip", "-n", h.name, "-o", "link", "show", "master", "brq"+network[:11])
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s: %v: %s", cmd, err, out)
	}
	return string(out)
}

// left fails the test if something of a port is left in the namespace.
func (h *neutronHost) left() {
	h.t.Helper()
	out, err := exec.Command("ip", "-n", h.name, "-o", "link").CombinedOutput()
	if err != nil {
		h.t.Fatalf("ip link: %v: %s", err, out)
	}
	if found := regexp.MustCompile(`(tap|qvo|qvb|qbr|brq)[0-9a-f]{8}-\S*`).FindAllString(string(out), -1); found != nil {
		h.t.Errorf("there is still %s", found)
	}
	if h.kind != linuxbridge {
		if left := h.joined(""); left != "" {
			h.t.Errorf("Open vSwitch has still %s", left)
		}
	}
}

// in runs the openstack client in the namespace, where Slipway's service is.
func (h *neutronHost) in(region, user string, commands ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", h.name, "openstack")
	cmd.Env = append(os.Environ(), "OS_CLIENT_CONFIG_FILE="+h.clouds, "HOME="+scratch,
		"OS_CLOUD="+user, "OS_REGION_NAME="+region, "OS_COMPUTE_API_VERSION=2.79")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("openstack %q: %v\n%s", commands, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Servers on the networks of a real Neutron, whose agents join and filter their ports:
// on Open vSwitch, on Open vSwitch by bridges of their own, and on Linux bridges.
func TestNeutron(t *testing.T) {
	for _, kind := range []string{openvswitch, hybrid, linuxbridge} {
		t.Run(kind, func(t *testing.T) { newNeutronHost(t, kind).servers(t) })
	}
}

func (h *neutronHost) servers(t *testing.T) {
	const region = "slipway-test-neutron"
	s := newState(t, append(h.settings(), "SLIPWAY_IDENTITY_URL="+h.identity, "SLIPWAY_NETWORK_URL="+h.network,
		"SLIPWAY_NETWORK_HOST="+h.agent, "SLIPWAY_NETWORK_OVSDB=unix:"+h.dir+"/db.sock")...)
	s.under = []string{"ip", "netns", "exec", h.name}
	h.clear()
	t.Cleanup(h.clear)
	made := strings.Fields(h.openstack("demo",
		"network create test-neutron -f value -c id",
		"subnet create --network test-neutron --subnet-range 10.77.0.0/24 --dns-nameserver 10.77.0.53 test-neutron -f value -c id",
		"subnet create --network test-neutron --ip-version 6 --subnet-range fd77::/64 test-neutron6 -f value -c id",
		"security group create test-neutron -f value -c id",
		"security group rule create --ethertype IPv4 --protocol tcp --dst-port 80 test-neutron -f value -c id",
		"port create --network test-neutron --fixed-ip ip-address=10.77.0.77 --security-group test-neutron -f value -c id test-neutron"))
	if len(made) != 6 {
		t.Fatalf("the client says:\n%s", made)
	}
	at := s.startService()
	s.run("service", "register", "--url", at, "--region", region).ok()
	t.Cleanup(func() { s.run("service", "deregister", "--region", region).ok() })
	h.image("demo", "test-neutron", dockerSave(t, configured(t, func(cfg *v1.Config) {
		cfg.Entrypoint, cfg.Cmd = []string{"/bin/sh", "-c"}, []string{webServer}
	})))
	h.in(region, "demo",
		"server create --image test-neutron --flavor m1.nano --port test-neutron web",
		"server create --image test-neutron --flavor m1.nano --network test-neutron --wait client")
	eventually(t, 2*deadline, func() error {
		return lacks(h.in(region, "demo", "server list -f value -c Name -c Status -c Networks"), "10.77.0.77", "web ACTIVE", "client ACTIVE")
	})
	h.bound(made[0])
	s.run("server", "exec", "client", "ip", "-6", "addr", "show", "dev", "eth0").ok().mentions("fd77::")
	s.run("server", "exec", "client", "cat", "/etc/resolv.conf").ok().mentions("10.77.0.53")
	// The rule lets a request pass, and nothing else.
	eventually(t, deadline, func() error { return lacks(s.request("client", "10.77.0.77").stdout, "web") })
	s.run("server", "exec", "client", "ping", "-c", "1", "-W", "3", "10.77.0.77").exits(1)
	if out := h.in(region, "demo", "server remove security group web test-neutron"); out != "" {
		t.Errorf("the client says: %s", out)
	}
	eventually(t, deadline, func() error {
		if got := s.request("client", "10.77.0.77").stdout; got != "" {
			return errors.New("a port without security groups answers " + got)
		}
		return nil
	})
	s.run("server", "publish", "web", "8080:80").exits(1).complains("Neutron's")

	// A port that Neutron has no more is no more when its server boots again.
	gone := h.openstack("demo", "port list --network test-neutron --device-owner compute:nova -f value")
	for line := range strings.Lines(gone) {
		if !strings.Contains(line, "10.77.0.77") {
			h.openstack("admin", "port delete "+line[:36])
		}
	}
	s.run("server", "stop", "client").ok()
	s.run("server", "start", "client").ok()
	s.run("server", "exec", "client", "ls", "/sys/class/net").ok().says("lo\n")

	// What Slipway has made goes with its server; what it was given stays.
	h.in(region, "demo", "server delete --wait web", "server delete --wait client")
	h.left()
	ports := h.openstack("demo", "port list --network test-neutron -f value")
	if strings.Count(ports, "\n") != 0 || !strings.Contains(ports, "10.77.0.77") {
		t.Errorf("ports are left:\n%s", ports)
	}
	if out := h.openstack("admin", "port show test-neutron -f value -c device_id -c binding_host_id"); out != "" {
		t.Errorf("the port that was given is still somebody's:\n%s", out)
	}
}

// bound fails the test unless Neutron's agent has both ports of a network.
func (h *neutronHost) bound(network string) {
	h.t.Helper()
	end := map[string]string{openvswitch: "tap", hybrid: "qvo", linuxbridge: "tap"}[h.kind]
	out := h.openstack("admin", "port list --network test-neutron --device-owner compute:nova -f value -c ID -c Status")
	for line := range strings.Lines(out) {
		id, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		if joined := h.joined(network); status != "ACTIVE" || !strings.Contains(joined, end+id[:11]) {
			h.t.Errorf("port %s is %s; joined are:\n%s", id, status, joined)
		}
	}
	if strings.Count(out, "ACTIVE") != 2 {
		h.t.Errorf("Neutron has the ports:\n%s", out)
	}
	want := map[string]string{openvswitch: "'ovs_hybrid_plug': False", hybrid: "'ovs_hybrid_plug': True", linuxbridge: "bridge"}[h.kind]
	out = h.openstack("admin", "port show test-neutron -f value -c binding_vif_type -c binding_vif_details -c binding_host_id")
	if err := lacks(out, want, h.agent); err != nil {
		h.t.Errorf("the port is bound as: %v", err)
	}
}

// clear removes what a test has made in Neutron, also one that was killed.
func (h *neutronHost) clear() {
	out := h.openstack("admin", "port list --network test-neutron -f value -c ID")
	for id := range strings.FieldsSeq(out) {
		if len(id) == 36 {
			h.openstack("admin", "port delete "+id)
		}
	}
	h.openstack("admin", "network delete test-neutron", "security group delete test-neutron")
	h.openstack("demo", "image delete test-neutron")
}
