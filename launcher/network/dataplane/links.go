package dataplane

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// alias marks the interfaces of a state directory, beside their names.
func (p *Plane) alias() string { return "slipway-" + p.cfg.Identity }

// ours returns the interfaces of this state directory by name.
func (p *Plane) ours() (map[string]netlink.Link, error) {
	all, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	found := map[string]netlink.Link{}
	for _, l := range all {
		if l.Attrs().Alias == p.alias() {
			found[l.Attrs().Name] = l
		}
	}
	return found, nil
}

// links makes the bridges and taps of a state and removes all others of ours.
func (p *Plane) links(st *network.State) error {
	there, err := p.ours()
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	var errs []error
	bridges := map[string]int{}
	for i := range st.Bridges {
		b := &st.Bridges[i]
		keep[b.Name] = true
		l, err := p.bridge(there[b.Name], b)
		if err != nil {
			errs = append(errs, fmt.Errorf("make bridge %s of network %s: %w", b.Name, b.Network.Name, err))
			continue
		}
		bridges[b.Name] = l.Attrs().Index
		errs = append(errs, proxyNeighbours(l, st, b))
	}
	for i := range st.Taps {
		t := &st.Taps[i]
		keep[t.Port.Tap] = true
		if err := p.tap(there[t.Port.Tap], t, bridges[t.Bridge]); err != nil {
			errs = append(errs, fmt.Errorf("make tap %s: %w", t.Port.Tap, err))
		}
	}
	for _, s := range st.Spares {
		keep[s.Tap] = true
		if _, err := p.makeTap(there[s.Tap], s.Tap, s.MTU); err != nil {
			errs = append(errs, fmt.Errorf("make tap %s: %w", s.Tap, err))
		}
	}
	for name, l := range there {
		if !keep[name] {
			if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, fmt.Errorf("remove interface %s: %w", name, err))
			}
		}
	}
	errs = append(errs, p.floating(st))
	return errors.Join(errs...)
}

// macOf is the MAC of a bridge. One that was not given any takes the lowest of those that
// have joined it, and with each that comes or goes servers may have noted the wrong one.
func macOf(bridge string) net.HardwareAddr {
	mac := sha256.Sum256([]byte(bridge))
	mac[0] = mac[0]&^1 | 2 // of one interface, and assigned by nobody
	return mac[:6]
}

// bridge makes a network's bridge, or corrects one that is there.
func (p *Plane) bridge(l netlink.Link, b *network.Bridge) (netlink.Link, error) {
	if l == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = b.Name, macOf(b.Name)
		snooping := false
		made := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}
		if err := netlink.LinkAdd(made); err != nil {
			return nil, err
		}
		var err error
		if l, err = netlink.LinkByName(b.Name); err != nil {
			return nil, err
		}
		if err := netlink.LinkSetAlias(l, p.alias()); err != nil {
			return nil, errors.Join(err, netlink.LinkDel(l))
		}
		if err := bridgeSettings(b.Name); err != nil {
			return nil, errors.Join(err, netlink.LinkDel(l))
		}
	}
	if l.Attrs().MTU != b.MTU {
		if err := netlink.LinkSetMTU(l, b.MTU); err != nil {
			return nil, err
		}
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		if err := netlink.LinkSetUp(l); err != nil {
			return nil, err
		}
	}
	want := slices.Clone(b.Gateways)
	want = append(want, netip.PrefixFrom(metadata6, 128))
	return l, setAddresses(l, want)
}

