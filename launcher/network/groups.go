package network

import (
	"context"
	"slices"
	"strconv"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Groups returns the security groups that pass, oldest first; nil passes all.
func (s *Service) Groups(pass func(SecurityGroup) bool) []SecurityGroup {
	return list(s, &s.groups, groupBase, pass)
}

// Group returns one by its ID.
func (s *Service) Group(id string) (SecurityGroup, error) {
	return show(s, &s.groups, "Security group", id)
}

// DefaultGroup returns a project's default group, which is made where it is not
// there. It lets everything out, and in what comes from ports of the group.
func (s *Service) DefaultGroup(ctx context.Context, project string) (SecurityGroup, error) {
	if s.remote() {
		return s.defaultRemote(ctx, project)
	}
	var id string
	err := s.change(ctx, func(tx *records.Tx) (err error) {
		id, err = s.defaultGroup(tx, project)
		return err
	})
	if err != nil {
		return SecurityGroup{}, err
	}
	return s.Group(id)
}

func (s *Service) defaultGroup(tx *records.Tx, project string) (string, error) {
	if g, ok := s.groups.Find(func(g SecurityGroup) bool { return g.Name == DefaultName && g.Project == project }); ok {
		return g.ID, nil
	}
	g := SecurityGroup{Base: Base{Project: project, Name: DefaultName, Description: "Default security group"}}
	if err := s.addGroup(tx, &g); err != nil {
		return "", err
	}
	for _, ethertype := range []string{"IPv4", "IPv6"} {
		r := Rule{Base: Base{Project: project}, Group: g.ID, Direction: Ingress, EtherType: ethertype, RemoteGroup: g.ID}
		s.begin(&r.Base)
		if err := records.Put(tx, &s.rules, r.ID, r); err != nil {
			return "", err
		}
	}
	return g.ID, nil
}

// CreateGroup makes a security group whose rules let everything out and nothing in.
func (s *Service) CreateGroup(ctx context.Context, g SecurityGroup) (SecurityGroup, error) {
	if s.remote() {
		return g, refused("security groups")
	}
	if g.Name == DefaultName {
		return g, conflict("Default security group already exists.")
	}
	err := s.change(ctx, func(tx *records.Tx) error {
		if err := admit(s, "security_group", &s.groups, groupBase, g.Project); err != nil {
			return err
		}
		return s.addGroup(tx, &g)
	})
	return g, err
}

func (s *Service) addGroup(tx *records.Tx, g *SecurityGroup) error {
	s.begin(&g.Base)
	for _, ethertype := range []string{"IPv4", "IPv6"} {
		r := Rule{Base: Base{Project: g.Project}, Group: g.ID, Direction: Egress, EtherType: ethertype}
		s.begin(&r.Base)
		if err := records.Put(tx, &s.rules, r.ID, r); err != nil {
			return err
		}
	}
	return records.Put(tx, &s.groups, g.ID, *g)
}

// UpdateGroup changes a security group, whose rules are records of their own.
func (s *Service) UpdateGroup(ctx context.Context, id string, f func(*SecurityGroup) error) (SecurityGroup, error) {
	var g SecurityGroup
	if s.remote() {
		return g, refused("security groups")
	}
	err := s.change(ctx, func(tx *records.Tx) error {
		old, err := row(&s.groups, "Security group", id)
		if err != nil {
			return err
		}
		g = old
		if err := f(&g); err != nil {
			return err
		}
		if old.Name == DefaultName && g.Name != old.Name {
			return conflict("Updating default security group not allowed.")
		}
		s.touch(&g.Base, old.Base)
		return records.Put(tx, &s.groups, id, g)
	})
	return g, err
}

// DeleteGroup removes a security group that no port has, and its rules. A project
// whose default group it was has another when it needs one.
func (s *Service) DeleteGroup(ctx context.Context, id string) error {
	if s.remote() {
		return refused("security groups")
	}
	return s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.groups, "Security group", id); err != nil {
			return err
		}
		if _, used := s.ports.Find(func(p Port) bool { return slices.Contains(p.SecurityGroups, id) }); used {
			return conflict("Security Group %s in use.", id)
		}
		records.DropAll(tx, &s.rules, func(r Rule) bool { return r.Group == id || r.RemoteGroup == id })
		records.Drop(tx, &s.groups, id)
		return nil
	})
}

// Rules returns the rules that pass, oldest first; nil passes all.
func (s *Service) Rules(pass func(Rule) bool) []Rule { return list(s, &s.rules, ruleBase, pass) }

// RulesOf returns a security group's.
func (s *Service) RulesOf(group string) []Rule {
	return s.Rules(func(r Rule) bool { return r.Group == group })
}

// Rule returns one by its ID.
func (s *Service) Rule(id string) (Rule, error) { return show(s, &s.rules, "Security group rule", id) }

