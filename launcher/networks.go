package launcher

import (
	"context"
	"slices"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest"
)

// maxNICs is how many interfaces a server may have: microvm has eight transports for
// all of its devices.
const maxNICs = 4

// validateNetworks refuses interfaces and publications that cannot be.
func (s *Spec) validateNetworks() error {
	if len(s.Networks) > maxNICs {
		return errorf(ErrInvalid, "%d networks: a server can be on %d at most", len(s.Networks), maxNICs)
	}
	if err := s.validateHostUser(); err != nil {
		return err
	}
	for _, n := range s.Networks {
		switch {
		case n.Network == NetworkNone && len(s.Networks) > 1:
			return errorf(ErrInvalid, "--network none excludes other networks")
		case n.Network == NetworkNone && len(s.Publish) > 0:
			return errorf(ErrInvalid, "--network none excludes --publish: the server has no address")
		}
	}
	return nil
}

// refuseNetworks refuses what an engine without networks cannot give.
func (s *Spec) refuseNetworks() error {
	for _, n := range s.Networks {
		if n.Network != NetworkNone {
			return errorf(ErrUnavailable, "--network %s: networks need an engine that runs as root", first(n.Network, n.Port))
		}
	}
	if len(s.Publish) > 0 {
		return errorf(ErrUnavailable, "--publish needs an engine that runs as root: here servers have no network")
	}
	return nil
}

// allocate gives a new server its ports.
func (m *Manager) allocate(ctx context.Context, i *instance) error {
	srv, _ := i.snapshot()
	if srv.Spec.hostUser() {
		i.set(func(s *Server) { s.NICs = []NIC{m.cfg.HostUser.Allocate(&srv)} })
		return nil
	}
	if m.cfg.Networks == nil {
		return srv.Spec.refuseNetworks()
	}
	if srv.VMState == VMError {
		return nil // it runs nowhere
	}
	nics, err := m.cfg.Networks.Allocate(ctx, &srv)
	if err != nil {
		return err
	}
	i.set(func(s *Server) { s.NICs = nics })
	return nil
}

// release gives up the ports of a server that is no more.
func (m *Manager) release(ctx context.Context, i *instance) error {
	if srv, _ := i.snapshot(); srv.Spec.hostUser() {
		return m.cfg.HostUser.Unplug(ctx, i.dir)
	}
	if m.cfg.Networks == nil {
		return nil
	}
	return m.cfg.Networks.Release(ctx, i.id)
}

// unplug takes a server's ports from the host.
func (m *Manager) unplug(ctx context.Context, i *instance) error {
	i.set(func(s *Server) { s.Published = nil })
	if srv, _ := i.snapshot(); srv.Spec.hostUser() {
		return m.cfg.HostUser.Unplug(ctx, i.dir)
	}
	if m.cfg.Networks == nil {
		return nil
	}
	return m.cfg.Networks.Unplug(ctx, i.id)
}

// plug makes the host ready for the server's interfaces, and tells its guest.
func (r *run) plug(ctx context.Context, srv *Server, spec *guest.Spec) (*Plugged, error) {
	if r.m.cfg.Networks == nil && !srv.Spec.hostUser() {
		return &Plugged{}, nil
	}
	p, err := r.plugged(ctx, srv)
	if err != nil {
		return nil, err
	}
	spec.Interfaces = interfaces(p.Config)
	spec.Nameservers, spec.Search = srv.Spec.Nameservers, srv.Spec.DNSSearch
	for _, l := range p.Config.Links {
		if len(srv.Spec.Nameservers) == 0 {
			for _, a := range l.Nameservers {
				spec.Nameservers = append(spec.Nameservers, a.String())
			}
		}
		if len(srv.Spec.DNSSearch) == 0 {
			spec.Search = append(spec.Search, l.Search...)
		}
	}
	return p, r.i.update(ctx, r.m.cfg.Store, func(s *Server) {
		s.Published = p.Published
		if networks, able := r.m.cfg.Networks.(Attacher); able && !s.Spec.hostUser() {
			s.NICs = networks.NICs(s) // some may be no more
		}
	})
}

func (r *run) plugged(ctx context.Context, srv *Server) (*Plugged, error) {
	if srv.Spec.hostUser() {
		return r.m.cfg.HostUser.Plug(ctx, srv, r.i.dir)
	}
	return r.m.cfg.Networks.Plug(ctx, srv)
}

// interfaces are what a guest sets up of a network configuration.
func interfaces(c *cloudinit.NetworkConfig) []guest.Interface {
	if c == nil {
		return nil
	}
	var all []guest.Interface
	for _, l := range c.Links {
		i := guest.Interface{Name: l.Name, MAC: l.MAC, MTU: l.MTU, Addresses: slices.Clone(l.Addresses)}
		for _, r := range l.AllRoutes() {
			i.Routes = append(i.Routes, guest.Route(r))
		}
		all = append(all, i)
	}
	return all
}

// reconcileNetworks takes back what belongs to no server.
func (m *Manager) reconcileNetworks(ctx context.Context, records []*Server, domains map[string]PowerState) error {
	if m.cfg.Networks == nil {
		return nil
	}
	servers := map[string]bool{}
	for _, srv := range records {
		if srv.VMState != VMDeleted {
			_, servers[srv.ID] = domains[m.cfg.DomainPrefix+srv.ID]
		}
	}
	return m.cfg.Networks.Reconcile(ctx, servers)
}

// Publish replaces what is published of a server, at once where it runs.
func (m *Manager) Publish(ctx context.Context, ref string, change func([]Publish) ([]Publish, error)) (Server, error) {
	i, err := m.find(ref)
	if err != nil {
		return Server{}, err
	}
	i.networking.Lock()
	defer i.networking.Unlock()
	srv, _ := i.snapshot()
	if m.cfg.Networks == nil && !srv.Spec.hostUser() {
		return Server{}, errorf(ErrUnavailable, "this engine has no networks: a server that is created with --network %s can publish ports", NetworkHostUser)
	}
	ports, err := change(slices.Clone(srv.Spec.Publish))
	if err != nil {
		return Server{}, err
	}
	if srv.Spec.hostUser() {
		return m.publishHostUser(ctx, i, ports)
	}
	if srv.VMState == VMActive || srv.VMState == VMPaused {
		if err := m.cfg.Networks.Publish(ctx, &srv, ports); err != nil {
			return Server{}, err
		}
	}
	published := m.cfg.Networks.PublishedOf(srv.ID)
	err = i.update(ctx, m.cfg.Store, func(s *Server) { s.Spec.Publish, s.Published = ports, published })
	srv, _ = i.snapshot()
	return srv, err
}
