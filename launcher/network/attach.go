package network

import (
	"context"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Attach gives a server that does not run one more interface.
func (s *Service) Attach(ctx context.Context, srv *launcher.Server, r launcher.NetworkRequest) (Port, error) {
	have, index := map[string]bool{}, 0
	for _, p := range s.PortsOf(srv.ID) {
		have[p.ID], index = true, max(index, p.Index+1)
	}
	var err error
	if r.Port != "" {
		err = s.take(ctx, srv, index, r)
	} else {
		err = s.makePort(ctx, srv, index, r)
	}
	if err != nil {
		return Port{}, err
	}
	for _, p := range s.PortsOf(srv.ID) {
		if !have[p.ID] {
			return p, nil
		}
	}
	return Port{}, conflict("Port %s is attached already.", r.Port)
}

// Detach takes an interface from a server that does not run. A port that was made for
// the server goes.
func (s *Service) Detach(ctx context.Context, server, port string) error {
	return s.change(ctx, func(tx *records.Tx) error {
		p, err := row(&s.ports, "Port", port)
		if err != nil {
			return err
		}
		if p.Device != server {
			return notFound("Port", port)
		}
		return s.letGo(tx, p)
	})
}

// letGo takes a port from its server.
func (s *Service) letGo(tx *records.Tx, p Port) error {
	if p.Made {
		return s.dropPort(tx, p)
	}
	p.Device, p.Owner, p.DNSName = "", "", ""
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
