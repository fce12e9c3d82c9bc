package network

import (
	"context"
	"slices"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Attach implements launcher.Attacher.
func (s *Service) Attach(ctx context.Context, srv *launcher.Server, r launcher.NetworkRequest) (launcher.NIC, error) {
	have, index := map[string]bool{}, 0
	for _, p := range s.PortsOf(srv.ID) {
		have[p.ID], index = true, max(index, p.Index+1)
	}
	if err := s.join(ctx, srv, index, r); err != nil {
		return launcher.NIC{}, err
	}
	for _, n := range s.NICs(srv) {
		if !have[n.Port] {
			return n, nil
		}
	}
	return launcher.NIC{}, conflict("Port %s is attached already.", r.Port)
}

// PlugPort implements launcher.Attacher.
func (s *Service) PlugPort(ctx context.Context, srv *launcher.Server, port string) (*launcher.Plugged, error) {
	p, err := s.LearnPort(ctx, port)
	switch {
	case err != nil:
	case s.remote():
		err = s.plugRemote(ctx, p)
	default:
		err = s.plugLocal(ctx, port)
	}
	if err != nil {
		return nil, err
	}
	all, err := s.plugged(srv.ID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.PortsOf(srv.ID), func(p Port) bool { return p.ID == port })
	if i < 0 || i >= len(all.NICs) {
		return nil, notFound("Port", port) // it was deleted meanwhile
	}
	return &launcher.Plugged{
		NICs: all.NICs[i : i+1], Config: &cloudinit.NetworkConfig{Links: all.Config.Links[i : i+1]}, Published: all.Published,
	}, nil
}

func (s *Service) plugLocal(ctx context.Context, port string) error {
	err := s.commit(ctx, func(tx *records.Tx) error {
		p, err := row(&s.ports, "Port", port)
		if err != nil {
			return err
		}
		p.Tap, p.Status = s.interfaceName("st", p.ID), StatusActive
		return records.Put(tx, &s.ports, p.ID, p)
	})
	if err != nil {
		return err
	}
	return s.apply(ctx)
}

// Detach implements launcher.Attacher. A port that was made for the server goes.
func (s *Service) Detach(ctx context.Context, server, port string) error {
	p, err := s.Port(port)
	if err != nil {
		return err
	}
	if p.Device != server {
		return notFound("Port", port)
	}
	if s.remote() {
		if err := s.unplugPort(ctx, p); err != nil {
			return err
		}
		return s.letGoRemote(ctx, p)
	}
	return s.change(ctx, func(tx *records.Tx) error {
		p, err := row(&s.ports, "Port", port)
		if err != nil {
			return err
		}
		return s.letGo(tx, p)
	})
}

// letGo takes a port from its server.
func (s *Service) letGo(tx *records.Tx, p Port) error {
	if p.Made {
		return s.dropPort(tx, p)
	}
	p.Device, p.Owner, p.DNSName, p.Tag = "", "", "", ""
	p.Tap, p.Status = "", StatusDown
	return records.Put(tx, &s.ports, p.ID, p)
}

// ConfigOf is what a server's guest is told of its networks; nil without a port.
func (s *Service) ConfigOf(server string) *cloudinit.NetworkConfig {
	p, err := s.plugged(server)
	if err != nil || len(p.Config.Links) == 0 {
		return nil
	}
	return p.Config
}
