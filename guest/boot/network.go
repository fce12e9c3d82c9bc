package boot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// interfaceWait is how long an interface may take to appear once its driver is
// there.
const interfaceWait = 5 * time.Second

const interfacesDir = "/sys/class/net"

// setInterfaces sets up the network interfaces that the host has told of.
func setInterfaces(all []share.Interface) error {
	if len(all) == 0 {
		return nil
	}
	// Nobody else has a guest's addresses: the host sees to it.
	err := writeSysctl("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // of a kernel without IPv6
		return err
	}
	links, err := linksByMAC(all)
	if err != nil {
		return err
	}
	if err := rename(all, links); err != nil {
		return err
	}
	for i := range all {
		if err := setInterface(&all[i], links[all[i].MAC]); err != nil {
			return fmt.Errorf("set up interface %s: %w", all[i].Name, err)
		}
	}
	return nil
}

// SetInterfaces implements agent.Control.
func (c *control) SetInterfaces(all []share.Interface) error {
	if err := c.modules.load("virtio_net"); err != nil {
		return err
	}
	return setInterfaces(all)
}

// linksByMAC waits until every interface is there. The kernel's list by netlink would
// tell more than is asked for, at a price where the guest is emulated.
func linksByMAC(all []share.Interface) (map[string]netlink.Link, error) {
	for limit := time.Now().Add(interfaceWait); ; time.Sleep(time.Millisecond) {
		there, err := os.ReadDir(interfacesDir)
		if err != nil {
			return nil, fmt.Errorf("list network interfaces: %w", err)
		}
		links := map[string]netlink.Link{}
		for _, e := range there {
			// One that has just gone or was renamed is none of these.
			if l, err := readLink(e.Name()); err == nil {
				links[l.HardwareAddr.String()] = l
			}
		}
		missing := ""
		for _, i := range all {
			if links[i.MAC] == nil {
				missing = i.MAC
			}
		}
		if missing == "" {
			return links, nil
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("network interface %s has not appeared: the guest kernel may lack virtio_net", missing)
		}
	}
}

// readLink reads what is needed here of an interface.
func readLink(name string) (*netlink.Device, error) {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name}}
	var err error
	if l.HardwareAddr, err = net.ParseMAC(interfaceFact(name, "address")); err != nil {
		return nil, err
	}
	if l.Index, err = strconv.Atoi(interfaceFact(name, "ifindex")); err != nil {
		return nil, err
	}
	if l.MTU, err = strconv.Atoi(interfaceFact(name, "mtu")); err != nil {
		return nil, err
	}
	return l, nil
}

// interfaceFact is empty where the kernel does not tell it.
func interfaceFact(name, file string) string {
	data, _ := os.ReadFile(filepath.Join(interfacesDir, name, file))
	return strings.TrimSpace(string(data))
}

// rename gives interfaces their names, which others of them may have.
func rename(all []share.Interface, links map[string]netlink.Link) error {
	for _, temporary := range []bool{true, false} {
		for i, want := range all {
			l := links[want.MAC]
			if want.Name == "" || l.Attrs().Name == want.Name {
				continue
			}
			name := want.Name
			if temporary {
				name = fmt.Sprintf("rename%d", i)
			}
			if err := netlink.LinkSetName(l, name); err != nil {
				return fmt.Errorf("name interface %s %s: %w", want.MAC, name, err)
			}
			l.Attrs().Name = name
		}
	}
	return nil
}

func setInterface(i *share.Interface, l netlink.Link) error {
	if i.MTU != 0 && i.MTU != l.Attrs().MTU {
		if err := netlink.LinkSetMTU(l, i.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", i.MTU, err)
		}
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return err
	}
	for _, p := range i.Addresses {
		a := &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD}
		err := netlink.AddrAdd(l, a)
		if p.Addr().Is6() && errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	for _, r := range i.Routes {
		err := netlink.RouteReplace(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.To), Gw: r.Via.AsSlice()})
		if r.Via.Is6() && errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("route to %s by %s: %w", r.To, r.Via, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
