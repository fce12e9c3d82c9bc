package launcher

import (
	"context"
	"errors"
	"slices"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// Hotplugger is a Hypervisor that changes the interfaces of running domains.
type Hotplugger interface {
	// AttachInterface gives a domain one more interface.
	AttachInterface(ctx context.Context, domain string, n domain.NIC) error
	// DetachInterface takes one by its MAC, and returns when the guest has let go of
	// it. What is not there is no error.
	DetachInterface(ctx context.Context, domain, mac string) error
}

// Attacher is Networks that change the interfaces of servers which exist.
type Attacher interface {
	// Attach gives a server a port, which is not plugged.
	Attach(ctx context.Context, srv *Server, r NetworkRequest) (NIC, error)
	// PlugPort makes the host ready for a port of a running server.
	PlugPort(ctx context.Context, srv *Server, port string) (*Plugged, error)
	// Detach unplugs a port of a server and takes it away.
	Detach(ctx context.Context, server, port string) error
	// NICs are a server's interfaces.
	NICs(srv *Server) []NIC
}

// AttachInterface gives a server one more interface, at once where it runs.
func (m *Manager) AttachInterface(ctx context.Context, ref string, r NetworkRequest) (_ NIC, err error) {
	i, networks, done, err := m.changingInterfaces(ref, "attach_interface")
	if err != nil {
		return NIC{}, err
	}
	defer done()
	srv, _ := i.snapshot()
	if len(srv.NICs) >= maxNICs {
		return NIC{}, errorf(ErrInvalid, "server %s has %d interfaces already, as many as it can have", srv.Name, maxNICs)
	}
	nic, err := networks.Attach(ctx, &srv, r)
	if err != nil {
		return NIC{}, err
	}
	if srv.VMState == VMActive {
		err = m.hotplug(ctx, i, networks, nic.Port)
	}
	if err == nil {
		err = i.update(ctx, m.cfg.Store, func(s *Server) { s.NICs = networks.NICs(s) })
	}
	if err != nil {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
		defer cancel()
		return NIC{}, errors.Join(err, m.takeInterface(clean, i, networks, nic))
	}
	return nic, nil
}

// DetachInterface takes an interface from a server, at once where it runs.
func (m *Manager) DetachInterface(ctx context.Context, ref, port string) error {
	i, networks, done, err := m.changingInterfaces(ref, "detach_interface")
	if err != nil {
		return err
	}
	defer done()
	srv, _ := i.snapshot()
	n := slices.IndexFunc(networks.NICs(&srv), func(n NIC) bool { return n.Port == port })
	if n < 0 {
		return errorf(ErrNotFound, "Port %s is not attached to instance %s.", port, srv.ID)
	}
	if err := m.takeInterface(ctx, i, networks, networks.NICs(&srv)[n]); err != nil {
		return err
	}
	return i.update(ctx, m.cfg.Store, func(s *Server) { s.NICs = networks.NICs(s) })
}

// changingInterfaces finds a server whose interfaces can be changed, and keeps others
// from changing them until done is called.
func (m *Manager) changingInterfaces(ref, action string) (_ *instance, _ Attacher, done func(), err error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, nil, nil, err
	}
	i.networking.Lock()
	srv, _ := i.snapshot()
	networks, able := m.cfg.Networks.(Attacher)
	switch {
	case !able:
		err = errorf(ErrUnsupported, "this engine has no networks to attach servers to")
	case srv.Spec.hostUser():
		err = errorf(ErrInvalid, "server %s is on the network %s, which excludes others", srv.Name, NetworkHostUser)
	case srv.VMState != VMActive && srv.VMState != VMStopped || srv.TaskState != TaskNone:
		err = &StateError{ID: srv.ID, Server: srv.Name, Action: action, VM: srv.VMState, Task: srv.TaskState}
	}
	if err != nil {
		i.networking.Unlock()
		return nil, nil, nil, err
	}
	return i, networks, i.networking.Unlock, nil
}

// hotplug gives a running domain a port of its server, and has the guest set it up.
func (m *Manager) hotplug(ctx context.Context, i *instance, networks Attacher, port string) error {
	h, able := m.cfg.Hypervisor.(Hotplugger)
	if !able {
		return errorf(ErrUnsupported, "this hypervisor gives running servers no interfaces: stop the server first")
	}
	srv, _ := i.snapshot()
	p, err := networks.PlugPort(ctx, &srv, port)
	if err != nil {
		return err
	}
	if err := h.AttachInterface(ctx, m.cfg.DomainPrefix+i.id, p.NICs[0]); err != nil {
		return err
	}
	return m.setUp(ctx, i, p.Config)
}

// setUp has a guest set up an interface that it was given. One that looks after its
// network itself finds it.
func (m *Manager) setUp(ctx context.Context, i *instance, c *cloudinit.NetworkConfig) error {
	if srv, _ := i.snapshot(); srv.classic() {
		return nil
	}
	_, guest, err := m.inside(ctx, i.id, "attach_interface")
	if err != nil {
		return err
	}
	all := interfaces(c)
	for n := range all {
		all[n].Name = "" // others may have it: the kernel finds one
	}
	err = guest.SetInterfaces(ctx, all)
	if errors.Is(err, agent.ErrUnsupported) {
		return errors.Join(agent.ErrOlder, err)
	}
	return err
}

// takeInterface takes an interface from a server's domain, where it runs, and its port
// from the server.
func (m *Manager) takeInterface(ctx context.Context, i *instance, networks Attacher, nic NIC) error {
	if srv, _ := i.snapshot(); srv.VMState == VMActive {
		if h, able := m.cfg.Hypervisor.(Hotplugger); able {
			if err := h.DetachInterface(ctx, m.cfg.DomainPrefix+i.id, nic.MAC); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	return networks.Detach(ctx, i.id, nic.Port)
}
