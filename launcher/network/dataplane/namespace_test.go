package dataplane

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/network/networktest"
)

// TestMain runs the tests as a host of their own: nothing of it is seen outside.
func TestMain(m *testing.M) { networktest.Main(m, setUpHost) }

// The host's address, and that of the one machine outside.
const (
	host4, outside4 = "203.0.113.1", "203.0.113.2"
	host6, outside6 = "2001:db8::1", "2001:db8::2"
)

func setUpHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, line := range []string{
		"link set lo up",
		"netns add outside",
		"link add up0 type veth peer name out0 netns outside",
		"addr add " + host4 + "/24 dev up0", "addr add " + host6 + "/64 dev up0 nodad", "link set up0 up",
		"-n outside link set lo up",
		"-n outside addr add " + outside4 + "/24 dev out0", "-n outside addr add " + outside6 + "/64 dev out0 nodad", "-n outside link set out0 up",
		"route add default via " + outside4, "-6 route add default via " + outside6,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	return nil
}

func ip(t *testing.T, line string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", line, err, out)
	}
}

// enter runs f in a namespace: sockets that it opens there stay there. "" is the host.
func enter(t *testing.T, name string, f func()) {
	t.Helper()
	if name == "" {
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(name)
		if err == nil {
			err = netns.Set(ns)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// serve answers on a port with who answers, and whom.
func serve(t *testing.T, where, protocol, address string) {
	t.Helper()
	enter(t, where, func() {
		if protocol == "udp" {
			c, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				b := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(where), from)
				}
			}()
			return
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, where)
				c.Close()
			}
		}()
	})
}

// patience is how long an answer may take, silence how long none is waited for.
const (
	patience = 20 * time.Second
	silence  = 700 * time.Millisecond
)

// ask returns the answer that is got from a namespace.
func ask(t *testing.T, where, protocol, address string, limit time.Duration) (answer string, err error) {
	t.Helper()
	enter(t, where, func() {
		var c net.Conn
		if c, err = net.DialTimeout(protocol, address, limit); err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit))
		if protocol == "udp" {
			_, _ = c.Write([]byte("?"))
		}
		b := make([]byte, 100)
		n, rerr := c.Read(b)
		answer, err = string(b[:n]), rerr
	})
	return answer, err
}

func reached(t *testing.T, where, protocol, address, want string) {
	t.Helper()
	if got, err := ask(t, where, protocol, address, patience); got != want {
		t.Errorf("%s asks %s by %s: got %q, %v, want %q", where, address, protocol, got, err, want)
	}
}

func unreached(t *testing.T, where, protocol, address string) {
	t.Helper()
	if got, err := ask(t, where, protocol, address, silence); err == nil {
		t.Errorf("%s reaches %s by %s: got %q", where, address, protocol, got)
	}
}

// site is networks of a state directory, and namespaces as its servers.
type site struct {
	t     *testing.T
	s     *network.Service
	plane *Plane
	store *launchertest.Section
}

const identity = "0123abcd"

func newSite(t *testing.T) *site {
	t.Helper()
	v := &site{t: t, store: launchertest.NewSection()}
	v.open()
	t.Cleanup(func() {
		if err := v.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func (v *site) open() {
	v.t.Helper()
	v.plane = New(Config{Identity: identity})
	var err error
	v.s, err = network.Open(v.t.Context(), network.Config{Store: v.store, Identity: identity, Plane: v.plane, Ports: v.plane, HostPrefixes: HostPrefixes})
	if err != nil {
		v.t.Fatal(err)
	}
}

// server plugs a namespace in. The veth takes the place of the tap that QEMU opens.
func (v *site) server(name, project string, spec launcher.Spec) (launcher.Server, []launcher.NIC) {
	v.t.Helper()
	ctx := v.t.Context()
	srv := launcher.Server{ID: name, Name: name, Project: project, Spec: spec}
	nics, err := v.s.Allocate(ctx, &srv)
	if err != nil {
		v.t.Fatal(err)
	}
	ip(v.t, "netns add "+name)
	ip(v.t, "-n "+name+" link set lo up")
	v.t.Cleanup(func() {
		if err := v.s.Release(context.WithoutCancel(ctx), name); err != nil {
			v.t.Error(err)
		}
		_ = exec.Command("ip", "netns", "del", name).Run()
	})
	for i, nic := range nics {
		tap := tapOf(nic)
		ip(v.t, fmt.Sprintf("link add %s type veth peer name eth%d address %s netns %s", tap, i, nic.MAC, name))
		ip(v.t, "link set "+tap+" alias "+v.plane.alias())
	}
	plugged, err := v.s.Plug(ctx, &srv)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, l := range plugged.Config.Links {
		v.configure(name, l)
	}
	return srv, nics
}

// tapOf is the host's interface of a port.
func tapOf(nic launcher.NIC) string {
	return "st" + identity[:5] + strings.ReplaceAll(nic.Port, "-", "")[:8]
}

func (v *site) configure(name string, l cloudinit.Link) {
	v.t.Helper()
	ip(v.t, "-n "+name+" link set "+l.Name+" up")
	for _, a := range l.Addresses {
		ip(v.t, fmt.Sprintf("-n %s addr add %s dev %s nodad", name, a, l.Name))
	}
	for _, r := range l.AllRoutes() {
		ip(v.t, fmt.Sprintf("-n %s route add %s via %s", name, r.To, r.Via))
	}
}

// at is an address of an interface, by version, with a port.
func at(nic launcher.NIC, version, port int) string {
	for _, a := range nic.Addresses {
		if versionOf(a.Addr()) == version {
			return netip.AddrPortFrom(a.Addr(), uint16(port)).String()
		}
	}
	return ""
}

// left lists what is there of the state directory.
func left(t *testing.T, p *Plane) (found []string) {
	t.Helper()
	links, err := p.ours()
	if err != nil {
		t.Fatal(err)
	}
	for name := range links {
		found = append(found, name)
	}
	out, err := exec.Command("nft", "list", "tables").CombinedOutput()
	if err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	if strings.Contains(string(out), p.table) {
		found = append(found, p.table)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	all, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if !a.IP.IsLoopback() {
			found = append(found, a.String())
		}
	}
	return found
}
