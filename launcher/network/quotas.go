package network

import (
	"context"
	"maps"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Limits are the most that a project may have of each kind of record, by Neutron's
// names of them. What belongs to nobody is not limited.
type Limits map[string]int

// Unlimited is the limit that is none.
const Unlimited = -1

// DefaultLimits are Neutron's.
func DefaultLimits() Limits {
	return Limits{
		"network": 100, "subnet": 100, "port": 500, "floatingip": 50, "security_group": 10, "security_group_rule": 100,
		"router": 10, "rbac_policy": 10, "subnetpool": Unlimited,
	}
}

// Limits returns a project's.
func (s *Service) Limits(project string) Limits {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.limitsOf(project)
}

// limitsOf is Limits under the caller's lock.
func (s *Service) limitsOf(project string) Limits {
	all := DefaultLimits()
	maps.Copy(all, s.limits.Rows[project])
	return all
}

// Limited returns the limits that were set, by project.
func (s *Service) Limited() map[string]Limits {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return maps.Clone(s.limits.Rows)
}

// SetLimits changes some of a project's.
func (s *Service) SetLimits(ctx context.Context, project string, l Limits) error {
	for name, n := range l {
		if _, known := DefaultLimits()[name]; !known {
			return invalid("Unrecognized attribute(s) '%s'", name)
		}
		if n < Unlimited {
			return invalid("Invalid input for %s. Reason: '%d' is less than %d.", name, n, Unlimited)
		}
	}
	return s.change(ctx, func(tx *records.Tx) error {
		all := maps.Clone(s.limits.Rows[project])
		if all == nil {
			all = Limits{}
		}
		maps.Copy(all, l)
		return records.Put(tx, &s.limits, project, all)
	})
}

// ResetLimits gives a project the default ones again.
func (s *Service) ResetLimits(ctx context.Context, project string) error {
	return s.change(ctx, func(tx *records.Tx) error {
		records.Drop(tx, &s.limits, project)
		return nil
	})
}

// Used counts what a project has of each kind.
func (s *Service) Used(project string) map[string]int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return map[string]int{
		"network": count(&s.networks, networkBase, project), "subnet": count(&s.subnets, subnetBase, project), "port": count(&s.ports, portBase, project),
		"floatingip": count(&s.floating, floatingBase, project), "security_group": count(&s.groups, groupBase, project), "security_group_rule": count(&s.rules, ruleBase, project),
		"router": 0, "rbac_policy": 0, "subnetpool": 0,
	}
}

func count[T any](t *records.Table[T], base func(*T) *Base, project string) int {
	n := 0
	for _, v := range t.Rows {
		if base(&v).Project == project {
			n++
		}
	}
	return n
}

// admit refuses one more record where a project has as many as it may.
func admit[T any](s *Service, kind string, t *records.Table[T], base func(*T) *Base, project string) error {
	most := s.limitsOf(project)[kind]
	if project == "" || most == Unlimited || count(t, base, project) < most {
		return nil
	}
	return conflict("Quota exceeded for resources: ['%s'].", kind)
}
