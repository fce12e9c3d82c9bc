package network

// Responder answers the servers of networks on their bridges: DNS, DHCP, metadata.
type Responder interface {
	// Up begins to answer on a bridge, or goes on with what has changed.
	Up(b Bridge) error
	// Down ends what answers on a bridge, which may be gone already.
	Down(bridge string)
}

// attend has the responder answer on the bridges of a state and no others.
func (s *Service) attend(st State) {
	if s.cfg.Responder == nil {
		return
	}
	there := map[string]bool{}
	for _, b := range st.Bridges {
		there[b.Name] = true
		if err := s.cfg.Responder.Up(b); err != nil {
			s.log.Error("servers of a network are not answered", "network", b.Network.ID, "bridge", b.Name, "err", err)
		}
		s.attended[b.Name] = true
	}
	for name := range s.attended {
		if !there[name] {
			s.cfg.Responder.Down(name)
			delete(s.attended, name)
		}
	}
}
