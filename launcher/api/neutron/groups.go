package neutron

import (
	"context"
	"net/netip"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

func groupBase(g *network.SecurityGroup) *network.Base { return &g.Base }
func ruleBase(r *network.Rule) *network.Base           { return &r.Base }

// ensureDefault makes a project's default security group, which every project has.
func (a *api) ensureDefault(ctx context.Context, project string) error {
	_, err := a.net.DefaultGroup(ctx, project)
	return err
}

// deleteGroup leaves a default security group to administrators, who delete it with
// its project.
func (a *api) deleteGroup(ctx context.Context, id string) error {
	g, err := a.net.Group(id)
	if err != nil {
		return err
	}
	if g.Name == network.DefaultName && !openstack.CallerOf(ctx).Has(openstack.Admin) {
		return launcher.Errorf(launcher.ErrConflict, "Removal of default security group is not allowed.")
	}
	return a.net.DeleteGroup(ctx, id)
}

func (a *api) groups() *resource[network.SecurityGroup] {
	type G = network.SecurityGroup
	x := &resource[G]{
		name: "security_group", plural: "security_groups", title: "Security Group", base: groupBase, required: []string{"name"},
		all: func() []G { return a.net.Groups(nil) }, find: a.net.Group,
		create: a.net.CreateGroup, update: a.net.UpdateGroup, remove: a.deleteGroup, before: a.ensureDefault,
	}
	rules := a.rules()
	x.attributes = append(common(a, groupBase),
		attribute[G]{name: "stateful", when: anyWrite, show: func(g *G) any { return !g.Stateless }, set: anInverse(func(g *G) *bool { return &g.Stateless })},
		attribute[G]{name: "shared", show: fixed[G](false)},
		attribute[G]{name: "security_group_rules", show: func(g *G) any {
			return list(a.net.RulesOf(g.ID), func(r network.Rule) any { return rules.view(nil, &r, nil) })
		}},
	)
	return x
}

func (a *api) rules() *resource[network.Rule] {
	type R = network.Rule
	x := &resource[R]{
		name: "security_group_rule", plural: "security_group_rules", title: "Security Group Rule", base: ruleBase,
		required: []string{"security_group_id", "direction"}, defaults: R{EtherType: "IPv4"},
		all: func() []R { return a.net.Rules(nil) }, find: a.net.Rule,
		create: a.net.CreateRule, remove: a.net.DeleteRule, before: a.ensureDefault, check: a.checkRule,
	}
	for _, at := range common(a, ruleBase) {
		if at.name != "name" && at.name != "tags" { // rules have none
			x.attributes = append(x.attributes, at)
		}
	}
	x.attributes = append(x.attributes,
		attribute[R]{name: "security_group_id", when: post, show: func(r *R) any { return r.Group }, set: anID(func(r *R) *string { return &r.Group })},
		attribute[R]{name: "direction", when: post, show: func(r *R) any { return string(r.Direction) }, set: func(r *R, v any) error {
			s, _ := v.(string)
			r.Direction = network.Direction(s)
			return nil // the records say what it may be
		}},
		attribute[R]{name: "ethertype", when: post, show: func(r *R) any { return r.EtherType }, set: setEtherType},
		attribute[R]{name: "protocol", when: post, show: func(r *R) any { return textOrNull(r.Protocol) }, set: setProtocol},
		attribute[R]{name: "port_range_min", when: post, show: func(r *R) any { return number(r.Min) }, set: aNumber(func(r *R) **int { return &r.Min })},
		attribute[R]{name: "port_range_max", when: post, show: func(r *R) any { return number(r.Max) }, set: aNumber(func(r *R) **int { return &r.Max })},
		attribute[R]{name: "remote_ip_prefix", when: post, show: func(r *R) any { return showRemote(r.RemotePrefix) }, set: func(r *R, v any) (err error) {
			if v != nil {
				r.RemotePrefix, err = prefix(v, true)
			}
			return err
		}},
		attribute[R]{name: "normalized_cidr", show: func(r *R) any { return showRemote(r.RemotePrefix.Masked()) }},
		attribute[R]{name: "remote_group_id", when: post, show: func(r *R) any { return textOrNull(r.RemoteGroup) }, set: anOptionalID(func(r *R) *string { return &r.RemoteGroup })},
		attribute[R]{name: "remote_address_group_id", when: post, show: fixed[R](nil), set: ignored[R]()},
	)
	return x
}

// checkRule refuses groups that are not the caller's, and ports without what they
// are ports of.
func (a *api) checkRule(c *openstack.Caller, r *network.Rule, _ view) error {
	for _, id := range []string{r.Group, r.RemoteGroup} {
		if id == "" {
			continue
		}
		g, err := a.net.Group(id)
		if err != nil || !a.owns(c, &g.Base) {
			return a.groups().missing(id)
		}
		if id == r.Group {
			r.Project = g.Project // a rule goes with its group
		}
	}
	return nil
}

func showRemote(p netip.Prefix) any {
	if p == (netip.Prefix{}) {
		return nil
	}
	return p.String()
}

func setEtherType(r *network.Rule, v any) error {
	s, _ := v.(string)
	switch strings.ToLower(s) {
	case "ipv4":
		r.EtherType = "IPv4"
	case "ipv6":
		r.EtherType = "IPv6"
	default:
		return reasonf("'%v' is not in ['IPv4', 'IPv6']", shown(v))
	}
	return nil
}

// setProtocol takes a name, a number or null.
func setProtocol(r *network.Rule, v any) error {
	switch v := v.(type) {
	case nil:
		r.Protocol = ""
	case string:
		r.Protocol = strings.ToLower(v)
	case float64:
		r.Protocol = text(int(v))
	default:
		return reasonf("'%v' is not a protocol", v)
	}
	return nil
}

// number is a whole number or null.
func number(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

func aNumber[T any](at func(*T) **int) func(*T, any) error {
	return func(x *T, v any) error {
		if v == nil {
			*at(x) = nil
			return nil
		}
		n, err := integer(v)
		if err == nil {
			*at(x) = &n
		}
		return err
	}
}
