package identity

import (
	"cmp"
	"context"
	"slices"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Role returns one role.
func (d *Directory) Role(id string) (Role, error) { return show(d, &d.roles, "role", id) }

// Roles lists the roles that pass, by name.
func (d *Directory) Roles(pass func(Role) bool) []Role {
	return list(d, &d.roles, pass, func(r Role) string { return r.Name })
}

// CreateRole makes a role.
func (d *Directory) CreateRole(ctx context.Context, r Role) (Role, error) {
	r.ID = newID()
	err := d.change(ctx, func(tx *records.Tx) error {
		if r.DomainID != "" {
			if err := d.isDomain(r.DomainID); err != nil {
				return err
			}
		}
		if err := d.checkRole(r); err != nil {
			return err
		}
		return records.Put(tx, &d.roles, r.ID, r)
	})
	return r, err
}

func (d *Directory) checkRole(r Role) error {
	_, taken := d.roles.Find(func(o Role) bool { return o.ID != r.ID && o.DomainID == r.DomainID && o.Name == r.Name })
	if taken {
		return duplicate("role", r.Name, cmp.Or(r.DomainID, "None"))
	}
	return checkName("role", r.Name)
}

// UpdateRole changes a role as edit says, which must replace what maps and slices
// it changes.
func (d *Directory) UpdateRole(ctx context.Context, id string, edit func(*Role) error) (r Role, err error) {
	err = d.change(ctx, func(tx *records.Tx) error {
		old, ok := d.roles.Rows[id]
		if !ok {
			return notFound("role", id)
		}
		r = old
		if err := edit(&r); err != nil {
			return err
		}
		if Immutable(old.Options) && Immutable(r.Options) {
			return forbidden("Cannot modify immutable role: %s.", id)
		}
		if r.ID != old.ID || r.DomainID != old.DomainID {
			return invalid("The id and the domain of a role stay as they are.")
		}
		if err := d.checkRole(r); err != nil {
			return err
		}
		return records.Put(tx, &d.roles, id, r)
	})
	return r, err
}

// Imply makes one role imply another, or no longer.
func (d *Directory) Imply(ctx context.Context, id, implied string, yes bool) error {
	return d.change(ctx, func(tx *records.Tx) error {
		r, ok := d.roles.Rows[id]
		if !ok {
			return notFound("role", id)
		}
		other, ok := d.roles.Rows[implied]
		if !ok {
			return notFound("role", implied)
		}
		if yes && r.DomainID == "" && other.DomainID != "" {
			return forbidden("Role %s of a domain cannot be implied by role %s of none.", implied, id)
		}
		has := slices.Contains(r.Implies, implied)
		switch {
		case yes && slices.ContainsFunc(d.withImplied([]string{implied}), func(r Role) bool { return r.ID == id }):
			return invalid("Role %s cannot imply %s, which implies it.", id, implied)
		case !yes && !has:
			return notFound("role implication", id+"/"+implied)
		}
		r.Implies = without(r.Implies, implied)
		if yes {
			r.Implies = append(r.Implies, implied)
		}
		return records.Put(tx, &d.roles, id, r)
	})
}

// DeleteRole removes a role from whoever has it.
func (d *Directory) DeleteRole(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		r, ok := d.roles.Rows[id]
		if !ok {
			return notFound("role", id)
		}
		if Immutable(r.Options) {
			return forbidden("Cannot delete immutable role: %s.", id)
		}
		records.Drop(tx, &d.roles, id)
		for _, o := range d.roles.Rows {
			if o.ID != id && slices.Contains(o.Implies, id) {
				o.Implies = without(o.Implies, id)
				if err := records.Put(tx, &d.roles, o.ID, o); err != nil {
					return err
				}
			}
		}
		records.DropAll(tx, &d.assignments, func(a Assignment) bool { return a.Role == id })
		for _, c := range d.credentials.Rows {
			if slices.Contains(c.Roles, id) {
				c.Roles = without(c.Roles, id)
				if err := records.Put(tx, &d.credentials, c.ID, c); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// global returns roles and what they imply, without the roles of domains: these are
// but words for what they imply, and no policy knows them.
func (d *Directory) global(ids []string) []Role {
	return slices.DeleteFunc(d.withImplied(ids), func(r Role) bool { return r.DomainID != "" })
}

// withImplied returns roles and what they imply, by name.
func (d *Directory) withImplied(ids []string) []Role {
	all := map[string]Role{}
	for len(ids) > 0 {
		r, ok := d.roles.Rows[ids[0]]
		if _, seen := all[ids[0]]; ok && !seen {
			all[r.ID] = r
			ids = append(ids, r.Implies...)
		}
		ids = ids[1:]
	}
	return sorted(all, nil, func(r Role) string { return r.Name })
}

// Grant gives a role; who has it already keeps it.
func (d *Directory) Grant(ctx context.Context, a Assignment) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if err := d.checkAssignment(a); err != nil {
			return err
		}
		return records.Put(tx, &d.assignments, a.key(), a)
	})
}

// Revoke takes a role away that was given so.
func (d *Directory) Revoke(ctx context.Context, a Assignment) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.assignments.Rows[a.key()]; !ok {
			return notFound("role assignment with role", a.String())
		}
		records.Drop(tx, &d.assignments, a.key())
		return nil
	})
}

