package vif

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// Config is what a Plugger works with.
type Config struct {
	// Identity tells this state directory's interfaces by their alias.
	Identity string
	// OVSDB is where Open vSwitch's database is reached, as ovs-vsctl takes it; its own
	// default where empty.
	OVSDB string
}

// Plugger implements network.Plugger.
type Plugger struct{ cfg Config }

// New makes a Plugger.
func New(cfg Config) *Plugger { return &Plugger{cfg} }

func (v *Plugger) alias() string { return "slipway-vif-" + v.cfg.Identity }

// The interfaces of a port, as Neutron's agents name them.
func hybridBridge(port string) string { return "qbr" + port[:11] }
func bridgeEnd(port string) string    { return "qvb" + port[:11] }
func switchEnd(port string) string    { return "qvo" + port[:11] }

// Plug implements network.Plugger.
func (v *Plugger) Plug(ctx context.Context, p network.Port, mtu int) (err error) {
	// What an engine before this one has left is in the way.
	if err := v.Unplug(ctx, p); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Unplug(context.WithoutCancel(ctx), p))
		}
	}()
	tap, err := v.tap(p.Tap, mtu)
	if err != nil {
		return explain(fmt.Errorf("make tap %s: %w", p.Tap, err))
	}
	if p.Bandwidth != (network.Bandwidth{}) {
		if err := limit(p.Tap, p.Bandwidth); err != nil {
			return explain(err)
		}
	}
	switch {
	case p.VIF.Type == network.VIFBridge:
		return explain(v.onBridge(tap, p.VIF.Bridge, mtu))
	case p.VIF.Hybrid:
		if err := v.hybrid(tap, p.ID, mtu); err != nil {
			return explain(err)
		}
		return v.onSwitch(ctx, &p, switchEnd(p.ID), mtu)
	}
	return v.onSwitch(ctx, &p, p.Tap, mtu)
}

// Unplug implements network.Plugger.
func (v *Plugger) Unplug(ctx context.Context, p network.Port) error {
	var errs []error
	if p.Bandwidth != (network.Bandwidth{}) {
		errs = append(errs, limit(p.Tap, network.Bandwidth{}))
	}
	names := []string{p.Tap}
	if p.VIF.Type == network.VIFOVS {
		end := p.Tap
		if p.VIF.Hybrid {
			end = switchEnd(p.ID)
			names = append(names, end, bridgeEnd(p.ID), hybridBridge(p.ID))
		}
		if there(end) {
			errs = append(errs, v.vsctl(ctx, "--if-exists", "del-port", p.VIF.Bridge, end))
		}
	}
	for _, name := range names {
		errs = append(errs, remove(name))
	}
	if p.VIF.Type == network.VIFBridge {
		errs = append(errs, v.removeEmpty(p.VIF.Bridge))
	}
	return errors.Join(errs...)
}

func there(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// remove removes an interface. One that is not there is no error.
func remove(name string) error {
	l, err := find(name)
	if err != nil || l == nil {
		return err
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// find returns an interface, or nil where there is none.
func find(name string) (netlink.Link, error) {
	l, err := netlink.LinkByName(name)
	var none netlink.LinkNotFoundError
	if errors.As(err, &none) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find interface %s: %w", name, err)
	}
	return l, nil
}

// add makes an interface that is ours, with an MTU, and brings it up.
func (v *Plugger) add(l netlink.Link, mtu int) (netlink.Link, error) {
	if err := netlink.LinkAdd(l); err != nil {
		return nil, err
	}
	made, err := netlink.LinkByName(l.Attrs().Name)
	if err != nil {
		return nil, err
	}
	return made, v.bringUp(made, mtu)
}

func (v *Plugger) bringUp(l netlink.Link, mtu int) error {
	if err := netlink.LinkSetAlias(l, v.alias()); err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return err
	}
	// The host itself has no business there.
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+l.Attrs().Name+"/disable_ipv6", []byte("1"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // of a kernel without IPv6
		return err
	}
	return netlink.LinkSetUp(l)
}

func attributes(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func (v *Plugger) tap(name string, mtu int) (netlink.Link, error) {
	return v.add(&netlink.Tuntap{
		LinkAttrs: attributes(name), Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
	}, mtu)
}

// onBridge joins a tap to a network's bridge, which is made where Neutron's agent has
// not made it yet.
func (v *Plugger) onBridge(tap netlink.Link, name string, mtu int) error {
	bridge, err := v.bridge(name, mtu)
	if err != nil {
		return fmt.Errorf("make bridge %s: %w", name, err)
	}
	if err := netlink.LinkSetMasterByIndex(tap, bridge.Attrs().Index); err != nil {
		return fmt.Errorf("join tap %s to bridge %s: %w", tap.Attrs().Name, name, err)
	}
	return nil
}

func (v *Plugger) bridge(name string, mtu int) (netlink.Link, error) {
	l, err := find(name)
	if err != nil || l != nil {
		return l, err
	}
	snooping := false
	l, err = v.add(&netlink.Bridge{LinkAttrs: attributes(name), MulticastSnooping: &snooping}, mtu)
	if errors.Is(err, unix.EEXIST) {
		return find(name) // the agent was faster
	}
	return l, err
}

// removeEmpty removes a bridge of ours that nothing is joined to any more.
func (v *Plugger) removeEmpty(name string) error {
	l, err := find(name)
	if err != nil || l == nil || l.Attrs().Alias != v.alias() {
		return err
	}
	ports, err := os.ReadDir("/sys/class/net/" + name + "/brif")
	if err != nil || len(ports) > 0 {
		return err
	}
	return remove(name)
}

// hybrid leads from a tap by a bridge of its own to an end that Open vSwitch takes.
func (v *Plugger) hybrid(tap netlink.Link, port string, mtu int) error {
	pair := &netlink.Veth{LinkAttrs: attributes(bridgeEnd(port)), PeerName: switchEnd(port)}
	end, err := v.add(pair, mtu)
	if err != nil {
		return fmt.Errorf("make interfaces %s and %s: %w", bridgeEnd(port), switchEnd(port), err)
	}
	other, err := netlink.LinkByName(switchEnd(port))
	if err != nil {
		return err
	}
	if err := v.bringUp(other, mtu); err != nil {
		return fmt.Errorf("make interface %s: %w", switchEnd(port), err)
	}
	return errors.Join(v.onBridge(tap, hybridBridge(port), mtu), v.onBridge(end, hybridBridge(port), mtu))
}

// explain says of an error that the host's own limits cause what to do.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return launcher.Errorf(launcher.ErrUnavailable, "this host does not allow networks of servers: %v", err)
	}
	return err
}

// message is what a command said.
func message(out []byte) string { return strings.TrimSpace(string(out)) }
