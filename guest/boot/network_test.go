package boot

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// TestSetNetwork runs in namespaces of its own. A library that the code under test does
// without tells what came of it.
func TestSetNetwork(t *testing.T) {
	const mark = "SLIPWAY_TEST_APART"
	if os.Getenv(mark) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), mark+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		if os.Getuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	// The one in /sys shows the interfaces of the namespace that it was mounted in.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	// Each has the name that the other is to have.
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth1"}, PeerName: "eth0"}); err != nil {
		t.Fatal(err)
	}
	mac := map[string]string{}
	for _, name := range []string{"eth0", "eth1"} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		mac[name] = l.Attrs().HardwareAddr.String()
	}
	all := []share.Interface{
		{
			Name: "eth0", MAC: mac["eth1"], MTU: 1300,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/20"), netip.MustParsePrefix("fd00::3/64"), netip.MustParsePrefix("10.9.0.1/31")},
			Routes: []share.Route{
				{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.1.0.1")},
				{To: netip.MustParsePrefix("10.77.1.9/16"), Via: netip.MustParseAddr("10.1.0.2")},
				{To: netip.MustParsePrefix("::/0"), Via: netip.MustParseAddr("fd00::1")},
			},
		},
		{Name: "eth1", MAC: mac["eth0"]},
	}
	// A server is told of all its interfaces again when it gets another.
	for range 2 {
		if err := setNetwork(all); err != nil {
			t.Fatal(err)
		}
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp == 0 {
		t.Errorf("loopback: %+v, err %v", lo, err)
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	if a := eth0.Attrs(); a.HardwareAddr.String() != all[0].MAC || a.MTU != 1300 || a.Flags&net.FlagUp == 0 {
		t.Errorf("eth0: %+v", a)
	}
	addresses, err := netlink.AddrList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range addresses {
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		text := a.IPNet.String()
		if a.Broadcast != nil {
			text += " " + a.Broadcast.String()
		}
		if a.IP.To4() == nil && a.Flags&unix.IFA_F_TENTATIVE != 0 {
			text += " tentative"
		}
		got = append(got, text)
	}
	if want := []string{"10.1.2.3/20 10.1.15.255", "10.9.0.1/31", "fd00::3/64"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
	routes, err := netlink.RouteList(eth0, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, r := range routes {
		if r.Gw != nil {
			got = append(got, r.Dst.String()+" "+r.Gw.String())
		}
	}
	if want := []string{"0.0.0.0/0 10.1.0.1", "10.77.0.0/16 10.1.0.2", "::/0 fd00::1"}; !slices.Equal(got, want) {
		t.Errorf("routes %q, want %q", got, want)
	}
	all[0].Routes = []share.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("192.0.2.1")}}
	if err := setNetwork(all); err == nil {
		t.Error("a route by a host that no interface leads to")
	}
}