// CreateRule adds a rule to a security group.
func (s *Service) CreateRule(ctx context.Context, r Rule) (Rule, error) {
	if s.remote() {
		return r, refused("security groups")
	}
	err := s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.groups, "Security group", r.Group); err != nil {
			return err
		}
		if _, err := row(&s.groups, "Security group", r.RemoteGroup); r.RemoteGroup != "" && err != nil {
			return err
		}
		if err := admit(s, "security_group_rule", &s.rules, ruleBase, r.Project); err != nil {
			return err
		}
		s.begin(&r.Base)
		if err := r.check(); err != nil {
			return err
		}
		if same, ok := s.rules.Find(r.same); ok {
			return conflict("Security group rule already exists. Rule id is %s.", same.ID)
		}
		return records.Put(tx, &s.rules, r.ID, r)
	})
	return r, err
}

// same reports whether another rule allows the same.
func (r *Rule) same(o Rule) bool {
	equal := func(a, b *int) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
	return r.Group == o.Group && r.Direction == o.Direction && r.EtherType == o.EtherType &&
		r.ProtocolNumber() == o.ProtocolNumber() && equal(r.Min, o.Min) && equal(r.Max, o.Max) &&
		r.RemotePrefix.Masked() == o.RemotePrefix.Masked() && r.RemoteGroup == o.RemoteGroup
}

// DeleteRule removes a rule. What it let begin goes on.
func (s *Service) DeleteRule(ctx context.Context, id string) error {
	if s.remote() {
		return refused("security groups")
	}
	return s.change(ctx, func(tx *records.Tx) error {
		if _, err := row(&s.rules, "Security group rule", id); err != nil {
			return err
		}
		records.Drop(tx, &s.rules, id)
		return nil
	})
}

// protocols are the names that Neutron knows, and their numbers.
var protocols = map[string]int{
	"ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58,
	"igmp": 2, "ipip": 4, "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-nonxt": 59, "ipv6-opts": 60,
	"ipv6-route": 43, "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17,
	"udplite": 136, "vrrp": 112,
}

// anyProtocol is ProtocolNumber's answer where a rule names none.
const anyProtocol = -1

// ProtocolNumber is the rule's IP protocol, negative for any. ICMP of IPv6 has a
// number of its own.
func (r *Rule) ProtocolNumber() int {
	if r.Protocol == "" || r.Protocol == "any" {
		return anyProtocol
	}
	n, ok := protocols[r.Protocol]
	if !ok {
		n, _ = strconv.Atoi(r.Protocol) // check has seen it
	}
	if n == protocols["icmp"] && r.EtherType == "IPv6" {
		n = protocols["icmpv6"]
	}
	return n
}

func (r *Rule) check() error {
	if r.Direction != Ingress && r.Direction != Egress {
		return invalid("Invalid input for direction. Reason: '%s' is not in ['ingress', 'egress'].", r.Direction)
	}
	if r.EtherType != "IPv4" && r.EtherType != "IPv6" {
		return invalid("Security group rule for ethertype '%s' not supported. Allowed values are IPv4, IPv6.", r.EtherType)
	}
	if p := r.RemotePrefix; p.IsValid() {
		if r.RemoteGroup != "" {
			return invalid("Only remote_ip_prefix or remote_group_id may be provided.")
		}
		if p.Addr().Is4() != (r.EtherType == "IPv4") {
			return invalid("Conflicting value ethertype %s for CIDR %s", r.EtherType, p)
		}
	}
	if _, known := protocols[r.Protocol]; r.Protocol != "" && r.Protocol != "any" && !known {
		if n, err := strconv.Atoi(r.Protocol); err != nil || n < 0 || n > 255 {
			return invalid("Security group rule protocol %s not supported. Only protocol values tcp, udp, icmp and others of their kind, and integer representations [0 to 255] are supported.", r.Protocol)
		}
	}
	return r.checkPorts()
}

func (r *Rule) checkPorts() error {
	if r.Min == nil && r.Max == nil {
		return nil
	}
	switch n := r.ProtocolNumber(); n {
	case 1, 58:
		for what, v := range map[string]*int{"port_range_min": r.Min, "port_range_max": r.Max} {
			if v != nil && (*v < 0 || *v > 255) {
				return invalid("Invalid value for ICMP %s %d. It must be 0 to 255.", what, *v)
			}
		}
		if r.Min == nil {
			return invalid("ICMP code (port-range-max) %d is provided but ICMP type (port-range-min) is missing.", *r.Max)
		}
		return nil
	case 6, 17, 33, 132, 136:
		if r.Min == nil || r.Max == nil || *r.Min < 1 || *r.Max > 65535 || *r.Min > *r.Max {
			return invalid("For TCP/UDP protocols, port_range_min must be <= port_range_max, both 1 to 65535.")
		}
		return nil
	case anyProtocol:
		return invalid("Must also specify protocol if port range is given.")
	}
	return invalid("Invalid input for operation: a rule for protocol %s has no ports.", r.Protocol)
}
