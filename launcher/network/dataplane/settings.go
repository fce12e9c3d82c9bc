package dataplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher/network"
)

const sysctls = "/proc/sys/net"

// write sets a sysctl. One of a kernel without IPv6 is no error.
func write(name, value string) error {
	err := os.WriteFile(filepath.Join(sysctls, name), []byte(value), 0)
	if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(name, "ipv6/") {
		return nil
	}
	return err
}

func read(name string) string {
	b, _ := os.ReadFile(filepath.Join(sysctls, name))
	return strings.TrimSpace(string(b))
}

// bridgeSettings makes the host answer for all servers of a bridge, at once, and
// learn nothing there.
func bridgeSettings(name string) error {
	for _, s := range [][2]string{
		{"ipv4/conf/" + name + "/proxy_arp_pvlan", "1"},
		{"ipv4/neigh/" + name + "/proxy_delay", "0"},
		{"ipv4/conf/" + name + "/send_redirects", "0"},
		{"ipv4/conf/" + name + "/accept_redirects", "0"},
		{"ipv6/conf/" + name + "/disable_ipv6", "0"},
		{"ipv6/conf/" + name + "/accept_ra", "0"},
		{"ipv6/conf/" + name + "/accept_dad", "0"},
		{"ipv6/conf/" + name + "/accept_redirects", "0"},
		{"ipv6/conf/" + name + "/proxy_ndp", "1"},
		{"ipv6/neigh/" + name + "/proxy_delay", "0"},
	} {
		if err := write(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// tapSettings keeps the host itself off a tap.
func tapSettings(name string) error { return write("ipv6/conf/"+name+"/disable_ipv6", "1") }

// forward makes this host route, which it goes on doing.
func (p *Plane) forward() error {
	if p.forwards {
		return nil
	}
	if read("ipv4/ip_forward") != "1" {
		if err := write("ipv4/ip_forward", "1"); err != nil {
			return fmt.Errorf("let this host route IPv4: %w", err)
		}
		p.log.Warn("this host routes now", "sysctl", "net.ipv4.ip_forward=1")
	}
	if v := read("ipv6/conf/all/forwarding"); v == "0" {
		if err := p.forward6(); err != nil {
			return fmt.Errorf("let this host route IPv6: %w", err)
		}
	}
	p.forwards = true
	return nil
}

// forward6 keeps interfaces that learn from routers doing so, which routers
// themselves do not by default.
func (p *Plane) forward6() error {
	files, err := filepath.Glob(filepath.Join(sysctls, "ipv6/conf/*/accept_ra"))
	if err != nil {
		return err
	}
	for _, f := range files {
		name := strings.TrimPrefix(f, sysctls+"/")
		if read(name) == "1" && filepath.Base(filepath.Dir(f)) != "all" {
			if err := write(name, "2"); err != nil {
				return err
			}
		}
	}
	if err := write("ipv6/conf/all/forwarding", "1"); err != nil {
		return err
	}
	p.log.Warn("this host routes now", "sysctl", "net.ipv6.conf.all.forwarding=1")
	return nil
}

// latency is how long a packet may wait for its turn, in milliseconds.
const latency = 50

// setInbound shapes what goes to a tap. An average of 0 is any rate.
func setInbound(l netlink.Link, r network.Rate) error {
	there, err := dump(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(l) })
	if err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	var shaped netlink.Qdisc
	for _, q := range there {
		if q.Type() == "tbf" {
			shaped = q
		}
	}
	if r.Average == 0 {
		if shaped == nil {
			return nil
		}
		return netlink.QdiscDel(shaped)
	}
	rate := uint64(r.Average) << 10
	room := uint32(max(burst, r.Burst<<10))
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Buffer: ticks(room, rate), Limit: uint32(rate*latency/1000) + room,
	}
	if peak := uint64(r.Peak) << 10; peak > rate {
		q.Peakrate, q.Minburst = peak, burst
	}
	if err := netlink.QdiscReplace(q); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("bound what %s receives: %w", l.Attrs().Name, err)
	}
	return nil
}

// ticks is how long a burst takes at a rate, in the kernel's unit of 64 ns.
func ticks(bytes uint32, rate uint64) uint32 {
	return uint32(uint64(bytes) * 1e9 / rate >> 6)
}
