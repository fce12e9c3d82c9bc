package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/share"
)

// link is an interface as PID 1 will set it up, and what was set meanwhile.
type link struct {
	share.Interface
	device netlink.Link
	leased *nclient4.Lease // nil: by nobody
}

type links []link

// resolver is what becomes resolv.conf.
type resolver struct{ servers, search []string }

// setUp finds addresses for every network card: those of the configuration, or those
// that DHCP gives. It sets them, so that the metadata service can be asked.
func setUp(ctx context.Context, config *cloudinit.NetworkConfig) (all links, names resolver, err error) {
	there, err := netlink.LinkList()
	// An interface that appears meanwhile interrupts the list.
	for errors.Is(err, netlink.ErrDumpInterrupted) {
		there, err = netlink.LinkList()
	}
	if err != nil {
		return nil, names, err
	}
	var errs []error
	for _, l := range there {
		a := l.Attrs()
		if l.Type() != "device" || a.Flags&net.FlagLoopback != 0 || len(a.HardwareAddr) != 6 {
			continue
		}
		i := link{Interface: share.Interface{Name: a.Name, MAC: a.HardwareAddr.String()}, device: l}
		want, told := configured(config, i.MAC)
		if told {
			i.take(want, &names)
		}
		if !told || want.DHCP4 {
			if err := i.lease(ctx, &names); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", a.Name, err))
			}
		}
		if err := i.set(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.Name, err))
		}
		all = append(all, i)
	}
	return all, names, errors.Join(errs...)
}

// configured finds a card in the configuration. A configuration that has no cards
// says nothing.
func configured(config *cloudinit.NetworkConfig, mac string) (cloudinit.Link, bool) {
	if config == nil || len(config.Links) == 0 {
		return cloudinit.Link{}, false
	}
	for _, l := range config.Links {
		if hw, err := net.ParseMAC(l.MAC); err == nil && hw.String() == mac {
			return l, true
		}
	}
	return cloudinit.Link{}, true // it is to have no addresses
}

func (i *link) take(want cloudinit.Link, names *resolver) {
	i.MTU, i.Addresses = want.MTU, want.Addresses
	for _, r := range want.AllRoutes() {
		i.Routes = append(i.Routes, share.Route{To: r.To, Via: r.Via})
	}
	for _, a := range want.Nameservers {
		names.servers = append(names.servers, a.String())
	}
	names.search = append(names.search, want.Search...)
}

// The patience with a DHCP server.
const (
	leaseTries = 4
	leaseWait  = 2 * time.Second
)

// lease asks for an address by DHCP.
func (i *link) lease(ctx context.Context, names *resolver) error {
	if err := netlink.LinkSetUp(i.device); err != nil {
		return err
	}
	client, err := i.client()
	if err != nil {
		return err
	}
	defer client.Close()
	lease, err := client.Request(ctx, requested)
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	i.leased = lease
	i.grant(lease.ACK, names)
	return nil
}

// requested is what is asked for besides an address.
var requested = dhcpv4.WithRequestedOptions(dhcpv4.OptionInterfaceMTU, dhcpv4.OptionDomainName, dhcpv4.OptionClasslessStaticRoute)

func (i *link) client() (*nclient4.Client, error) {
	// Has the library draw transaction IDs, which are no secret, from /dev/urandom. Else
	// it asks without end for numbers that a machine without a source of them has not.
	if err := os.Setenv("UROOT_NOHWRNG", "1"); err != nil {
		return nil, err
	}
	client, err := nclient4.New(i.Name, nclient4.WithTimeout(leaseWait), nclient4.WithRetry(leaseTries))
	if err != nil {
		return nil, fmt.Errorf("DHCP: %w", err)
	}
	return client, nil
}

// grant takes what a DHCP server has answered.
func (i *link) grant(ack *dhcpv4.DHCPv4, names *resolver) {
	address, _ := netip.AddrFromSlice(ack.YourIPAddr.To4())
	bits, _ := ack.SubnetMask().Size()
	i.Addresses = append(i.Addresses, netip.PrefixFrom(address, bits))
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && i.MTU == 0 {
		i.MTU = int(mtu)
	}
	// RFC 3442: these routes stand in for the routers.
	if routes := ack.ClasslessStaticRoute(); len(routes) > 0 {
		for _, r := range routes {
			to, _ := netip.AddrFromSlice(r.Dest.IP.To4())
			ones, _ := r.Dest.Mask.Size()
			via, ok := netip.AddrFromSlice(r.Router.To4())
			if ok && !via.IsUnspecified() {
				i.Routes = append(i.Routes, share.Route{To: netip.PrefixFrom(to, ones), Via: via})
			}
		}
	} else if routers := ack.Router(); len(routers) > 0 {
		via, _ := netip.AddrFromSlice(routers[0].To4())
		i.Routes = append(i.Routes, share.Route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: via})
	}
	for _, ip := range ack.DNS() {
		names.servers = append(names.servers, ip.String())
	}
	if domain := ack.DomainName(); domain != "" {
		names.search = append(names.search, domain)
	}
}

func (i *link) set() error {
	if len(i.Addresses) == 0 {
		return nil
	}
	if err := netlink.LinkSetUp(i.device); err != nil {
		return err
	}
	for _, p := range i.Addresses {
		if err := netlink.AddrAdd(i.device, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	for _, r := range i.Routes {
		err := netlink.RouteReplace(&netlink.Route{LinkIndex: i.device.Attrs().Index, Dst: ipNet(r.To), Gw: r.Via.AsSlice()})
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("route to %s: %w", r.To, err)
		}
	}
	return nil
}

// tearDown leaves the cards as they were found: PID 1 sets them up for good.
func (all links) tearDown() {
	for _, i := range all {
		for _, p := range i.Addresses {
			_ = netlink.AddrDel(i.device, &netlink.Addr{IPNet: ipNet(p)})
		}
		_ = netlink.LinkSetDown(i.device)
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
