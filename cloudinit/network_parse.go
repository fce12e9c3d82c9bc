package cloudinit

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// ParseNetworkConfig reads network-config of version 1 or 2: interfaces, their
// addresses, default routes and name servers. What else it may describe is not
// looked at: bonds, bridges and VLANs are none of a server's here.
func ParseNetworkConfig(data []byte) (*NetworkConfig, error) {
	v, err := parseYAML(data)
	if err != nil {
		return nil, fmt.Errorf("%w: network-config: %w", ErrInvalid, err)
	}
	m, err := mapOf(v)
	if err == nil && m["network"] != nil {
		m, err = mapOf(m["network"])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: network-config: %w", ErrInvalid, err)
	}
	n := new(NetworkConfig)
	switch text(m["version"]) {
	case "1":
		err = n.takeVersion1(m)
	case "2":
		err = n.takeVersion2(m)
	default:
		err = fmt.Errorf("version %q is neither 1 nor 2", text(m["version"]))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: network-config: %w", ErrInvalid, err)
	}
	return n, nil
}

func (n *NetworkConfig) takeVersion2(m map[string]any) error {
	if m["ethernets"] == nil {
		return nil
	}
	ethernets, err := mapOf(m["ethernets"])
	if err != nil {
		return fmt.Errorf("ethernets: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(ethernets)) {
		l := Link{Name: name}
		if err := l.takeEthernet(ethernets[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		n.Links = append(n.Links, l)
	}
	return nil
}

func (l *Link) takeEthernet(v any) error {
	e, err := mapOf(v)
	if err != nil {
		return err
	}
	if match, ok := e["match"].(map[string]any); ok {
		l.MAC = text(match["macaddress"])
	}
	if name := text(e["set-name"]); name != "" {
		l.Name = name
	}
	l.MTU, _ = e["mtu"].(int)
	if e["dhcp4"] != nil {
		if err := boolOf(&l.DHCP4, e["dhcp4"]); err != nil {
			return fmt.Errorf("dhcp4: %w", err)
		}
	}
	for _, a := range texts(e["addresses"]) {
		if err := l.addAddress(a, ""); err != nil {
			return err
		}
	}
	for _, key := range []string{"gateway4", "gateway6"} {
		if err := l.addGateway(text(e[key])); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	routes, _ := e["routes"].([]any)
	for _, v := range routes {
		r, err := mapOf(v)
		if err != nil {
			return fmt.Errorf("routes: %w", err)
		}
		if to := text(r["to"]); to == "default" || strings.HasSuffix(to, "/0") {
			if err := l.addGateway(text(r["via"])); err != nil {
				return fmt.Errorf("routes: %w", err)
			}
		}
	}
	if servers, ok := e["nameservers"].(map[string]any); ok {
		return l.addNameservers(texts(servers["addresses"]), texts(servers["search"]))
	}
	return nil
}

func (n *NetworkConfig) takeVersion1(m map[string]any) error {
	entries, ok := m["config"].([]any)
	if !ok {
		return errors.New("config: not a list")
	}
	for i, v := range entries {
		e, err := mapOf(v)
		if err != nil {
			return fmt.Errorf("config: entry %d: %w", i+1, err)
		}
		switch text(e["type"]) {
		case "physical":
			l := Link{Name: text(e["name"]), MAC: text(e["mac_address"])}
			if err := l.takePhysical(e); err != nil {
				return fmt.Errorf("config: %s: %w", l.Name, err)
			}
			n.Links = append(n.Links, l)
		case "nameserver": // everybody's
			for i := range n.Links {
				if err := n.Links[i].addNameservers(texts(e["address"]), texts(e["search"])); err != nil {
					return fmt.Errorf("config: nameserver: %w", err)
				}
			}
		}
	}
	return nil
}

func (l *Link) takePhysical(e map[string]any) error {
	l.MTU, _ = e["mtu"].(int)
	subnets, _ := e["subnets"].([]any)
	for _, v := range subnets {
		s, err := mapOf(v)
		if err != nil {
			return fmt.Errorf("subnets: %w", err)
		}
		switch text(s["type"]) {
		case "dhcp", "dhcp4":
			l.DHCP4 = true
		case "static", "static6":
			err = l.addAddress(text(s["address"]), text(s["netmask"]))
		}
		if err == nil {
			err = l.addGateway(text(s["gateway"]))
		}
		if err == nil {
			err = l.addNameservers(texts(s["dns_nameservers"]), texts(s["dns_search"]))
		}
		if err != nil {
			return fmt.Errorf("subnets: %w", err)
		}
	}
	return nil
}

func (l *Link) addAddress(address, mask string) error {
	p, err := parsePrefix(address, mask)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	l.Addresses = append(l.Addresses, p)
	return nil
}

func (l *Link) addGateway(s string) error {
	if s == "" {
		return nil
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return err
	case a.Is4():
		l.Gateway4 = a
	default:
		l.Gateway6 = a
	}
	return nil
}

func (l *Link) addNameservers(addresses, search []string) error {
	for _, s := range addresses {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return err
		}
		l.Nameservers = append(l.Nameservers, a)
	}
	l.Search = append(l.Search, search...)
	return nil
}
