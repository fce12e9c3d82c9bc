package network

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Plane makes on the host what records say.
type Plane interface {
	// Apply makes the host show a state. It may be called again with the same one.
	Apply(ctx context.Context, st State) error
	// Close ends what is in this process. What is in the kernel stays.
	Close() error
}

// Ports are those of the host.
type Ports interface {
	// Reserve holds the ports of the host that publications name against all others,
	// and decides those that may be any. After a Plane's Apply with them they are let
	// go by one without them, before by Release.
	Reserve(ctx context.Context, ports []launcher.Publish) ([]launcher.Publish, error)
	Release(ports []launcher.Publish) error
}

// apply brings the host in line with the records. Who changes records at the same
// time finds the latest applied.
func (s *Service) apply(ctx context.Context) error {
	if s.cfg.Plane == nil || s.remote() {
		return nil
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	s.mu.RLock()
	st := s.state()
	s.mu.RUnlock()
	if s.applied != nil && reflect.DeepEqual(*s.applied, st) {
		return nil
	}
	if err := s.cfg.Plane.Apply(context.WithoutCancel(ctx), st); err != nil {
		s.applied = nil
		return err
	}
	s.applied = &st
	s.attend(st)
	return nil
}

// again is apply for a host that may show something else than was applied last.
func (s *Service) again(ctx context.Context) error {
	s.applying.Lock()
	s.applied = nil
	s.applying.Unlock()
	return s.apply(ctx)
}

// follow is apply for changes that are made whatever becomes of them on the host.
func (s *Service) follow(ctx context.Context) {
	if err := s.apply(ctx); err != nil {
		s.log.Error("networks not brought in line with their records", "err", err)
	}
}

// Allocate implements launcher.Networks.
func (s *Service) Allocate(ctx context.Context, srv *launcher.Server) (_ []launcher.NIC, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Release(context.WithoutCancel(ctx), srv.ID))
		}
	}()
	requests := srv.Spec.Networks
	if requests == nil {
		requests = []launcher.NetworkRequest{{}} // the default one
	}
	for i, r := range requests {
		if r.Network != launcher.NetworkNone {
			err = s.join(ctx, srv, i, r)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.NICs(srv), nil
}

// join gives a server an interface: a port that is there, or a new one.
func (s *Service) join(ctx context.Context, srv *launcher.Server, i int, r launcher.NetworkRequest) error {
	switch {
	case r.Port != "" && s.remote():
		return s.takeRemote(ctx, srv, i, r)
	case r.Port != "":
		return s.take(ctx, srv, i, r)
	case s.remote():
		return s.makeRemote(ctx, srv, i, r)
	}
	return s.makePort(ctx, srv, i, r)
}

// take gives a server a port that is there.
func (s *Service) take(ctx context.Context, srv *launcher.Server, i int, r launcher.NetworkRequest) error {
	_, err := s.UpdatePort(ctx, r.Port, func(p *Port) error {
		if p.Device != "" && p.Device != srv.ID {
			return conflict("Port %s is still in use.", p.ID)
		}
		if len(p.FixedIPs) == 0 && !p.NoPortSecurity {
			return invalid("Port %s requires a FixedIP in order to be used.", p.ID)
		}
		p.Device, p.Owner, p.Index = srv.ID, OwnerServer, i
		p.DNSName, p.Tag = launcher.Hostname(srv.Name), r.Tag
		p.Bandwidth = bandwidth(srv.Flavor.ExtraSpecs)
		return nil
	})
	return err
}

// makePort makes a port for a server.
func (s *Service) makePort(ctx context.Context, srv *launcher.Server, i int, r launcher.NetworkRequest) error {
	n, err := s.Find(ctx, r.Network, srv.Project)
	if err != nil {
		return err
	}
	p := Port{
		Base: Base{Project: srv.Project}, Network: n.ID, MAC: r.MAC, Device: srv.ID, Owner: OwnerServer, Index: i, Tag: r.Tag, Made: true,
		NoPortSecurity: n.NoPortSecurity, DNSName: launcher.Hostname(srv.Name), Bandwidth: bandwidth(srv.Flavor.ExtraSpecs),
	}
	if ready, ok := s.spareOf(srv.ID, i); ok && r.MAC == "" {
		p.ID, p.MAC = ready.port, ready.nic.MAC
	}
	if len(r.IPs) > 0 {
		p.FixedIPs = s.asked(n.ID, r.IPs)
	}
	if !p.NoPortSecurity {
		if p.SecurityGroups, err = s.findGroups(r.SecurityGroups, srv.Project); err != nil {
			return err
		}
	}
	_, err = s.CreatePort(ctx, p)
	return err
}

// asked are addresses that were asked for, and one of each other version that the
// network has.
func (s *Service) asked(network string, ips []netip.Addr) []FixedIP {
	var fixed []FixedIP
	for _, ip := range ips {
		fixed = append(fixed, FixedIP{IP: ip})
	}
	for _, f := range oneOfEach(s.SubnetsOf(network)) {
		sub, err := s.Subnet(f.Subnet)
		if err == nil && !slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip.Is4() == (sub.Version() == 4) }) {
			fixed = append(fixed, f)
		}
	}
	return fixed
}

