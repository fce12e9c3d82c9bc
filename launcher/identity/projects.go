package identity

import (
	"context"
	"slices"
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
	err := d.change(ctx, func(tx *transaction) error {
		if p.ID == "" {
			p.ID = newID()
		}
		if _, taken := d.projects.rows[p.ID]; taken {
			return duplicate("project", p.ID, p.DomainID)
		}
		if err := d.place(&p); err != nil {
			return err
		}
		if err := d.uniqueProject(p); err != nil {
			return err
		}
		return put(tx, &d.projects, p.ID, p)
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
		parent, ok := d.projects.rows[p.ParentID]
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
	if p, ok := d.projects.rows[id]; !ok || !p.IsDomain {
		return notFound("domain", id)
	}
	return nil
}

func (d *Directory) uniqueProject(p Project) error {
	_, taken := find(&d.projects, func(o Project) bool {
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
	err = d.change(ctx, func(tx *transaction) error {
		old, ok := d.projects.rows[id]
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
		return put(tx, &d.projects, id, p)
	})
	return p, err
}

// DeleteProject removes a project, or a domain that is disabled, with all that is
// in it or for it.
func (d *Directory) DeleteProject(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *transaction) error {
		p, ok := d.projects.rows[id]
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
			if child, ok := find(&d.projects, func(o Project) bool { return o.ParentID == id }); ok {
				return forbidden("Cannot delete project %s: project %s is below it.", id, child.ID)
			}
		}
		gone := []string{id}
		for _, o := range d.projects.rows {
			if o.DomainID == id {
				gone = append(gone, o.ID)
			}
		}
		for _, one := range gone {
			drop(tx, &d.projects, one)
		}
		var users, groups []string
		for _, u := range d.users.rows {
			if u.DomainID == id {
				users = append(users, u.ID)
				drop(tx, &d.users, u.ID)
			}
		}
		for _, g := range d.groups.rows {
			if g.DomainID == id {
				groups = append(groups, g.ID)
				drop(tx, &d.groups, g.ID)
			}
		}
		dropAll(tx, &d.roles, func(r Role) bool { return r.DomainID == id })
		dropAll(tx, &d.assignments, func(a Assignment) bool {
			return slices.Contains(gone, a.Project) || slices.Contains(users, a.User) || slices.Contains(groups, a.Group)
		})
		dropAll(tx, &d.credentials, func(c ApplicationCredential) bool {
			return slices.Contains(gone, c.Project) || slices.Contains(users, c.User)
		})
		return nil
	})
}

// above lists a project's ancestors, its parent first and its domain last.
func (d *Directory) above(id string) []string {
	var list []string
	for {
		p, ok := d.projects.rows[id]
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
		if p := d.projects.rows[up]; !p.IsDomain {
			list = append(list, p)
		}
	}
	return list
}

// Below lists what descends from a project or domain, by name.
func (d *Directory) Below(id string) []Project {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(d.projects.rows, func(p Project) bool { return slices.Contains(d.above(p.ID), id) }, projectName)
}
