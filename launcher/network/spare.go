package network

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// spare is a port that is yet to be made: what its server's domain has to be started
// with is decided, and there is no record of it.
type spare struct {
	port string // ID
	nic  domain.NIC
}

// Spare implements launcher.Sparer.
func (s *Service) Spare(ctx context.Context, server string, mtus []int) ([]domain.NIC, error) {
	if s.remote() {
		return nil, launcher.Errorf(launcher.ErrUnsupported, "an interface of a Neutron's networks cannot be made before its port")
	}
	var nics []domain.NIC
	s.mu.Lock()
	for _, mtu := range mtus {
		id := uuid.NewString()
		nic := domain.NIC{MAC: s.newMAC(), Tap: s.interfaceName("st", id), MTU: mtu}
		s.spares[server] = append(s.spares[server], spare{id, nic})
		nics = append(nics, nic)
	}
	s.mu.Unlock()
	if err := s.apply(ctx); err != nil {
		return nil, errors.Join(err, s.Release(context.WithoutCancel(ctx), server))
	}
	return nics, nil
}

// spareOf returns what is there for an interface of a server.
func (s *Service) spareOf(server string, index int) (spare, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if all := s.spares[server]; index < len(all) {
		return all[index], true
	}
	return spare{}, false
}