// Find returns the network that a project means by a name or an ID.
func (s *Service) Find(ctx context.Context, ref, project string) (Network, error) {
	if s.remote() {
		project, err := s.projectOf(ctx, project)
		if err != nil {
			return Network{}, err
		}
		return s.findRemote(ctx, ref, project)
	}
	if ref == "" || ref == DefaultName {
		n, err := s.DefaultNetwork(ctx)
		if ref == "" || err == nil && n.Name == ref {
			return n, err
		}
	}
	usable := func(n Network) bool { return project == "" || n.Project == project || n.Shared || n.External }
	found := s.Networks(func(n Network) bool { return n.ID == ref && usable(n) })
	if len(found) == 0 {
		found = s.Networks(func(n Network) bool { return n.Name == ref && usable(n) })
	}
	switch len(found) {
	case 0:
		return Network{}, invalid("no network with a name or ID of %q exists: `slipway network list` shows those that do", ref)
	case 1:
		return found[0], nil
	}
	return Network{}, conflict("more than one network has the name %q: use an ID", ref)
}

// findGroups turns names of security groups into IDs.
func (s *Service) findGroups(refs []string, project string) ([]string, error) {
	var ids []string
	for _, ref := range refs {
		found := s.Groups(func(g SecurityGroup) bool { return g.ID == ref || g.Name == ref && g.Project == project })
		switch {
		case len(found) == 0:
			return nil, invalid("Security group %s not found for project %s.", ref, project)
		case len(found) > 1:
			return nil, conflict("Multiple security groups found matching '%s'. Use an ID to be more specific.", ref)
		}
		ids = append(ids, found[0].ID)
	}
	return ids, nil
}

// NICs are a server's interfaces, in their order.
func (s *Service) NICs(srv *launcher.Server) []launcher.NIC {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var nics []launcher.NIC
	for _, p := range s.portsOf(srv.ID) {
		nic := launcher.NIC{Port: p.ID, Network: p.Network, NetworkName: s.networks.Rows[p.Network].Name, MAC: p.MAC, Tag: p.Tag}
		for _, f := range p.FixedIPs {
			nic.Addresses = append(nic.Addresses, netip.PrefixFrom(f.IP, s.subnets.Rows[f.Subnet].CIDR.Bits()))
		}
		nics = append(nics, nic)
	}
	return nics
}

