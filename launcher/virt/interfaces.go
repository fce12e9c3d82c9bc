package virt

import (
	"context"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// detachTime is how long a guest may take to let go of an interface, and detachPoll how
// often it is looked whether it has.
const (
	detachTime = 30 * time.Second
	detachPoll = 100 * time.Millisecond
)

// AttachInterface implements launcher.Hotplugger.
func (h *Hypervisor) AttachInterface(_ context.Context, name string, n domain.NIC) error {
	xml, err := n.XML()
	if err != nil {
		return err
	}
	return h.changing(name, func(dom *libvirt.Domain, there *libvirtxml.Domain) error {
		if machine := there.OS.Type.Machine; strings.Contains(machine, string(guest.MachineMicroVM)) {
			return launcher.Errorf(launcher.ErrUnsupported, "a running server of machine type %s takes no more interfaces: stop it first", machine)
		}
		if err := dom.AttachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE); err != nil {
			return fmt.Errorf("attach interface %s: %w", n.MAC, plugless(err))
		}
		return nil
	})
}

// DetachInterface implements launcher.Hotplugger.
func (h *Hypervisor) DetachInterface(ctx context.Context, name, mac string) error {
	for limit := time.Now().Add(detachTime); ; {
		gone := false
		err := h.changing(name, func(dom *libvirt.Domain, there *libvirtxml.Domain) error {
			i := interfaceOf(there, mac)
			if gone = i == nil; gone {
				return nil
			}
			if machine := there.OS.Type.Machine; strings.Contains(machine, string(guest.MachineMicroVM)) {
				return launcher.Errorf(launcher.ErrUnsupported, "a running server of machine type %s gives no interfaces back: stop it first", machine)
			}
			xml, err := i.Marshal()
			if err != nil {
				return err
			}
			// libvirt itself waits a while for the guest; asked again, QEMU says that the
			// guest has been asked already.
			err = dom.DetachDeviceFlags(xml, libvirt.DOMAIN_DEVICE_MODIFY_LIVE)
			if err != nil && !strings.Contains(err.Error(), "already in the process of unplug") {
				return fmt.Errorf("detach interface %s: %w", mac, plugless(err))
			}
			return nil
		})
		if err != nil || gone {
			return err
		}
		if time.Now().After(limit) {
			return launcher.Errorf(launcher.ErrConflict, "the guest has not let go of interface %s within %s: try again, or stop the server", mac, detachTime)
		}
		select {
		case <-time.After(detachPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// plugless says what to do where a machine has no slots to plug into: those that boot a
// kernel directly are made without, which takes half of what their kernel interprets.
func plugless(err error) error {
	if strings.Contains(err.Error(), "does not support hotplugging") {
		return launcher.Errorf(launcher.ErrConflict, "this server's interfaces can be changed while it is stopped: stop it first")
	}
	return explain(err)
}

// changing calls f with a domain and what it is at the moment.
func (h *Hypervisor) changing(name string, f func(*libvirt.Domain, *libvirtxml.Domain) error) error {
	dom, err := h.conn.LookupDomainByName(name)
	if err != nil {
		return fmt.Errorf("find domain %s: %w", name, explain(err))
	}
	defer func() { _ = dom.Free() }()
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		return fmt.Errorf("read domain %s: %w", name, explain(err))
	}
	var there libvirtxml.Domain
	if err := there.Unmarshal(text); err != nil {
		return fmt.Errorf("read domain %s: %w", name, err)
	}
	return f(dom, &there)
}

// interfaceOf finds a domain's interface by its MAC; nil where it has none such.
func interfaceOf(d *libvirtxml.Domain, mac string) *libvirtxml.DomainInterface {
	if d.Devices == nil {
		return nil
	}
	for n := range d.Devices.Interfaces {
		if i := &d.Devices.Interfaces[n]; i.MAC != nil && strings.EqualFold(i.MAC.Address, mac) {
			return i
		}
	}
	return nil
}
