package passt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// Ports tell ports of the host that are free from those that are not.
type Ports interface {
	// Reserve holds ports, and decides those that may be any.
	Reserve(ctx context.Context, ports []launcher.Publish) ([]launcher.Publish, error)
	Release(ports []launcher.Publish) error
}

// Network is the host's.
type Network struct {
	ports Ports
}

// New makes a Network that publishes ports which are free by what ports says.
func New(ports Ports) *Network { return &Network{ports} }

// Files of a server's directory. The names are short as a socket's path must be.
const (
	socketFile = "passt.sock"
	pidFile    = "passt.pid"
)

// mtu is the most that passt takes. Nothing on the way has less: it is sockets.
const mtu = 65520

// Addresses inside. Those of IPv6 are given where the host has a way out by it.
var (
	address4   = netip.MustParsePrefix("10.0.2.15/24")
	gateway4   = netip.MustParseAddr("10.0.2.2")
	resolver   = netip.MustParseAddr("10.0.2.3")
	address6   = netip.MustParsePrefix("fd00:a00:2::15/64")
	gateway6   = netip.MustParseAddr("fd00:a00:2::2")
	elsewhere4 = "192.0.2.1:9"
	elsewhere6 = "[2001:db8::1]:9"
)

// routed reports whether the host has a route out.
func routed(ctx context.Context, network, elsewhere string) bool {
	conn, err := new(net.Dialer).DialContext(ctx, network, elsewhere) // UDP: nothing is sent
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Ready implements launcher.HostUser.
func (*Network) Ready(ctx context.Context) error {
	if _, err := exec.LookPath("passt"); err != nil {
		return launcher.Errorf(launcher.ErrUnavailable, "--network %s needs passt: install Debian's package passt, or use --network %s",
			launcher.NetworkHostUser, launcher.NetworkNone)
	}
	if !routed(ctx, "udp4", elsewhere4) && !routed(ctx, "udp6", elsewhere6) {
		return launcher.Errorf(launcher.ErrUnavailable, "--network %s: this host has no default route, without which passt does not start: use --network %s",
			launcher.NetworkHostUser, launcher.NetworkNone)
	}
	return nil
}

// Allocate implements launcher.HostUser.
func (*Network) Allocate(srv *launcher.Server) launcher.NIC {
	nic := launcher.NIC{NetworkName: launcher.NetworkHostUser, Addresses: []netip.Prefix{address4}}
	if len(srv.Spec.Networks) > 0 {
		nic.MAC, nic.Tag = srv.Spec.Networks[0].MAC, srv.Spec.Networks[0].Tag
	}
	if nic.MAC == "" {
		h := sha256.Sum256([]byte(srv.ID))
		nic.MAC = net.HardwareAddr{0xfa, 0x16, 0x3e, h[0], h[1], h[2]}.String()
	}
	return nic
}

// Plug implements launcher.HostUser.
func (n *Network) Plug(ctx context.Context, srv *launcher.Server, dir string) (*launcher.Plugged, error) {
	if err := n.Ready(ctx); err != nil {
		return nil, err
	}
	if len(srv.NICs) != 1 {
		return nil, fmt.Errorf("server %s has %d interfaces on network %s", srv.Name, len(srv.NICs), launcher.NetworkHostUser)
	}
	if err := n.Unplug(ctx, dir); err != nil {
		return nil, err
	}
	published, err := n.ports.Reserve(ctx, srv.Spec.Publish)
	if err != nil {
		return nil, err
	}
	link := cloudinit.Link{
		Name: "eth0", MAC: srv.NICs[0].MAC, MTU: mtu, Addresses: []netip.Prefix{address4},
		Gateway4: gateway4, Nameservers: []netip.Addr{resolver},
	}
	if routed(ctx, "udp6", elsewhere6) {
		link.Addresses, link.Gateway6 = append(link.Addresses, address6), gateway6
	}
	// What stands between is short: passt takes no sockets that are open.
	if err := n.ports.Release(published); err != nil {
		return nil, err
	}
	if err := start(ctx, arguments(dir, &link, published)); err != nil {
		return nil, errors.Join(err, n.Unplug(ctx, dir))
	}
	return &launcher.Plugged{
		NICs:      []domain.NIC{{MAC: link.MAC, Socket: filepath.Join(dir, socketFile), MTU: mtu}},
		Config:    &cloudinit.NetworkConfig{Links: []cloudinit.Link{link}},
		Published: published,
	}, nil
}

func arguments(dir string, link *cloudinit.Link, published []launcher.Publish) []string {
	args := []string{
		"--quiet", "--one-off", "--socket", filepath.Join(dir, socketFile), "--pid", filepath.Join(dir, pidFile),
		"--mtu", strconv.Itoa(mtu), "--dns-forward", resolver.String(),
		"--address", address4.Addr().String(), "--netmask", strconv.Itoa(address4.Bits()), "--gateway", gateway4.String(),
	}
	if link.Gateway6.IsValid() {
		args = append(args, "--address", address6.Addr().String(), "--gateway", gateway6.String())
	}
	if os.Geteuid() == 0 {
		// Nobody, its default, cannot write where servers are.
		args = append(args, "--runas", "0")
	}
	for _, p := range published {
		option, ip := "--tcp-ports", ""
		if p.Protocol == "udp" {
			option = "--udp-ports"
		}
		if p.HostIP.IsValid() {
			ip = p.HostIP.String() + "/"
		}
		args = append(args, option, fmt.Sprintf("%s%d:%d", ip, p.HostPort, p.GuestPort))
	}
	return args
}

// start runs passt, which goes into the background once it listens.
func start(ctx context.Context, args []string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "passt", args...)
	cmd.Stderr = &said
	// The one in the background may keep what it was given as standard error.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lines := slices.DeleteFunc(strings.Split(said.String(), "\n"), func(l string) bool {
		return strings.TrimSpace(l) == "" || strings.HasSuffix(l, "bytes to syslog")
	})
	return launcher.Errorf(launcher.ErrUnavailable, "passt does not start (%v): %s", err, strings.Join(lines, "; "))
}

// endTime is how long passt may take to end.
const endTime = 5 * time.Second

// Unplug implements launcher.HostUser.
func (*Network) Unplug(ctx context.Context, dir string) error {
	if pid := find(dir); pid != 0 {
		ctx, cancel := context.WithTimeout(ctx, endTime)
		defer cancel()
		if err := launcher.EndProcess(ctx, pid, unix.SIGTERM); err != nil {
			return fmt.Errorf("end passt: %w", err)
		}
	}
	for _, name := range []string{socketFile, pidFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// find returns the process of a server; 0 where it has none. A process that has taken
// over the number is another.
func find(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return 0
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(args, []byte("\x00"+filepath.Join(dir, socketFile)+"\x00")) {
		return 0
	}
	return pid
}
