package responder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/metadata"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/network/dhcp"
	"github.com/slipway-vm/slipway/launcher/network/dns"
)

// Networks are the records that answers come from. [network.Service] is.
type Networks interface {
	Ports(pass func(network.Port) bool) []network.Port
	PortsOf(device string) []network.Port
	Group(id string) (network.SecurityGroup, error)
	FloatingIPs(pass func(network.FloatingIP) bool) []network.FloatingIP
	// ConfigOf is what a server's guest is told of its networks.
	ConfigOf(server string) *cloudinit.NetworkConfig
}

// Servers are those that ask. [launcher.Manager] is.
type Servers interface {
	Server(ref string) (launcher.Server, error)
	Seed(ref string) (*cloudinit.Seed, error)
	Update(ctx context.Context, id string, change func(*launcher.Server) error) (launcher.Server, error)
}

// Config is what a Responder stands on.
type Config struct {
	// Networks returns the records, once there is a bridge.
	Networks func() Networks
	// MetadataPort is where the bridges lead to who asks 169.254.169.254.
	MetadataPort uint16
	Upstream     func() []string // resolvers, "address:port"
	Log          *slog.Logger    // nil discards
}

// Responder answers on the bridges that it is told of. It implements
// [network.Responder].
type Responder struct {
	cfg     Config
	servers atomic.Pointer[Servers] // nil until Connect

	mu      sync.Mutex
	bridges map[string]*bridge // by name
}

// New makes a Responder, which answers nowhere yet.
func New(cfg Config) *Responder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Upstream == nil {
		cfg.Upstream = func() []string { return nil }
	}
	return &Responder{cfg: cfg, bridges: map[string]*bridge{}}
}

// Connect tells whose metadata it is. Before, who asks for it is told to come again.
func (r *Responder) Connect(s Servers) { r.servers.Store(&s) }

// bridge is one of them, and what answers there.
type bridge struct {
	*Responder
	at     network.Bridge
	index  int  // of the interface: sockets do not follow to another of the name
	failed bool // something could not be had

	closers []func() error
	serving sync.WaitGroup
}

// Up implements network.Responder.
func (r *Responder) Up(at network.Bridge) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	link, err := net.InterfaceByName(at.Name)
	if err != nil {
		return fmt.Errorf("answer on bridge %s: %w", at.Name, err)
	}
	if b := r.bridges[at.Name]; b != nil {
		if b.index == link.Index && !b.failed && b.alike(at) {
			return nil
		}
		b.close()
	}
	b := &bridge{Responder: r, at: at, index: link.Index}
	r.bridges[at.Name] = b
	// One that cannot be had is no reason to do without the others.
	err = errors.Join(b.metadata(), b.dns(), b.dhcp())
	b.failed = err != nil
	return err
}

// alike reports whether servers are told the same in another state of the bridge.
func (b *bridge) alike(at network.Bridge) bool {
	return slices.EqualFunc(b.at.Subnets, at.Subnets, same) && b.at.Network.DNSDomain == at.Network.DNSDomain && b.at.MTU == at.MTU
}

// same reports whether two states of a subnet are answered alike.
func same(a, b network.Subnet) bool { return a.ID == b.ID && a.Revision == b.Revision }

// Down implements network.Responder.
func (r *Responder) Down(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.bridges[name]; b != nil {
		b.close()
		delete(r.bridges, name)
	}
}

func (b *bridge) close() {
	for _, f := range b.closers {
		if err := f(); err != nil {
			b.cfg.Log.Warn("an answering socket did not close well", "bridge", b.at.Name, "err", err)
		}
	}
	b.serving.Wait()
}

// serve runs what answers until it is closed.
func (b *bridge) serve(what string, closer, f func() error) {
	b.closers = append(b.closers, closer)
	b.serving.Go(func() {
		if err := f(); err != nil {
			b.cfg.Log.Error("servers of a network are not answered any more", "what", what, "bridge", b.at.Name, "err", err)
		}
	})
}

