package compute

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// ServiceState is what the compute service of this host is known by, and what an
// administrator has said of it.
type ServiceState struct {
	ID             string    `json:"id"`      // UUID of the service
	NodeID         string    `json:"node_id"` // UUID of the hypervisor
	Disabled       bool      `json:"disabled,omitempty"`
	DisabledReason *string   `json:"disabled_reason,omitempty"`
	ForcedDown     bool      `json:"forced_down,omitempty"`
	Updated        time.Time `json:"updated,omitzero"` // when that was said
}

// Takes reports whether new servers are put on the host.
func (s ServiceState) Takes() bool { return !s.Disabled && !s.ForcedDown }

// Service is the compute service of this host.
type Service struct {
	Host  string
	table *table[ServiceState]
	now   func() time.Time
}

const serviceKey = "nova-compute"

func openService(ctx context.Context, cfg Config) (*Service, error) {
	t, err := openTable[ServiceState](ctx, cfg.Store, "service")
	if err != nil {
		return nil, err
	}
	s := &Service{Host: cfg.Host, table: t, now: cfg.Now}
	_, err = t.change(ctx, serviceKey, func(state ServiceState, exists bool) (ServiceState, error) {
		if !exists {
			state = ServiceState{ID: uuid.NewString(), NodeID: uuid.NewString()}
		}
		return state, nil
	})
	return s, err
}

// State returns the service as it is.
func (s *Service) State() ServiceState {
	state, _ := s.table.get(serviceKey)
	return state
}

// Set changes what is said of the service.
func (s *Service) Set(ctx context.Context, change func(*ServiceState)) (ServiceState, error) {
	return s.table.change(ctx, serviceKey, func(state ServiceState, _ bool) (ServiceState, error) {
		change(&state)
		state.Updated = s.now()
		return state, nil
	})
}

// DefaultZone is the availability zone of hosts that no aggregate puts into another.
const DefaultZone = "nova"

// Zone is the availability zone of this host.
func (c *Compute) Zone() string {
	for _, a := range c.Aggregates.All() {
		if zone := a.Metadata[zoneKey]; zone != "" && slices.Contains(a.Hosts, c.Service.Host) {
			return zone
		}
	}
	return DefaultZone
}