// Granted reports whether a role was given so.
func (d *Directory) Granted(a Assignment) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if _, ok := d.assignments.Rows[a.key()]; !ok {
		return notFound("role assignment with role", a.String())
	}
	return nil
}

// String says what is given to whom, as Keystone does.
func (a Assignment) String() string {
	who, where := "user "+a.User, "project or domain "+a.Project
	if a.Group != "" {
		who = "group " + a.Group
	}
	if a.Project == "" {
		where = "the system"
	}
	return a.Role + ", " + who + ", " + where
}

func (d *Directory) checkAssignment(a Assignment) error {
	role, ok := d.roles.Rows[a.Role]
	if !ok {
		return notFound("role", a.Role)
	}
	if _, ok := d.users.Rows[a.User]; a.User != "" && !ok {
		return notFound("user", a.User)
	}
	if _, ok := d.groups.Rows[a.Group]; a.Group != "" && !ok {
		return notFound("group", a.Group)
	}
	target, ok := d.projects.Rows[a.Project]
	if a.Project != "" && !ok {
		return notFound("project", a.Project)
	}
	if role.DomainID != "" && target.DomainID != "" && role.DomainID != target.DomainID {
		return forbidden("Role %s belongs to another domain than project %s.", role.ID, target.ID)
	}
	return nil
}

// Assignments lists the assignments that pass.
func (d *Directory) Assignments(pass func(Assignment) bool) []Assignment {
	return list(d, &d.assignments, pass, Assignment.key)
}

// Effective lists what assignments come to: for each user, project and role one,
// groups, inheritance and implied roles resolved. What is for the system stays
// apart, its Project empty.
func (d *Directory) Effective() []Assignment {
	d.mu.RLock()
	defer d.mu.RUnlock()
	all := map[string]Assignment{}
	for _, a := range d.assignments.Rows {
		users := []string{a.User}
		if a.Group != "" {
			users = d.groups.Rows[a.Group].Members
		}
		targets := []string{a.Project}
		if a.Inherited {
			targets = nil
			for id := range d.projects.Rows {
				if slices.Contains(d.above(id), a.Project) {
					targets = append(targets, id)
				}
			}
		}
		for _, role := range d.global([]string{a.Role}) {
			for _, user := range users {
				for _, target := range targets {
					e := Assignment{Role: role.ID, User: user, Project: target}
					all[e.key()] = e
				}
			}
		}
	}
	return sorted(all, nil, Assignment.key)
}

// rolesOn returns the roles that a user has on a project or domain, or where it is
// empty on the system, with all they imply.
func (d *Directory) rolesOn(user, project string) []Role {
	above := d.above(project)
	var ids []string
	for _, a := range d.assignments.Rows {
		mine := a.User == user || a.Group != "" && slices.Contains(d.groups.Rows[a.Group].Members, user)
		here := !a.Inherited && a.Project == project || a.Inherited && slices.Contains(above, a.Project)
		if mine && here {
			ids = append(ids, a.Role)
		}
	}
	return d.global(ids)
}

// ProjectsOf lists the projects, or the domains, on which a user has a role.
func (d *Directory) ProjectsOf(user string, domains bool) []Project {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(d.projects.Rows, func(p Project) bool {
		return p.IsDomain == domains && len(d.rolesOn(user, p.ID)) > 0
	}, projectName)
}