// Plug implements launcher.Networks.
func (s *Service) Plug(ctx context.Context, srv *launcher.Server) (_ *launcher.Plugged, err error) {
	publish := srv.Spec.Publish
	ports := s.PortsOf(srv.ID)
	if s.remote() {
		return s.plugAll(ctx, srv, ports)
	}
	if len(publish) > 0 && !slices.ContainsFunc(ports, func(p Port) bool { return len(p.FixedIPs) > 0 }) {
		return nil, invalid("cannot publish ports of server %s: it has no address on a network", srv.Name)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Unplug(context.WithoutCancel(ctx), srv.ID))
		}
	}()
	err = s.commit(ctx, func(tx *records.Tx) error {
		for _, p := range s.portsOf(srv.ID) {
			p.Tap, p.Status = s.interfaceName("st", p.ID), StatusActive
			if err := records.Put(tx, &s.ports, p.ID, p); err != nil {
				return err
			}
		}
		delete(s.spares, srv.ID) // they are the ports', or nobody's
		return nil
	})
	if err == nil {
		err = s.Publish(ctx, srv, publish)
	}
	if err != nil {
		return nil, err
	}
	return s.plugged(srv.ID)
}

// plugAll is Plug where networks are a Neutron's.
func (s *Service) plugAll(ctx context.Context, srv *launcher.Server, ports []Port) (_ *launcher.Plugged, err error) {
	if len(ports) != len(srv.NICs) {
		return nil, conflict("server %s has %d ports, of which Neutron has %d: were they made before network.url was set?", srv.Name, len(srv.NICs), len(ports))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Unplug(context.WithoutCancel(ctx), srv.ID))
		}
	}()
	if err := s.Publish(ctx, srv, srv.Spec.Publish); err != nil {
		return nil, err
	}
	for _, p := range ports {
		now, err := s.LearnPort(ctx, p.ID)
		switch {
		case errors.Is(err, launcher.ErrNotFound):
			s.log.Warn("port that Neutron has no more taken from its server", "port", p.ID, "server", srv.ID)
			err = s.letGoRemote(ctx, p)
		case err == nil:
			err = s.plugRemote(ctx, now)
		}
		if err != nil {
			return nil, err
		}
	}
	return s.plugged(srv.ID)
}

// Publish replaces what is published of a server that is plugged.
func (s *Service) Publish(ctx context.Context, srv *launcher.Server, ports []launcher.Publish) error {
	if s.remote() && len(ports) > 0 {
		return launcher.Errorf(launcher.ErrUnsupported, "ports of server %s cannot be published: its networks are Neutron's: openstack server add floating ip", srv.Name)
	}
	have := s.PublishedOf(srv.ID)
	next, fresh := []launcher.Publish{}, []launcher.Publish{}
	for _, p := range ports {
		if i := slices.IndexFunc(have, p.Covers); i >= 0 {
			next = append(next, have[i])
			have = slices.Delete(have, i, i+1) // it stands for one alone
		} else {
			fresh = append(fresh, p)
		}
	}
	all := Published{Server: srv.ID, Name: srv.Name, Ports: slices.Concat(next, fresh)}
	s.mu.RLock()
	err := s.checkPublished(all)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	if len(fresh) > 0 && s.cfg.Ports != nil {
		if fresh, err = s.cfg.Ports.Reserve(ctx, fresh); err != nil {
			return err
		}
	}
	all.Ports = slices.Concat(next, fresh)
	err = s.setPublished(ctx, all)
	if err != nil && s.cfg.Ports != nil {
		return errors.Join(err, s.cfg.Ports.Release(fresh))
	}
	return errors.Join(err, s.apply(ctx))
}

// plugged says what a server's domain and its guest are told.
func (s *Service) plugged(server string) (*launcher.Plugged, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := &launcher.Plugged{Config: &cloudinit.NetworkConfig{}}
	gateways := map[int]bool{} // by version: the first interface has the default route
	for i, port := range s.portsOf(server) {
		n := s.networks.Rows[port.Network]
		p.NICs = append(p.NICs, domain.NIC{MAC: port.MAC, Tap: port.Tap, MTU: n.MTU})
		link := cloudinit.Link{Name: "eth" + strconv.Itoa(i), MAC: port.MAC, MTU: n.MTU}
		for _, f := range port.FixedIPs {
			sub := s.subnets.Rows[f.Subnet]
			link.Addresses = append(link.Addresses, netip.PrefixFrom(f.IP, sub.CIDR.Bits()))
			if v := sub.Version(); sub.Gateway.IsValid() && !gateways[v] {
				gateways[v] = true
				if v == 4 {
					link.Gateway4 = sub.Gateway
				} else {
					link.Gateway6 = sub.Gateway
				}
			}
			for _, r := range sub.Routes {
				link.Routes = append(link.Routes, cloudinit.Route{To: r.Destination, Via: r.NextHop})
			}
			link.Nameservers = append(link.Nameservers, s.nameservers(&sub)...)
		}
		if n.DNSDomain != "" {
			link.Search = append(link.Search, n.DNSDomain)
		}
		p.Config.Links = append(p.Config.Links, link)
	}
	p.Published = slices.Clone(s.published.Rows[server].Ports)
	return p, nil
}