// The limits of the metadata service of one bridge.
const (
	maxRequests = 256
	requestTime = 10 * time.Second
)

func (b *bridge) metadata() error {
	if b.cfg.MetadataPort == 0 {
		return nil
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), b.at.Name) })
		return errors.Join(cerr, err)
	}}
	l, err := lc.Listen(context.Background(), "tcp", ":"+strconv.Itoa(int(b.cfg.MetadataPort)))
	if err != nil {
		return fmt.Errorf("metadata service on %s: %w", b.at.Name, err)
	}
	server := &http.Server{
		Handler:     metadata.New(source{b}, b.cfg.Log),
		ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: requestTime, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug),
	}
	b.serve("metadata", server.Close, func() error {
		if err := server.Serve(netutil.LimitListener(l, maxRequests)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (b *bridge) dns() error {
	var at []netip.AddrPort
	for _, g := range b.at.Gateways {
		at = append(at, netip.AddrPortFrom(g.Addr(), 53))
	}
	if len(at) == 0 {
		return nil
	}
	s, err := dns.Listen(context.Background(), dns.Config{
		Interface: b.at.Name, Listen: at, Domain: b.domain(), Records: names{b}, Upstream: b.cfg.Upstream, Log: b.cfg.Log,
	})
	if err != nil {
		return err
	}
	b.serve("DNS", s.Close, s.Serve)
	return nil
}

func (b *bridge) domain() string {
	if d := b.at.Network.DNSDomain; d != "" {
		return d
	}
	return network.DefaultDomain
}

// gateway is the bridge's own IPv4 address in a subnet with DHCP, if there is one.
func (b *bridge) gateway() netip.Addr {
	for _, s := range b.at.Subnets {
		if s.Version() == 4 && !s.NoDHCP && s.Gateway.IsValid() {
			return s.Gateway
		}
	}
	return netip.Addr{}
}

func (b *bridge) dhcp() error {
	address := b.gateway()
	if !address.IsValid() {
		return nil
	}
	s, err := dhcp.Listen(dhcp.Config{Interface: b.at.Name, Address: address, Lease: b.lease, Log: b.cfg.Log})
	if err != nil {
		return err
	}
	b.serve("DHCP", s.Close, s.Serve)
	return nil
}

// lease is what the port with a MAC has been assigned.
func (b *bridge) lease(mac net.HardwareAddr) (dhcp.Lease, bool) {
	ports := b.ports(func(p network.Port) bool { return p.MAC == mac.String() })
	if len(ports) == 0 {
		return dhcp.Lease{}, false
	}
	for _, f := range ports[0].FixedIPs {
		i := slices.IndexFunc(b.at.Subnets, func(s network.Subnet) bool { return s.ID == f.Subnet && s.Version() == 4 && !s.NoDHCP })
		if i < 0 {
			continue
		}
		s := b.at.Subnets[i]
		l := dhcp.Lease{
			Address: netip.PrefixFrom(f.IP, s.CIDR.Bits()), Gateway: s.Gateway, MTU: b.at.MTU,
			Hostname: ports[0].DNSName, Domain: b.domain(), Nameservers: s.Nameservers,
		}
		if len(l.Nameservers) == 0 {
			l.Nameservers = []netip.Addr{b.gateway()}
		}
		for _, r := range s.Routes {
			l.Routes = append(l.Routes, dhcp.Route{To: r.Destination, Via: r.NextHop})
		}
		l.Routes = append(l.Routes, dhcp.Route{To: netip.PrefixFrom(netip.MustParseAddr(metadata.Address), 32), Via: b.gateway()})
		return l, true
	}
	return dhcp.Lease{}, false
}

// ports are those of the network that pass.
func (b *bridge) ports(pass func(network.Port) bool) []network.Port {
	return b.cfg.Networks().Ports(func(p network.Port) bool { return p.Network == b.at.Network.ID && pass(p) })
}
