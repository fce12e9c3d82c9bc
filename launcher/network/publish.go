package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Published is what of a server is published, while it runs.
type Published struct {
	Server string             `json:"server"` // ID
	Name   string             `json:"name"`   // of the server, for messages
	Ports  []launcher.Publish `json:"ports"`
}

// PublishedOf returns what of a server is published now.
func (s *Service) PublishedOf(server string) []launcher.Publish {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.published.Rows[server].Ports)
}

// setPublished replaces what of a server is published. A port of the host that
// another server has is refused. Ports of 0 and ranges must have been decided.
func (s *Service) setPublished(ctx context.Context, p Published) error {
	return s.commit(ctx, func(tx *records.Tx) error {
		if len(p.Ports) == 0 {
			records.Drop(tx, &s.published, p.Server)
			return nil
		}
		if err := s.checkPublished(p); err != nil {
			return err
		}
		return records.Put(tx, &s.published, p.Server, p)
	})
}

func (s *Service) checkPublished(p Published) error {
	type key struct {
		port     uint16
		protocol string
	}
	type holder struct {
		ip     netip.Addr
		server string
	}
	held := map[key][]holder{}
	for _, o := range s.published.Rows {
		if o.Server == p.Server {
			continue
		}
		for _, port := range o.Ports {
			k := key{port.HostPort, port.Protocol}
			held[k] = append(held[k], holder{port.HostIP, o.Name})
		}
	}
	for _, port := range p.Ports {
		k := key{port.HostPort, port.Protocol}
		for _, h := range held[k] {
			if !h.ip.IsValid() || !port.HostIP.IsValid() || h.ip == port.HostIP {
				return conflict("port %d/%s of the host is published by server %s already: choose another (--publish PORT:%d), or unpublish it there", port.HostPort, port.Protocol, h.server, port.GuestPort)
			}
		}
		held[k] = append(held[k], holder{port.HostIP, p.Name})
	}
	return nil
}

// ParsePublish reads docker's notation: [[IP:][HOST]:]GUEST[/PROTOCOL], where HOST
// and GUEST are ports or ranges of as many. Without HOST a free port is found.
func ParsePublish(text string) ([]launcher.Publish, error) {
	bad := func(why string) error {
		return invalid("cannot publish %q: %s: use [IP:][HOST:]GUEST[/tcp|/udp], ports or ranges of as many", text, why)
	}
	rest, protocol, given := strings.Cut(text, "/")
	if !given {
		protocol = "tcp"
	}
	if protocol != "tcp" && protocol != "udp" {
		return nil, bad(fmt.Sprintf("unknown protocol %q", protocol))
	}
	guest, host, ip := rest, "", netip.Addr{}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		guest, host = rest[i+1:], rest[:i]
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			address := strings.TrimSuffix(strings.TrimPrefix(host[:i], "["), "]")
			host = host[i+1:]
			var err error
			if ip, err = netip.ParseAddr(address); err != nil {
				return nil, bad(fmt.Sprintf("%q is no IP address", address))
			}
		}
	}
	if ip.IsValid() && ip.IsUnspecified() && ip.Is4() {
		ip = netip.Addr{}
	}
	guestFirst, guestLast, err := portRange(guest)
	if err != nil {
		return nil, bad(err.Error())
	}
	var hostFirst, hostLast uint16
	if host != "" {
		if hostFirst, hostLast, err = portRange(host); err != nil {
			return nil, bad(err.Error())
		}
		if hostLast-hostFirst != guestLast-guestFirst && guestFirst != guestLast {
			return nil, bad("the ranges differ in length")
		}
	}
	var all []launcher.Publish
	for i := uint16(0); ; i++ {
		p := launcher.Publish{HostIP: ip, GuestPort: guestFirst + i, Protocol: protocol}
		switch {
		case host == "":
		case guestFirst == guestLast && hostLast > hostFirst:
			p.HostPort, p.HostEnd = hostFirst, hostLast
		default:
			p.HostPort = hostFirst + i
		}
		all = append(all, p)
		if guestFirst+i == guestLast {
			return all, nil
		}
	}
}

func portRange(text string) (first, last uint16, err error) {
	a, b, both := strings.Cut(text, "-")
	if !both {
		b = a
	}
	ports := [2]uint16{}
	for i, s := range []string{a, b} {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, 0, fmt.Errorf("%q is no port", s)
		}
		ports[i] = uint16(n)
	}
	if ports[1] < ports[0] {
		return 0, 0, fmt.Errorf("%q is no range", text)
	}
	return ports[0], ports[1], nil
}
