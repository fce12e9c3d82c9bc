package identity

import (
	"context"
	"slices"

	"github.com/slipway-vm/slipway/launcher/records"
)

func projectName(p Project) string { return p.Name }

// Project returns one project or domain.
func (d *Directory) Project(id string) (Project, error) { return show(d, &d.projects, "project", id) }

// Domain returns one domain.
func (d *Directory) Domain(id string) (Project, error) {
	p, err := show(d, &d.projects, "domain", id)
	if err == nil && !p.IsDomain {
		return Project{}, notFound("domain", id)
	}
	return p, err
}

// Projects lists the projects and domains that pass, by name.
func (d *Directory) Projects(pass func(Project) bool) []Project {
	return list(d, &d.projects, pass, projectName)
}

// CreateProject makes a project or a domain, and gives it an id if it has none. A
// project without a domain gets its parent's, or the default one.
func (d *Directory) CreateProject(ctx context.Context, p Project) (Project, error) {
	if err := checkName("project", p.Name); err != nil {
		return Project{}, err
	}
	err := d.change(ctx, func(tx *records.Tx) error {
		if p.ID == "" {
			p.ID = newID()
		}
		if _, taken := d.projects.Rows[p.ID]; taken {
			return duplicate("project", p.ID, p.DomainID)
		}
		if err := d.place(&p); err != nil {
			return err
		}
		if err := d.uniqueProject(p); err != nil {
			return err
		}
		return records.Put(tx, &d.projects, p.ID, p)
	})
	return p, err
}

// place finds a project's domain and parent.
func (d *Directory) place(p *Project) error {
	if p.IsDomain {
		if p.DomainID != "" || p.ParentID != "" {
			return invalid("A domain has neither a domain nor a parent.")
		}
		return nil
	}
	if p.ParentID != "" {
		parent, ok := d.projects.Rows[p.ParentID]
		if !ok {
			return notFound("project", p.ParentID)
		}
		of := parent.DomainID
		if parent.IsDomain {
			of = parent.ID
		}
		if p.DomainID != "" && p.DomainID != of {
			return invalid("Cannot create project, since its parent (%s) is of another domain than %s.", p.ParentID, p.DomainID)
		}
		p.DomainID = of
	}
	if p.DomainID == "" {
		p.DomainID = DefaultDomain
	}
	if err := d.isDomain(p.DomainID); err != nil {
		return err
	}
	if p.ParentID == "" {
		p.ParentID = p.DomainID
	}
	return nil
}

func (d *Directory) isDomain(id string) error {
	if p, ok := d.projects.Rows[id]; !ok || !p.IsDomain {
		return notFound("domain", id)
	}
	return nil
}

func (d *Directory) uniqueProject(p Project) error {
	_, taken := d.projects.Find(func(o Project) bool {
		return o.ID != p.ID && o.IsDomain == p.IsDomain && o.DomainID == p.DomainID && o.Name == p.Name
	})
	switch {
	case taken && p.IsDomain:
		return duplicate("domain", p.Name, p.ID)
	case taken:
		return duplicate("project", p.Name, p.DomainID)
	}
	return nil
}

// UpdateProject changes a project or domain as edit says, which must replace what
// maps and slices it changes.
func (d *Directory) UpdateProject(ctx context.Context, id string, edit func(*Project) error) (p Project, err error) {
	err = d.change(ctx, func(tx *records.Tx) error {
		old, ok := d.projects.Rows[id]
		if !ok {
			return notFound("project", id)
		}
		p = old
		if err := edit(&p); err != nil {
			return err
		}
		if Immutable(old.Options) && Immutable(p.Options) {
			return forbidden("Cannot modify immutable project: %s.", id)
		}
		if p.ID != old.ID || p.DomainID != old.DomainID || p.ParentID != old.ParentID || p.IsDomain != old.IsDomain {
			return invalid("The id, the domain and the parent of a project stay as they are.")
		}
		if err := checkName("project", p.Name); err != nil {
			return err
		}
		if err := d.uniqueProject(p); err != nil {
			return err
		}
		if id == DefaultDomain && !p.Enabled {
			return forbidden("The default domain cannot be disabled.")
		}
		if old.Enabled && !p.Enabled {
			p.ShutBefore = d.cfg.Now()
		}
		return records.Put(tx, &d.projects, id, p)
	})
	return p, err
}

// DeleteProject removes a project, or a domain that is disabled, with all that is
// in it or for it.
func (d *Directory) DeleteProject(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		p, ok := d.projects.Rows[id]
		switch {
		case !ok:
			return notFound("project", id)
		case Immutable(p.Options):
			return forbidden("Cannot delete immutable project: %s.", id)
		case id == DefaultDomain:
			return forbidden("The default domain cannot be deleted.")
		case p.IsDomain && p.Enabled:
			return forbidden("Cannot delete a domain that is enabled, please disable it first.")
		}
		if !p.IsDomain {
			if child, ok := d.projects.Find(func(o Project) bool { return o.ParentID == id }); ok {
				return forbidden("Cannot delete project %s: project %s is below it.", id, child.ID)
			}
		}
		gone := []string{id}
		for _, o := range d.projects.Rows {
			if o.DomainID == id {
				gone = append(gone, o.ID)
			}
		}
		for _, one := range gone {
			records.Drop(tx, &d.projects, one)
		}
		var users, groups []string
		for _, u := range d.users.Rows {
			if u.DomainID == id {
				users = append(users, u.ID)
				records.Drop(tx, &d.users, u.ID)
			}
		}
		for _, g := range d.groups.Rows {
			if g.DomainID == id {
				groups = append(groups, g.ID)
				records.Drop(tx, &d.groups, g.ID)
			}
		}
		records.DropAll(tx, &d.roles, func(r Role) bool { return r.DomainID == id })
		records.DropAll(tx, &d.assignments, func(a Assignment) bool {
			return slices.Contains(gone, a.Project) || slices.Contains(users, a.User) || slices.Contains(groups, a.Group)
		})
		records.DropAll(tx, &d.credentials, func(c ApplicationCredential) bool {
			return slices.Contains(gone, c.Project) || slices.Contains(users, c.User)
		})
		records.DropAll(tx, &d.access, func(a AccessRule) bool { return slices.Contains(users, a.User) })
		records.DropAll(tx, &d.trusts, func(t Trust) bool {
			return slices.Contains(gone, t.Project) || slices.Contains(users, t.Trustor) || slices.Contains(users, t.Trustee)
		})
		records.DropAll(tx, &d.limits, func(l Limit) bool { return slices.Contains(gone, l.Project) })
		records.DropAll(tx, &d.stored, func(c StoredCredential) bool {
			return slices.Contains(gone, c.Project) || slices.Contains(users, c.User)
		})
		return nil
	})
}

// above lists a project's ancestors, its parent first and its domain last.
func (d *Directory) above(id string) []string {
	var list []string
	for {
		p, ok := d.projects.Rows[id]
		if !ok || p.ParentID == "" || slices.Contains(list, p.ParentID) {
			return list
		}
		list = append(list, p.ParentID)
		id = p.ParentID
	}
}

// Above lists a project's ancestors, its parent first, without its domain; Below
// what descends from it.
func (d *Directory) Above(id string) []Project {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []Project
	for _, up := range d.above(id) {
		if p := d.projects.Rows[up]; !p.IsDomain {
			list = append(list, p)
		}
	}
	return list
}

// Below lists what descends from a project or domain, by name.
func (d *Directory) Below(id string) []Project {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(d.projects.Rows, func(p Project) bool { return slices.Contains(d.above(p.ID), id) }, projectName)
}
