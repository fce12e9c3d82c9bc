package network

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Neutron has networks in place of this host's own. A Service with one keeps copies of
// what concerns its servers, by the same IDs. Errors are of the launcher's kinds.
type Neutron interface {
	// Project is the project of servers that belong to none: of Slipway's own user.
	Project(ctx context.Context) (string, error)
	// Networks returns those that a project may use with a name or an ID of ref, all
	// where it is empty, and their subnets.
	Networks(ctx context.Context, project, ref string) ([]Network, []Subnet, error)
	// Groups returns a project's security groups and their rules.
	Groups(ctx context.Context, project string) ([]SecurityGroup, []Rule, error)
	Port(ctx context.Context, id string) (Port, error)
	// Ports returns those that a Service of this host and state directory has made
	// or taken.
	Ports(ctx context.Context) ([]Port, error)
	// CreatePort makes a port and binds it to this host.
	CreatePort(ctx context.Context, p Port) (Port, error)
	// UpdatePort changes a port to what of it is new; bound says whether to this host.
	UpdatePort(ctx context.Context, old, p Port, bound bool) (Port, error)
	// DeletePort removes a port. What is not there is no error.
	DeletePort(ctx context.Context, id string) error
}

// Plugger joins ports of a Neutron to the host, where its agents look after them.
type Plugger interface {
	// Plug makes a port's tap and joins it to what the port is bound to.
	Plug(ctx context.Context, p Port, mtu int) error
	// Unplug takes it back. What is not there is no error.
	Unplug(ctx context.Context, p Port) error
}

// The types of VIF that can be plugged, and those that a binding that failed has.
const (
	VIFBridge  = "bridge"
	VIFOVS     = "ovs"
	vifUnbound = "unbound"
	vifFailed  = "binding_failed"
)

// VIF is what of the host Neutron has bound a port to.
type VIF struct {
	Type   string `json:"type,omitempty"`
	Bridge string `json:"bridge,omitempty"`
	// Hybrid puts a Linux bridge between the tap and Open vSwitch, for a firewall of
	// iptables.
	Hybrid bool `json:"hybrid,omitempty"`
}

// patience is how long Neutron's agent may take to look after a port that was plugged:
// Nova's vif_plugging_timeout.
const patience = 5 * time.Minute

// poll is how often Neutron is asked meanwhile.
const poll = 500 * time.Millisecond

// remote reports whether networks are a Neutron's.
func (s *Service) remote() bool { return s.cfg.Neutron != nil }

// Remote reports whether networks are a Neutron's, where they are changed, too. Without
// a Service there are none.
func (s *Service) Remote() bool { return s != nil && s.remote() }

// projectOf is in whose name a server's ports are.
func (s *Service) projectOf(ctx context.Context, project string) (string, error) {
	if project != "" || !s.remote() {
		return project, nil
	}
	return s.cfg.Neutron.Project(ctx)
}

// LearnNetworks copies the networks that a project may use with a name or ID of ref,
// all where it is empty. Where networks are this host's own there is nothing to learn.
func (s *Service) LearnNetworks(ctx context.Context, project, ref string) ([]Network, error) {
	if !s.remote() {
		return nil, nil
	}
	networks, subnets, err := s.cfg.Neutron.Networks(ctx, project, ref)
	if err != nil {
		return nil, err
	}
	return networks, s.commit(ctx, func(tx *records.Tx) error {
		for _, n := range networks {
			if err := records.Put(tx, &s.networks, n.ID, n); err != nil {
				return err
			}
			gone := func(sub Subnet) bool {
				return sub.Network == n.ID && !slices.ContainsFunc(subnets, func(o Subnet) bool { return o.ID == sub.ID })
			}
			records.DropAll(tx, &s.subnets, gone)
		}
		for _, sub := range subnets {
			if err := records.Put(tx, &s.subnets, sub.ID, sub); err != nil {
				return err
			}
		}
		return nil
	})
}