// setAddresses gives an interface addresses and takes all others, but its own
// link-local ones.
func setAddresses(l netlink.Link, want []netip.Prefix) error {
	there, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	have := map[netip.Prefix]bool{}
	for _, a := range there {
		prefix, _ := netipx.FromStdIPNet(a.IPNet)
		ip, _ := netipx.FromStdIP(a.IP)
		prefix = netip.PrefixFrom(ip, prefix.Bits())
		if slices.Contains(want, prefix) {
			have[prefix] = true
		} else if !ip.IsLinkLocalUnicast() || ip.Is4() {
			if err := netlink.AddrDel(l, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
				return err
			}
		}
	}
	for _, prefix := range want {
		if have[prefix] {
			continue
		}
		a := &netlink.Addr{IPNet: netipx.PrefixIPNet(prefix), Flags: unix.IFA_F_NODAD}
		a.IPNet.IP = prefix.Addr().AsSlice()
		if err := netlink.AddrAdd(l, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	return nil
}

// proxyNeighbours answers for the IPv6 addresses of a network's servers. (For IPv4
// a bridge's setting does, whatever the addresses.)
func proxyNeighbours(bridge netlink.Link, st *network.State, b *network.Bridge) error {
	index := bridge.Attrs().Index
	there, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighProxyList(index, netlink.FAMILY_V6) })
	if err != nil {
		return fmt.Errorf("list what bridge %s answers for: %w", b.Name, err)
	}
	want := map[netip.Addr]bool{}
	for i := range st.Taps {
		for _, a := range st.Taps[i].Addresses {
			if st.Taps[i].Bridge == b.Name && a.Is6() {
				want[a] = true
			}
		}
	}
	for _, n := range there {
		a, _ := netipx.FromStdIP(n.IP)
		if want[a] {
			delete(want, a)
		} else if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("bridge %s: answer for %s no more: %w", b.Name, a, err)
		}
	}
	for a := range want {
		n := &netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V6, Flags: netlink.NTF_PROXY, IP: a.AsSlice()}
		if err := netlink.NeighSet(n); err != nil {
			return fmt.Errorf("bridge %s: answer for %s: %w", b.Name, a, err)
		}
	}
	return nil
}

// tap makes a port's tap on a bridge, or corrects one that is there.
func (p *Plane) tap(l netlink.Link, t *network.Tap, bridge int) error {
	l, err := p.makeTap(l, t.Port.Tap, t.MTU)
	if err != nil {
		return err
	}
	if bridge != 0 && l.Attrs().MasterIndex != bridge {
		if err := netlink.LinkSetMasterByIndex(l, bridge); err != nil {
			return err
		}
	}
	if err := netlink.LinkSetIsolated(l, !t.NoPortSecurity); err != nil {
		return err
	}
	if err := setInbound(l, t.Bandwidth.Inbound); err != nil {
		return err
	}
	if l.Attrs().Flags&net.FlagUp == 0 {
		return netlink.LinkSetUp(l)
	}
	return nil
}

// makeTap makes a tap that is down and on no bridge, or corrects the MTU of one that is
// there.
func (p *Plane) makeTap(l netlink.Link, name string, mtu int) (netlink.Link, error) {
	if l == nil {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		made := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
		if err := netlink.LinkAdd(made); err != nil {
			return nil, err
		}
		var err error
		if l, err = netlink.LinkByName(name); err != nil {
			return nil, err
		}
		if err := errors.Join(netlink.LinkSetAlias(l, p.alias()), tapSettings(name)); err != nil {
			return nil, errors.Join(err, netlink.LinkDel(l))
		}
	}
	if l.Attrs().MTU == mtu {
		return l, nil
	}
	return l, netlink.LinkSetMTU(l, mtu)
}

// floating gives the host the floating IPs, on its loopback interface: it answers
// for them wherever it is asked.
func (p *Plane) floating(st *network.State) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	there, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(lo, netlink.FAMILY_ALL) })
	if err != nil {
		return err
	}
	// The label tells them from addresses that others have put there.
	label := "lo:" + p.cfg.Identity[:5]
	want := map[netip.Addr]bool{}
	for _, f := range st.Floating {
		if f.IP.Is4() {
			want[f.IP] = true
		}
	}
	for _, a := range there {
		ip, _ := netipx.FromStdIP(a.IP)
		if a.Label != label {
			continue
		}
		if want[ip] {
			delete(want, ip)
		} else if err := netlink.AddrDel(lo, &a); err != nil {
			return fmt.Errorf("let floating IP %s go: %w", ip, err)
		}
	}
	for ip := range want {
		a := &netlink.Addr{IPNet: netipx.PrefixIPNet(netip.PrefixFrom(ip, 32)), Label: label}
		if err := netlink.AddrAdd(lo, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("have floating IP %s: %w", ip, err)
		}
	}
	return nil
}

// HostPrefixes returns what this host has routes to, the default route aside.
func HostPrefixes() ([]netip.Prefix, error) {
	routes, err := dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var all []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p, ok := netipx.FromStdIPNet(r.Dst); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// explain says of an error that the host's own limits cause what to do.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EROFS) {
		return launcher.Errorf(launcher.ErrUnavailable, "this host does not allow networks of servers: %v; boot with --network none", err)
	}
	return err
}
