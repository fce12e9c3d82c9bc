//go:build guest

package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestWithUdhcpc has busybox's client, in a network namespace of its own, take a lease.
func TestWithUdhcpc(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	ns := fmt.Sprintf("dhcp-%d", os.Getpid())
	ours, theirs := fmt.Sprintf("dh%d", os.Getpid()), "eth0"
	run("ip", "netns", "add", ns)
	t.Cleanup(func() {
		// The pair goes with its end in the namespace.
		if out, err := exec.Command("ip", "netns", "delete", ns).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", ns)
	run("ip", "address", "add", "10.213.77.1/24", "dev", ours)
	run("ip", "link", "set", ours, "up")
	run("ip", "-n", ns, "link", "set", theirs, "address", guestMAC.String(), "up")

	c := testConfig()
	c.Interface, c.Address = ours, netip.MustParseAddr("10.213.77.1")
	lease, _ := c.Lease(guestMAC)
	lease.Address, lease.Gateway = netip.MustParsePrefix("10.213.77.5/24"), c.Address
	lease.Routes = []Route{{To: netip.MustParsePrefix("169.254.169.254/32"), Via: c.Address}}
	known := c.Lease
	c.Lease = func(mac net.HardwareAddr) (Lease, bool) {
		_, ok := known(mac)
		return lease, ok
	}
	s, err := Listen(*c)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- s.Serve() }()
	script := filepath.Join(t.TempDir(), "show")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nset\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	out := run("ip", "netns", "exec", ns, "busybox", "udhcpc", "-i", theirs, "-nqf", "-O", "staticroutes", "-O", "mtu", "-s", script)
	for _, want := range []string{
		"ip='10.213.77.5'", "mask='24'", "router='10.213.77.1'", "hostname='web'", "domain='lan.example'", "lease='86400'", "mtu='1450'",
		"staticroutes='169.254.169.254/32 10.213.77.1 0.0.0.0/0 10.213.77.1'", "serverid='10.213.77.1'",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the client was not told %s:\n%s", want, out)
		}
	}
	// A stranger's packets are not answered.
	run("ip", "-n", ns, "link", "set", theirs, "address", "02:00:00:00:00:09")
	stranger := exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "busybox", "udhcpc", "-i", theirs, "-nqf", "-t", "2", "-T", "1", "-s", script)
	if out, err := stranger.CombinedOutput(); err == nil || strings.Contains(string(out), "lease of") {
		t.Errorf("a stranger got a lease: %s", out)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
