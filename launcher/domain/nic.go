package domain

import (
	"fmt"
	"net"

	"libvirt.org/go/libvirtxml"
)

// NIC is a virtio network interface.
type NIC struct {
	MAC string
	// Tap is the host's interface, which is there already. Where it is empty, passt
	// speaks for the guest from the host's own addresses.
	Tap string
	MTU int // 0: the host's default
	// Forwards are ports of the host that passt leads to the guest.
	Forwards []PortForward
}

// PortForward leads from ports of the host to one of the guest's.
type PortForward struct {
	Address  string // of the host; all where empty
	Protocol string // tcp or udp
	Host     uint16
	Guest    uint16
}

func (n NIC) validate() error {
	if _, err := net.ParseMAC(n.MAC); err != nil {
		return fmt.Errorf("interface %s: %w", n.Tap, err)
	}
	return nil
}

func (s Spec) interfaces() []libvirtxml.DomainInterface {
	var all []libvirtxml.DomainInterface
	for _, n := range s.NICs {
		i := libvirtxml.DomainInterface{
			MAC:     &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
			Model:   &libvirtxml.DomainInterfaceModel{Type: "virtio"},
			Address: s.address(),
		}
		if s.address() == nil {
			// Nothing is booted from the network.
			i.ROM = &libvirtxml.DomainROM{Enabled: "no"}
		}
		if n.Tap == "" {
			n.user(&i)
		} else {
			i.Source = &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}}
			i.Target = &libvirtxml.DomainInterfaceTarget{Dev: n.Tap, Managed: "no"}
		}
		if n.MTU != 0 {
			i.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
		}
		all = append(all, i)
	}
	return all
}

// user has libvirt start passt for an interface.
func (n NIC) user(i *libvirtxml.DomainInterface) {
	i.Source = &libvirtxml.DomainInterfaceSource{User: &libvirtxml.DomainInterfaceSourceUser{}}
	i.Backend = &libvirtxml.DomainInterfaceBackend{Type: "passt"}
	for _, f := range n.Forwards {
		i.PortForward = append(i.PortForward, libvirtxml.DomainInterfaceSourcePortForward{
			Proto: f.Protocol, Address: f.Address,
			Ranges: []libvirtxml.DomainInterfaceSourcePortForwardRange{{Start: uint(f.Host), To: uint(f.Guest)}},
		})
	}
}
