package cloudinit

import (
	"fmt"
	"net/netip"
	"slices"
)

// NetworkConfig is network-config in the version 2 format. Links are matched
// by hardware address, which is all the host decides.
type NetworkConfig struct {
	Links []Link
}

// Link is one network interface.
type Link struct {
	Name        string // in the guest, such as eth0
	MAC         string
	MTU         int
	Addresses   []netip.Prefix
	Gateway4    netip.Addr
	Gateway6    netip.Addr
	Nameservers []netip.Addr
	Search      []string
	Routes      []Route // beside those to the gateways
	DHCP4       bool
}

// Route leads to a destination by another host of the link.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// AllRoutes are the routes to the gateways and the others.
func (l Link) AllRoutes() []Route {
	var all []Route
	if l.Gateway4.IsValid() {
		all = append(all, Route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), l.Gateway4})
	}
	if l.Gateway6.IsValid() {
		all = append(all, Route{netip.PrefixFrom(netip.IPv6Unspecified(), 0), l.Gateway6})
	}
	return append(all, l.Routes...)
}

// The types below are the file's own form.
type networkFile struct {
	Version   int                     `yaml:"version"`
	Ethernets map[string]ethernetFile `yaml:"ethernets"`
}

type ethernetFile struct {
	Match       matchFile        `yaml:"match"`
	SetName     string           `yaml:"set-name,omitempty"`
	MTU         int              `yaml:"mtu,omitempty"`
	DHCP4       bool             `yaml:"dhcp4,omitempty"`
	Addresses   []string         `yaml:"addresses,omitempty"`
	Gateway6    string           `yaml:"gateway6,omitempty"`
	Routes      []routeFile      `yaml:"routes,omitempty"`
	Nameservers *nameserversFile `yaml:"nameservers,omitempty"`
}

type matchFile struct {
	MAC string `yaml:"macaddress"`
}

type routeFile struct {
	To  string `yaml:"to"`
	Via string `yaml:"via"`
}

type nameserversFile struct {
	Addresses []string `yaml:"addresses,omitempty"`
	Search    []string `yaml:"search,omitempty"`
}

// Encode returns the bytes of network-config.
func (n *NetworkConfig) Encode() ([]byte, error) {
	file := networkFile{Version: 2, Ethernets: map[string]ethernetFile{}}
	for _, l := range n.Links {
		if l.Name == "" || l.MAC == "" {
			return nil, fmt.Errorf("%w: network link without a name or a MAC", ErrInvalid)
		}
		if _, ok := file.Ethernets[l.Name]; ok {
			return nil, fmt.Errorf("%w: two network links named %s", ErrInvalid, l.Name)
		}
		file.Ethernets[l.Name] = l.file()
	}
	return marshal(file)
}

func (l Link) file() ethernetFile {
	e := ethernetFile{Match: matchFile{MAC: l.MAC}, SetName: l.Name, MTU: l.MTU, DHCP4: l.DHCP4}
	for _, p := range l.Addresses {
		e.Addresses = append(e.Addresses, p.String())
	}
	if l.Gateway6.IsValid() { // of a route to ::/0 Debian 12's cloud-init makes one to ::/64
		e.Gateway6, l.Gateway6 = l.Gateway6.String(), netip.Addr{}
	}
	for _, r := range l.AllRoutes() {
		e.Routes = append(e.Routes, routeFile{To: r.To.String(), Via: r.Via.String()})
	}
	if len(l.Nameservers) > 0 || len(l.Search) > 0 {
		ns := &nameserversFile{Search: slices.Clone(l.Search)}
		for _, a := range l.Nameservers {
			ns.Addresses = append(ns.Addresses, a.String())
		}
		e.Nameservers = ns
	}
	return e
}
