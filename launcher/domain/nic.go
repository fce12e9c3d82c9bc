package domain

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"

	"github.com/slipway-vm/slipway/guest"
)

// NIC is a virtio network interface.
type NIC struct {
	MAC string
	Tap string // the host's interface, which is there already
	// Socket, in place of Tap, is a unix socket that who connects to it exchanges
	// frames over.
	Socket string
	MTU    int // 0: the host's default
}

func (n NIC) validate() error {
	if _, err := net.ParseMAC(n.MAC); err != nil {
		return fmt.Errorf("interface %s: %w", n.Tap, err)
	}
	if (n.Tap == "") == (n.Socket == "") {
		return fmt.Errorf("interface %s: a tap or a socket", n.MAC)
	}
	return nil
}

func (s Spec) interfaces() []libvirtxml.DomainInterface {
	var all []libvirtxml.DomainInterface
	for _, n := range s.NICs {
		if n.Socket == "" { // else see streams
			all = append(all, n.device(s.address()))
		}
	}
	return all
}

func (n NIC) device(at *libvirtxml.DomainAddress) libvirtxml.DomainInterface {
	i := libvirtxml.DomainInterface{
		MAC:     &libvirtxml.DomainInterfaceMAC{Address: n.MAC},
		Source:  &libvirtxml.DomainInterfaceSource{Ethernet: &libvirtxml.DomainInterfaceSourceEthernet{}},
		Target:  &libvirtxml.DomainInterfaceTarget{Dev: n.Tap, Managed: "no"},
		Model:   &libvirtxml.DomainInterfaceModel{Type: "virtio"},
		Address: at,
	}
	if at == nil {
		// Nothing is booted from the network.
		i.ROM = &libvirtxml.DomainROM{Enabled: "no"}
	}
	if n.MTU != 0 {
		i.MTU = &libvirtxml.DomainInterfaceMTU{Size: uint(n.MTU)}
	}
	return i
}

// XML returns the libvirt XML of an interface that is given to a running domain, one of
// machine type pc.
func (n NIC) XML() (string, error) {
	if err := n.validate(); err != nil {
		return "", err
	}
	i := n.device(nil)
	xml, err := i.Marshal()
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", n.MAC, err)
	}
	return xml, nil
}

// streams are the arguments of QEMU for interfaces that are sockets, which libvirt has
// no word for before 9.2.
func (s Spec) streams() []libvirtxml.DomainQEMUCommandlineArg {
	var args []libvirtxml.DomainQEMUCommandlineArg
	for i, n := range s.NICs {
		if n.Socket == "" {
			continue
		}
		id := "stream" + strconv.Itoa(i)
		device := "virtio-net-device"
		if s.Machine == guest.MachinePC {
			// QEMU makes these devices first: they leave alone the slots that libvirt
			// counts up from the lowest.
			device = fmt.Sprintf("virtio-net-pci,addr=%#x,romfile=", 31-i)
		}
		// A comma of a value is doubled.
		path := strings.ReplaceAll(n.Socket, ",", ",,")
		for _, arg := range []string{
			"-netdev", "stream,id=" + id + ",server=off,addr.type=unix,addr.path=" + path,
			"-device", device + ",netdev=" + id + ",mac=" + n.MAC,
		} {
			args = append(args, libvirtxml.DomainQEMUCommandlineArg{Value: arg})
		}
	}
	return args
}
