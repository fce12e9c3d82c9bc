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

// agentHost is what the host in the namespace is called in Neutron.
const agentHost = "slipway-test-host"

// neutronHost is a host of the cloud's Neutron: a namespace with Open vSwitch and the
// agent that looks after it, from where the cloud is reached as from without.
type neutronHost struct {
	*realCloud
	name, dir string
	network   string // Neutron's URL
}

func newNeutronHost(t *testing.T) *neutronHost {
	t.Helper()
	h := &neutronHost{realCloud: newCloud(t), name: fmt.Sprintf("slw%dn", os.Getpid()), dir: t.TempDir()}
	h.ip("netns add " + h.name)
	t.Cleanup(func() { h.ip("netns del " + h.name) })
	h.ip("-n " + h.name + " link set lo up")
	h.network = h.openstack("admin", "endpoint list --service network --interface public --region RegionOne -f value -c URL")
	settings, err := os.ReadFile(filepath.Join(h.realCloud.dir, "etc/neutron.conf"))
	if err != nil {
		t.Fatalf("%v: this needs the whole cloud: make test-openstack", err)
	}
	queue := regexp.MustCompile(`transport_url = rabbit://[^@]*@([^/]+)`).FindStringSubmatch(string(settings))
	for _, u := range []string{h.identity, h.glance.url, h.network, "tcp://" + queue[1]} {
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
	cmd := exec.Command("ip", "netns", "exec", h.name, "../../etc/openstack/agent", agentHost, h.dir)
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
		return lacks(h.openstack("admin", "network agent list --host "+agentHost+" -f value -c Alive -c Binary"), "True neutron-openvswitch-agent")
	})
}

// taps are the interfaces that Open vSwitch has of ports.
func (h *neutronHost) taps() string {
	h.t.Helper()
	out, err := exec.Command("ovs-vsctl", "--db=unix:"+h.dir+"/db.sock", "list-ports", "br-int").CombinedOutput()
	if err != nil {
		h.t.Fatalf("ovs-vsctl: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
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

// Servers on the networks of a real Neutron, whose agent joins and filters their ports.
func TestNeutron(t *testing.T) {
	const region = "slipway-test-neutron"
	h := newNeutronHost(t)
	s := newState(t, append(h.settings(), "SLIPWAY_IDENTITY_URL="+h.identity, "SLIPWAY_NETWORK_URL="+h.network,
		"SLIPWAY_NETWORK_HOST="+agentHost, "SLIPWAY_NETWORK_OVSDB=unix:"+h.dir+"/db.sock")...)
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
		"server create --image test-neutron --flavor m1.nano --port test-neutron --wait web",
		"server create --image test-neutron --flavor m1.nano --network test-neutron --wait client")
	list := h.in(region, "demo", "server list -f value -c Name -c Status -c Networks")
	if err := lacks(list, "10.77.0.77", "web ACTIVE", "client ACTIVE"); err != nil {
		t.Fatal(err)
	}
	h.bound()
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

	// What Slipway has made goes with its server; what it was given stays.
	h.in(region, "demo", "server delete --wait web", "server delete --wait client")
	if left := h.taps(); left != "" {
		t.Errorf("Open vSwitch has still %s", left)
	}
	ports := h.openstack("demo", "port list --network test-neutron -f value -c Name -c 'Fixed IP Addresses'")
	if strings.Count(ports, "\n") != 0 || !strings.Contains(ports, "10.77.0.77") {
		t.Errorf("ports are left:\n%s", ports)
	}
	if out := h.openstack("admin", "port show test-neutron -f value -c device_id -c binding_host_id"); out != "" {
		t.Errorf("the port that was given is still somebody's:\n%s", out)
	}
}

// bound fails the test unless Neutron's agent has both ports.
func (h *neutronHost) bound() {
	h.t.Helper()
	out := h.openstack("admin", "port list --network test-neutron --device-owner compute:nova -f value -c ID -c Status")
	for line := range strings.Lines(out) {
		id, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		if status != "ACTIVE" || !strings.Contains(h.taps(), "tap"+id[:11]) {
			h.t.Errorf("port %s is %s; Open vSwitch has:\n%s", id, status, h.taps())
		}
	}
	if strings.Count(out, "ACTIVE") != 2 {
		h.t.Errorf("Neutron has the ports:\n%s", out)
	}
	if out := h.openstack("admin", "port show test-neutron -f value -c binding_vif_type -c binding_host_id"); lacks(out, "ovs", agentHost) != nil {
		h.t.Errorf("the port is bound as:\n%s", out)
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
}