// LearnGroups copies a project's security groups.
func (s *Service) LearnGroups(ctx context.Context, project string) error {
	if !s.remote() {
		return nil
	}
	groups, rules, err := s.cfg.Neutron.Groups(ctx, project)
	if err != nil {
		return err
	}
	return s.commit(ctx, func(tx *records.Tx) error {
		records.DropAll(tx, &s.groups, func(g SecurityGroup) bool { return g.Project == project })
		records.DropAll(tx, &s.rules, func(r Rule) bool { return r.Project == project })
		for _, g := range groups {
			if err := records.Put(tx, &s.groups, g.ID, g); err != nil {
				return err
			}
		}
		for _, r := range rules {
			if err := records.Put(tx, &s.rules, r.ID, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// LearnPort copies a port. What is known of it here alone stays.
func (s *Service) LearnPort(ctx context.Context, id string) (Port, error) {
	if !s.remote() {
		return s.Port(id)
	}
	p, err := s.cfg.Neutron.Port(ctx, id)
	if err != nil {
		return Port{}, err
	}
	err = s.keep(ctx, &p)
	return p, err
}

// keep records a copy of a port.
func (s *Service) keep(ctx context.Context, p *Port) error {
	return s.commit(ctx, func(tx *records.Tx) error {
		if old, there := s.ports.Rows[p.ID]; there && old.Device == p.Device {
			p.Index, p.Made, p.Tap, p.Tag, p.Bandwidth = old.Index, old.Made, old.Tap, old.Tag, old.Bandwidth
			if p.VIF.Type == vifUnbound || p.VIF.Type == vifFailed {
				p.VIF = old.VIF // what it is plugged into
			}
		}
		return records.Put(tx, &s.ports, p.ID, *p)
	})
}

// Usable returns the networks that a project's servers may be on; of this host's own,
// where the project is empty, all.
func (s *Service) Usable(ctx context.Context, project string) ([]Network, error) {
	if !s.remote() {
		return s.Networks(func(n Network) bool { return project == "" || n.Project == project || n.Shared || n.External }), nil
	}
	project, err := s.projectOf(ctx, project)
	if err != nil {
		return nil, err
	}
	return s.LearnNetworks(ctx, project, "")
}

// AutoNetwork returns the network of a server that asks for none by name: the default
// one, or of a Neutron's the one that there is.
func (s *Service) AutoNetwork(ctx context.Context, project string) (Network, error) {
	if !s.remote() {
		return s.DefaultNetwork(ctx)
	}
	project, err := s.projectOf(ctx, project)
	if err != nil {
		return Network{}, err
	}
	all, err := s.LearnNetworks(ctx, project, "")
	if err != nil {
		return Network{}, err
	}
	// A server without a network is of no use to who names none.
	usable := slices.DeleteFunc(all, func(n Network) bool { return n.External && n.Project != project || len(s.SubnetsOf(n.ID)) == 0 })
	switch len(usable) {
	case 0:
		return Network{}, invalid("Neutron has no network for project %s: openstack network create", project)
	case 1:
		return usable[0], nil
	}
	return Network{}, conflict("Multiple possible networks found, use a Network ID to be more specific.")
}

// findRemote is Find where networks are a Neutron's.
func (s *Service) findRemote(ctx context.Context, ref, project string) (Network, error) {
	if ref == "" {
		return s.AutoNetwork(ctx, project)
	}
	found, err := s.LearnNetworks(ctx, project, ref)
	if err != nil {
		return Network{}, err
	}
	if i := slices.IndexFunc(found, func(n Network) bool { return n.ID == ref }); i >= 0 {
		return found[i], nil
	}
	switch len(found) {
	case 0:
		return Network{}, invalid("no network with a name or ID of %q exists: `openstack network list` shows those that do", ref)
	case 1:
		return found[0], nil
	}
	return Network{}, conflict("more than one network has the name %q: use an ID", ref)
}

// makeRemote is makePort where networks are a Neutron's.
func (s *Service) makeRemote(ctx context.Context, srv *launcher.Server, i int, r launcher.NetworkRequest) error {
	project, err := s.projectOf(ctx, srv.Project)
	if err != nil {
		return err
	}
	n, err := s.findRemote(ctx, r.Network, project)
	if err != nil {
		return err
	}
	p := Port{
		Base: Base{Project: project}, Network: n.ID, MAC: r.MAC, Device: srv.ID, Owner: OwnerServer,
		NoPortSecurity: n.NoPortSecurity, DNSName: launcher.Hostname(srv.Name),
	}
	if len(r.IPs) > 0 {
		p.FixedIPs = s.asked(n.ID, r.IPs)
	}
	if err := s.LearnGroups(ctx, project); err != nil {
		return err
	}
	if len(r.SecurityGroups) > 0 && !p.NoPortSecurity {
		if p.SecurityGroups, err = s.findGroups(r.SecurityGroups, project); err != nil {
			return err
		}
	}
	if p, err = s.cfg.Neutron.CreatePort(ctx, p); err != nil {
		return err
	}
	p.Index, p.Made, p.Tag, p.Bandwidth = i, true, r.Tag, bandwidth(srv.Flavor.ExtraSpecs)
	if err := s.keep(ctx, &p); err != nil {
		return errors.Join(err, s.cfg.Neutron.DeletePort(context.WithoutCancel(ctx), p.ID))
	}
	return s.bound(&p)
}

// bound refuses a port that this host cannot plug.
func (s *Service) bound(p *Port) error {
	switch p.VIF.Type {
	case VIFBridge, VIFOVS:
		return nil
	case vifFailed, vifUnbound, "":
		return launcher.Errorf(launcher.ErrUnavailable,
			"Binding failed for port %s: no agent of Neutron's that can look after it is alive on host %s (openstack network agent list; network.host says what this host is called there)", p.ID, p.Host)
	}
	return launcher.Errorf(launcher.ErrUnsupported, "port %s is bound as %s: only bridge and ovs can be plugged", p.ID, p.VIF.Type)
}

// takeRemote is take where networks are a Neutron's.
func (s *Service) takeRemote(ctx context.Context, srv *launcher.Server, i int, r launcher.NetworkRequest) error {
	project, err := s.projectOf(ctx, srv.Project)
	if err != nil {
		return err
	}
	old, err := s.cfg.Neutron.Port(ctx, r.Port)
	switch {
	case err != nil:
		return err
	case old.Project != project:
		return notFound("Port", r.Port)
	case old.Device != "" && old.Device != srv.ID:
		return conflict("Port %s is still in use.", old.ID)
	case len(old.FixedIPs) == 0 && !old.NoPortSecurity:
		return invalid("Port %s requires a FixedIP in order to be used.", old.ID)
	}
	if _, err := s.LearnNetworks(ctx, project, old.Network); err != nil {
		return err
	}
	if err := s.LearnGroups(ctx, project); err != nil {
		return err
	}
	p := old
	p.Device, p.Owner, p.DNSName = srv.ID, OwnerServer, launcher.Hostname(srv.Name)
	if p, err = s.cfg.Neutron.UpdatePort(ctx, old, p, true); err != nil {
		return err
	}
	p.Index, p.Tag, p.Bandwidth = i, r.Tag, bandwidth(srv.Flavor.ExtraSpecs)
	return errors.Join(s.keep(ctx, &p), s.bound(&p))
}

// updateRemote is UpdatePort where networks are a Neutron's.
func (s *Service) updateRemote(ctx context.Context, id string, f func(*Port) error) (Port, error) {
	old, err := s.cfg.Neutron.Port(ctx, id)
	if err != nil {
		return Port{}, err
	}
	p := old
	if err := f(&p); err != nil {
		return Port{}, err
	}
	if p, err = s.cfg.Neutron.UpdatePort(ctx, old, p, p.Device != ""); err != nil {
		return Port{}, err
	}
	err = s.keep(ctx, &p)
	return p, err
}

// letGoRemote takes a port from its server.
func (s *Service) letGoRemote(ctx context.Context, p Port) error {
	err := s.returned(ctx, p)
	if err != nil && !errors.Is(err, launcher.ErrNotFound) {
		return err
	}
	return s.commit(ctx, func(tx *records.Tx) error {
		records.Drop(tx, &s.ports, p.ID)
		return nil
	})
}

// returned gives a port back to Neutron.
func (s *Service) returned(ctx context.Context, p Port) error {
	if p.Made {
		return s.cfg.Neutron.DeletePort(ctx, p.ID)
	}
	free := p
	free.Device, free.Owner, free.DNSName = "", "", ""
	_, err := s.cfg.Neutron.UpdatePort(ctx, p, free, false)
	return err
}

// plugRemote joins a port to what it is bound to, and waits until it works.
func (s *Service) plugRemote(ctx context.Context, p Port) error {
	if err := s.bound(&p); err != nil {
		return err
	}
	p.Tap = interfaceOf(p.ID)
	if err := s.keepTap(ctx, p.ID, p.Tap); err != nil {
		return err
	}
	n, err := s.Network(p.Network)
	if err != nil {
		return err
	}
	if err := s.cfg.VIF.Plug(ctx, p, n.MTU); err != nil {
		return err
	}
	return s.untilActive(ctx, p.ID)
}

// interfaceOf is the name by which Neutron's agents know the tap of a port.
func interfaceOf(port string) string { return "tap" + port[:11] }

func (s *Service) keepTap(ctx context.Context, id, tap string) error {
	return s.commit(ctx, func(tx *records.Tx) error {
		p, err := row(&s.ports, "Port", id)
		if err != nil {
			return err
		}
		p.Tap = tap
		return records.Put(tx, &s.ports, id, p)
	})
}

// untilActive waits for Neutron's agent. A port that is down on purpose is waited for
// by nobody.
func (s *Service) untilActive(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience,
		launcher.Errorf(launcher.ErrUnavailable, "port %s is not active %s after it was plugged: see the log of Neutron's agent on this host", id, patience))
	defer cancel()
	for {
		p, err := s.LearnPort(ctx, id)
		if err == nil && (p.Status == StatusActive || p.Down) {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(poll):
		}
	}
}

// unplugRemote takes a server's ports from the host.
func (s *Service) unplugRemote(ctx context.Context, server string) error {
	var errs []error
	for _, p := range s.PortsOf(server) {
		errs = append(errs, s.unplugPort(ctx, p))
	}
	return errors.Join(errs...)
}

func (s *Service) unplugPort(ctx context.Context, p Port) error {
	if p.Tap == "" {
		return nil
	}
	if err := s.cfg.VIF.Unplug(ctx, p); err != nil {
		return err
	}
	return s.keepTap(ctx, p.ID, "")
}

// strays gives ports back that were made for servers which never came to be.
func (s *Service) strays(ctx context.Context, servers map[string]bool) error {
	all, err := s.cfg.Neutron.Ports(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range all {
		if _, there := servers[p.Device]; there {
			continue
		}
		s.log.Warn("port without a server given back", "port", p.ID, "server", p.Device)
		errs = append(errs, s.returned(ctx, p))
	}
	return errors.Join(errs...)
}

// defaultRemote is DefaultGroup where networks are a Neutron's, which makes it.
func (s *Service) defaultRemote(ctx context.Context, project string) (SecurityGroup, error) {
	if err := s.LearnGroups(ctx, project); err != nil {
		return SecurityGroup{}, err
	}
	found := s.Groups(func(g SecurityGroup) bool { return g.Name == DefaultName && g.Project == project })
	if len(found) == 0 {
		return SecurityGroup{}, notFound("Security group", DefaultName)
	}
	return found[0], nil
}

// refused says where what a Neutron has is changed.
func refused(what string) error {
	return launcher.Errorf(launcher.ErrUnsupported, "%s are Neutron's (network.url), and changed there: openstack network --help", what)
}