// nameservers are what a subnet's servers ask: those of the subnet, or the bridge.
func (s *Service) nameservers(sub *Subnet) []netip.Addr {
	if len(sub.Nameservers) > 0 {
		return sub.Nameservers
	}
	if sub.Gateway.Is4() && s.cfg.Responder != nil {
		return []netip.Addr{sub.Gateway}
	}
	return nil
}

// Unplug implements launcher.Networks.
func (s *Service) Unplug(ctx context.Context, server string) error {
	if s.remote() {
		return s.unplugRemote(ctx, server)
	}
	err := s.commit(ctx, func(tx *records.Tx) error {
		for _, p := range s.portsOf(server) {
			if p.Tap == "" {
				continue
			}
			p.Tap, p.Status = "", StatusDown
			if err := records.Put(tx, &s.ports, p.ID, p); err != nil {
				return err
			}
		}
		if _, there := s.published.Rows[server]; there {
			records.Drop(tx, &s.published, server)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.apply(ctx)
}

// Release implements launcher.Networks.
func (s *Service) Release(ctx context.Context, server string) error {
	s.mu.Lock()
	delete(s.spares, server)
	s.mu.Unlock()
	if err := s.Unplug(ctx, server); err != nil {
		return err
	}
	if s.remote() {
		var errs []error
		for _, p := range s.PortsOf(server) {
			errs = append(errs, s.letGoRemote(ctx, p))
		}
		return errors.Join(errs...)
	}
	return s.change(ctx, func(tx *records.Tx) error {
		for _, p := range s.portsOf(server) {
			if err := s.letGo(tx, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// Reconcile implements launcher.Networks.
func (s *Service) Reconcile(ctx context.Context, servers map[string]bool) error {
	var errs []error
	seen := map[string]bool{}
	for _, p := range s.Ports(func(p Port) bool { return p.Owner == OwnerServer && p.Device != "" }) {
		if seen[p.Device] {
			continue
		}
		seen[p.Device] = true
		running, there := servers[p.Device]
		switch {
		case !there:
			s.log.Warn("ports without a server released", "server", p.Device)
			errs = append(errs, s.Release(ctx, p.Device))
		case !running:
			errs = append(errs, s.Unplug(ctx, p.Device))
		}
	}
	if s.remote() {
		// Neutron may come up later than this.
		if err := errors.Join(append(errs, s.strays(ctx, servers))...); err != nil {
			s.log.Error("ports not brought in line with Neutron", "err", err)
		}
		return nil
	}
	return errors.Join(append(errs, s.again(ctx))...)
}

// Close ends what answers servers in this process. Bridges, taps and rules stay.
func (s *Service) Close() error {
	s.attend(State{})
	if s.cfg.Plane == nil {
		return nil
	}
	return s.cfg.Plane.Close()
}

// The extra specs of flavors that bound interfaces, Nova's, in KiB and KiB/s.
const (
	specInbound  = "quota:vif_inbound_"
	specOutbound = "quota:vif_outbound_"
)

func bandwidth(specs map[string]string) Bandwidth {
	rate := func(prefix string) Rate {
		n := func(name string) int { v, _ := strconv.Atoi(specs[prefix+name]); return max(0, v) }
		return Rate{Average: n("average"), Peak: n("peak"), Burst: n("burst")}
	}
	return Bandwidth{rate(specInbound), rate(specOutbound)}
}
