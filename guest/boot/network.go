package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// interfaceWait is how long an interface may take to appear once its driver is
// there.
const interfaceWait = 5 * time.Second

const interfacesDir = "/sys/class/net"

// link is a network interface of the guest.
type link struct {
	name  string
	index int
}

// setNetwork raises the loopback, by which the kernel gives it its addresses, and
// sets up the interfaces that the host has told of.
func setNetwork(all []share.Interface) error {
	n, err := openRTNetlink()
	if err != nil {
		return err
	}
	defer n.close()
	if err := n.raise(link{"lo", 1}); err != nil {
		return fmt.Errorf("raise the loopback: %w", err)
	}
	return setInterfaces(n, all)
}

func setInterfaces(n *rtnetlink, all []share.Interface) error {
	if len(all) == 0 {
		return nil
	}
	// Nobody else has a guest's addresses: the host sees to it.
	err := writeSysctl("/proc/sys/net/ipv6/conf/default/accept_dad", "0")
	if err != nil && !errors.Is(err, os.ErrNotExist) { // of a kernel without IPv6
		return err
	}
	links, err := findLinks(n, all)
	if err != nil {
		return err
	}
	for i := range all {
		if err := setInterface(n, &all[i], links[i]); err != nil {
			return fmt.Errorf("set up interface %s: %w", all[i].Name, err)
		}
	}
	return nil
}

func setInterface(n *rtnetlink, i *share.Interface, l link) error {
	if i.MTU != 0 {
		if err := n.setLink(l, "", i.MTU); err != nil {
			return fmt.Errorf("set MTU %d: %w", i.MTU, err)
		}
	}
	if err := n.raise(l); err != nil {
		return err
	}
	for _, p := range i.Addresses {
		err := n.addAddress(l, p)
		if p.Addr().Is6() && errors.Is(err, unix.EOPNOTSUPP) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("address %s: %w", p, err)
		}
	}
	for _, r := range i.Routes {
		err := n.addRoute(l, r)
		if r.Via.Is6() && errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return fmt.Errorf("route to %s by %s: %w", r.To, r.Via, err)
		}
	}
	return nil
}

// SetInterfaces implements agent.Control.
func (c *control) SetInterfaces(all []share.Interface) error {
	if err := c.modules.load("virtio_net"); err != nil {
		return err
	}
	n, err := openRTNetlink()
	if err != nil {
		return err
	}
	defer n.close()
	return setInterfaces(n, all)
}

// findLinks waits until every interface is there, and gives it its name.
func findLinks(n *rtnetlink, all []share.Interface) ([]link, error) {
	for limit := time.Now().Add(interfaceWait); ; time.Sleep(time.Millisecond) {
		if links := linksByName(all); links != nil {
			return links, nil
		}
		links, err := linksByMAC()
		if err != nil {
			return nil, err
		}
		missing := ""
		for _, i := range all {
			if _, ok := links[i.MAC]; !ok {
				missing = i.MAC
			}
		}
		if missing == "" {
			return rename(n, all, links)
		}
		if time.Now().After(limit) {
			return nil, fmt.Errorf("network interface %s has not appeared: the guest kernel may lack virtio_net", missing)
		}
	}
}

// linksByName is for interfaces that have their names already, as most do: it
// returns nil for others.
func linksByName(all []share.Interface) []link {
	links := make([]link, len(all))
	for n, i := range all {
		if i.Name == "" || interfaceFact(i.Name, "address") != i.MAC {
			return nil
		}
		index, err := strconv.Atoi(interfaceFact(i.Name, "ifindex"))
		if err != nil {
			return nil
		}
		links[n] = link{i.Name, index}
	}
	return links
}

// linksByMAC lists the interfaces.
func linksByMAC() (map[string]link, error) {
	there, err := os.ReadDir(interfacesDir)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	links := map[string]link{}
	for _, e := range there {
		// One that has just gone or was renamed is none that is looked for.
		if index, err := strconv.Atoi(interfaceFact(e.Name(), "ifindex")); err == nil {
			links[interfaceFact(e.Name(), "address")] = link{e.Name(), index}
		}
	}
	return links, nil
}

// interfaceFact is empty where the kernel does not tell it.
func interfaceFact(name, file string) string {
	data, _ := os.ReadFile(filepath.Join(interfacesDir, name, file))
	return strings.TrimSpace(string(data))
}

// rename gives interfaces their names, which others of them may have.
func rename(n *rtnetlink, all []share.Interface, there map[string]link) ([]link, error) {
	links := make([]link, len(all))
	for _, temporary := range []bool{true, false} {
		for i, want := range all {
			l := there[want.MAC]
			links[i] = l
			if want.Name == "" || l.name == want.Name {
				continue
			}
			name := want.Name
			if temporary {
				name = fmt.Sprintf("rename%d", i)
			}
			if err := n.setLink(l, name, 0); err != nil {
				return nil, fmt.Errorf("name interface %s %s: %w", want.MAC, name, err)
			}
		}
	}
	return links, nil
}
