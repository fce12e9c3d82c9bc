package passt

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network/dataplane"
)

func server(ports ...launcher.Publish) *launcher.Server {
	srv := &launcher.Server{ID: "a", Name: "web"}
	srv.Spec.Networks = []launcher.NetworkRequest{{Network: launcher.NetworkHostUser}}
	srv.Spec.Publish = ports
	srv.NICs = []launcher.NIC{New(nil).Allocate(srv)}
	return srv
}

// The process of a server holds its ports, is found again by another engine, and
// leaves nothing.
func TestPlug(t *testing.T) {
	n, dir := New(dataplane.New(dataplane.Config{})), t.TempDir()
	loopback := netip.MustParseAddr("127.0.0.1")
	p, err := n.Plug(t.Context(), server(
		launcher.Publish{HostIP: loopback, GuestPort: 80, Protocol: "tcp"},
		launcher.Publish{HostIP: loopback, GuestPort: 53, Protocol: "udp"}), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Unplug(context.Background(), dir) })
	tcp := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.Published[0].HostPort)))
	udp := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(p.Published[1].HostPort)))
	if _, err := net.Listen("tcp", tcp); err == nil {
		t.Errorf("nobody listens on %s/tcp", tcp)
	}
	if _, err := net.ListenPacket("udp", udp); err == nil {
		t.Errorf("nobody listens on %s/udp", udp)
	}
	_, err = n.Plug(t.Context(), server(p.Published[0]), t.TempDir())
	if !errors.Is(err, launcher.ErrConflict) || !strings.Contains(err.Error(), "in use by passt") {
		t.Errorf("a port that is published: %v", err)
	}
	pid := find(dir)
	if pid == 0 {
		t.Fatal("its process is not found")
	}
	if err := New(nil).Unplug(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if args, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline"); err == nil && len(args) > 0 {
		t.Errorf("process %d is there still: %q", pid, args)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	again, err := net.Listen("tcp", tcp)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}

// Whoever was given the number of a process that is no more is left alone.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "x", "0", "1", "-1", strconv.Itoa(os.Getpid()), "999999999"} {
		if err := os.WriteFile(filepath.Join(dir, pidFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if pid := find(dir); pid != 0 {
			t.Errorf("%q is process %d", text, pid)
		}
	}
}

// It ends with QEMU, whether or not an engine is there.
func TestEndsWithPeer(t *testing.T) {
	n, dir := New(dataplane.New(dataplane.Config{})), t.TempDir()
	p, err := n.Plug(t.Context(), server(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Unplug(context.Background(), dir) })
	conn, err := net.Dial("unix", p.NICs[0].Socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_, _ = bufio.NewReader(conn).ReadByte() // until the other end is gone
	_ = conn.Close()
	for find(dir) != 0 {
		if t.Context().Err() != nil {
			t.Fatal("it goes on")
		}
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("PATH", "")
	if err := New(nil).Ready(t.Context()); !errors.Is(err, launcher.ErrUnavailable) || !strings.Contains(err.Error(), "install Debian's package passt") {
		t.Errorf("without passt: %v", err)
	}
}
