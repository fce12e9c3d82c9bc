package vif

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/network/networktest"
)

func TestMain(m *testing.M) {
	networktest.Main(m, func() error {
		return errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
	})
}

const bridge = "brq76543210-ab"

func port(n int) network.Port {
	id := fmt.Sprintf("%08d-1234-4000-8000-000000000000", n)
	return network.Port{
		Base: network.Base{ID: id}, MAC: fmt.Sprintf("fa:16:3e:00:00:%02x", n), Tap: "tap" + id[:11],
		VIF: network.VIF{Type: network.VIFBridge, Bridge: bridge},
	}
}

// Frames go from port to port of one bridge, and from no other; the bridge goes with
// the last.
func TestBridge(t *testing.T) {
	v := New(Config{Identity: "test"})
	a, b, apart := port(1), port(2), port(3)
	apart.VIF.Bridge = "brq00000000-00"
	for _, p := range []network.Port{a, b, apart} {
		if err := v.Plug(t.Context(), p, 1400); err != nil {
			t.Fatal(err)
		}
	}
	from, to, other := open(t, a), open(t, b), open(t, apart)
	frame := frame(t, a, b, "hello")
	// A bridge's port is up a moment after its tap was opened.
	passed(t, from, to, frame)
	if got := other.next(300*time.Millisecond, frame); got {
		t.Error("a frame is on another network's bridge")
	}
	l, err := netlink.LinkByName(a.Tap)
	if err != nil || l.Attrs().MTU != 1400 {
		t.Errorf("%s: %+v, %v", a.Tap, l, err)
	}
	for _, tap := range []*tap{from, to, other} {
		tap.Close()
	}
	for i, p := range []network.Port{a, b, apart} {
		if err := errors.Join(v.Unplug(t.Context(), p), v.Unplug(t.Context(), p)); err != nil {
			t.Fatal(err)
		}
		if there(p.Tap) || there(bridge) != (i == 0) {
			t.Errorf("after port %d: tap %t, bridge %t", i, there(p.Tap), there(bridge))
		}
	}
}

// A bridge that Neutron's agent has made stays its own.
func TestBridgeOfTheAgent(t *testing.T) {
	made := &netlink.Bridge{LinkAttrs: attributes(bridge)}
	if err := errors.Join(netlink.LinkAdd(made), netlink.LinkSetUp(made)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netlink.LinkDel(made) })
	v := New(Config{Identity: "test"})
	a, b := port(1), port(2)
	for _, p := range []network.Port{a, b} {
		if err := v.Plug(t.Context(), p, 1500); err != nil {
			t.Fatal(err)
		}
	}
	from, to := open(t, a), open(t, b)
	passed(t, from, to, frame(t, a, b, "hello"))
	from.Close()
	to.Close()
	if err := errors.Join(v.Unplug(t.Context(), a), v.Unplug(t.Context(), b)); err != nil || !there(bridge) {
		t.Errorf("%v; bridge %t", err, there(bridge))
	}
}

// A port that is bounded passes less than one that is not, either way.
func TestBandwidth(t *testing.T) {
	v := New(Config{Identity: "test"})
	slow := network.Rate{Average: 16}
	free, sends, receives := port(1), port(2), port(3)
	sends.Bandwidth.Outbound, receives.Bandwidth.Inbound = slow, slow
	ports := []network.Port{free, sends, receives, port(4)}
	taps := map[string]*tap{}
	for _, p := range ports {
		if err := v.Plug(t.Context(), p, 1500); err != nil {
			t.Fatal(err)
		}
		taps[p.ID] = open(t, p)
	}
	through := func(from, to network.Port) int {
		f := frame(t, from, to, strings.Repeat("x", 1400))
		passed(t, taps[to.ID], taps[from.ID], frame(t, to, from, "")) // the bridge learns where it is
		passed(t, taps[from.ID], taps[to.ID], f)
		return taps[from.ID].flood(t, taps[to.ID], f)
	}
	all := through(free, ports[3])
	for what, n := range map[string]int{"sent": through(sends, free), "received": through(free, receives)} {
		t.Logf("%d of %d frames are %s, %d where nothing is bounded", n, frames, what, all)
		if n == 0 || n > all/2 {
			t.Errorf("%d of %d frames are %s", n, frames, what)
		}
	}
	for _, p := range ports {
		taps[p.ID].Close()
		if err := v.Unplug(t.Context(), p); err != nil {
			t.Error(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("left: %v: %s", err, out)
	}
}

// frames is how many a flood is of.
const frames = 1000

// flood sends one frame again and again, and counts how often it comes.
func (f *tap) flood(t *testing.T, to *tap, frame []byte) (came int) {
	t.Helper()
	for range frames {
		if _, err := f.Write(append(make([]byte, header), frame...)); err != nil {
			t.Fatal(err)
		}
		if to.next(time.Millisecond, frame) {
			came++
		}
	}
	return came
}

// tap is what QEMU has of an interface.
type tap struct{ *os.File }

// header is virtio's, before each frame.
const header = 10

func open(t *testing.T, p network.Port) *tap {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	request, err := unix.NewIfreq(p.Tap)
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Fatalf("open tap %s: %v", p.Tap, err)
	}
	f := &tap{os.NewFile(uintptr(fd), p.Tap)}
	t.Cleanup(func() { f.Close() })
	return f
}

// frame is from one port to another, of an EtherType for experiments.
func frame(t *testing.T, from, to network.Port, text string) []byte {
	t.Helper()
	var f []byte
	for _, p := range []network.Port{to, from} {
		mac, err := net.ParseMAC(p.MAC)
		if err != nil {
			t.Fatal(err)
		}
		f = append(f, mac...)
	}
	return append(append(f, 0x88, 0xb5), text...)
}

// next reports whether a frame comes within a time.
func (f *tap) next(limit time.Duration, want []byte) bool {
	_ = f.SetReadDeadline(time.Now().Add(limit))
	b := make([]byte, 2048)
	for {
		n, err := f.Read(b)
		if err != nil {
			return false
		}
		if n > header && bytes.Equal(b[header:n], want) {
			return true
		}
	}
}

// passed fails the test unless a frame gets from one tap to another.
func passed(t *testing.T, from, to *tap, frame []byte) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		if _, err := from.Write(append(make([]byte, header), frame...)); err != nil {
			t.Fatal(err)
		}
		if to.next(100*time.Millisecond, frame) {
			return
		}
	}
	t.Error("the frame does not come")
}
