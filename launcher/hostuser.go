package launcher

import (
	"context"
	"slices"
)

// NetworkHostUser is the host's own network, by a process of the engine's user: it
// needs no privileges, and changes nothing of the host's.
const NetworkHostUser = "host-user"

// HostUser gives servers the network [NetworkHostUser]. [passt.Network] does.
type HostUser interface {
	// Ready says what this host lacks for it.
	Ready(ctx context.Context) error
	// Allocate says what interface a new server will have.
	Allocate(srv *Server) NIC
	// Plug starts what stands between a server's domain and the host's network, and
	// publishes its ports. It keeps its files in dir. After an error nothing of it
	// is left.
	Plug(ctx context.Context, srv *Server, dir string) (*Plugged, error)
	// Unplug ends what Plug has started. What is not there is no error.
	Unplug(ctx context.Context, dir string) error
}

// Rootless reports whether servers cannot have networks of Slipway's own.
func (m *Manager) Rootless() bool { return m.cfg.Rootless }

// OnHostUser reports whether a server has the host's network.
func (s *Server) OnHostUser() bool { return s.Spec.hostUser() }

// hostUser reports whether a server has the host's network.
func (s *Spec) hostUser() bool {
	return slices.ContainsFunc(s.Networks, func(n NetworkRequest) bool { return n.Network == NetworkHostUser })
}

// validateHostUser refuses what only a network of Slipway's own can give.
func (s *Spec) validateHostUser() error {
	if !s.hostUser() {
		return nil
	}
	n := s.Networks[0]
	switch {
	case len(s.Networks) > 1:
		return errorf(ErrInvalid, "--network %s excludes other networks", NetworkHostUser)
	case len(n.IPs) > 0 || n.SecurityGroups != nil:
		return errorf(ErrInvalid, "--network %s has one address, which cannot be chosen, and no security groups", NetworkHostUser)
	}
	return nil
}

// chooseNetwork gives a server that names no network the one that an ordinary user's
// engine has: the host's, or where it cannot be had none.
func (m *Manager) chooseNetwork(ctx context.Context, s *Spec) {
	if m.cfg.Rootless && s.Networks == nil && (len(s.Publish) > 0 || m.hostUserReady(ctx) == nil) {
		s.Networks = []NetworkRequest{{Network: NetworkHostUser}}
	}
}

func (m *Manager) hostUserReady(ctx context.Context) error {
	if m.cfg.HostUser == nil {
		return errorf(ErrUnavailable, "this engine has no network %s", NetworkHostUser)
	}
	return m.cfg.HostUser.Ready(ctx)
}

// publishHostUser replaces what will be published of a server on the host's network.
func (m *Manager) publishHostUser(ctx context.Context, i *instance, ports []Publish) (Server, error) {
	srv, _ := i.snapshot()
	if !srv.settled() {
		return Server{}, errorf(ErrConflict, "ports of a server on network %s are published when it starts: stop %s first", NetworkHostUser, srv.Name)
	}
	err := i.update(ctx, m.cfg.Store, func(s *Server) { s.Spec.Publish = ports })
	srv, _ = i.snapshot()
	return srv, err
}
