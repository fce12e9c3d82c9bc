package domain

import (
	"fmt"
	"net"

	"libvirt.org/go/libvirtxml"
)

// NIC is a virtio network interface.
type NIC struct {
	MAC string
	Tap string // the host's interface, which is there already
	MTU int    // 0: the host's default
}

func (n NIC) validate() error {
	if _, err := net.ParseMAC(n.MAC); err != nil {
		return fmt.Errorf("interface %s: %w", n.Tap, err)
	}
	if n.Tap == "" {
		return fmt.Errorf("interface %s has no tap", n.MAC)
	}
	return nil
}

func (s Spec) interfaces() []libvirtxml.DomainInterface {
	var all []libvirtxml.DomainInterface
	for _, n := range s.NICs {
		i := libvirtxml.DomainInterface{
			MAC:     &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
			Source:  &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
			Target:  &libvirtxml.DomainInterfaceTarget{Dev: n.Tap, Managed: "no"},
			Model:   &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			Address: s.address(),
		}
		if s.address() == nil {
			// Nothing is booted from the network.
			i.ROM = &libvirtxml.DomainROM{Enabled: "no"}
		}
		if n.MTU != 0 {
			i.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
		}
		all = append(all, i)
	}
	return all
}
