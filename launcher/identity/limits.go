package identity

import (
	"context"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Resource is what a limit is of: a kind of thing that a service has, in a region or
// everywhere.
type Resource struct {
	Service string `json:"service"` // ID
	Region  string `json:"region,omitempty"`
	Name    string `json:"name"`
}

// RegisteredLimit is how much of a resource each project may use. The services that
// ask for it keep it; Slipway's own have quotas.
type RegisteredLimit struct {
	ID string `json:"id"`
	Resource
	Default     int    `json:"default"`
	Description string `json:"description,omitempty"`
}

// Limit is what a project, or a domain, has in place of a registered limit.
type Limit struct {
	ID      string `json:"id"`
	Project string `json:"project,omitempty"` // ID, of a domain too
	Resource
	Limit       int    `json:"limit"`
	Description string `json:"description,omitempty"`
}

// RegisteredLimit returns one by its ID.
func (d *Directory) RegisteredLimit(id string) (RegisteredLimit, error) {
	return show(d, &d.registered, "registered limit", id)
}

// RegisteredLimits lists all, by the names of what they limit.
func (d *Directory) RegisteredLimits() []RegisteredLimit {
	return list(d, &d.registered, nil, func(l RegisteredLimit) string { return l.Name })
}

// SaveRegisteredLimits adds those that have no ID, which get one, and changes the
// others: all of them or none.
func (d *Directory) SaveRegisteredLimits(ctx context.Context, limits []RegisteredLimit) error {
	return d.change(ctx, func(tx *records.Tx) error {
		seen := map[Resource]bool{}
		for i := range limits {
			l := &limits[i]
			if l.ID == "" {
				l.ID = newID()
			} else if err := d.unused(l.ID, &l.Resource); err != nil {
				return err
			}
			other, ok := d.registeredFor(l.Resource)
			if seen[l.Resource] || ok && other.ID != l.ID {
				return errorf(launcher.ErrConflict, "Conflict occurred attempting to store registered_limit - Duplicate entry of %s.", l.Name)
			}
			seen[l.Resource] = true
			if err := records.Put(tx, &d.registered, l.ID, *l); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *Directory) registeredFor(of Resource) (RegisteredLimit, bool) {
	return d.registered.Find(func(l RegisteredLimit) bool { return l.Resource == of })
}

// unused refuses to take away a registered limit, or to have it limit something else,
// while there are limits in its place.
func (d *Directory) unused(id string, now *Resource) error {
	was, ok := d.registered.Rows[id]
	if !ok {
		return notFound("registered limit", id)
	}
	if now != nil && *now == was.Resource {
		return nil
	}
	if _, used := d.limits.Find(func(l Limit) bool { return l.Resource == was.Resource }); used {
		return forbidden("Unable to update or delete registered limit %s because there are project limits associated with it.", id)
	}
	return nil
}

// DeleteRegisteredLimit removes one that no limit stands in for.
func (d *Directory) DeleteRegisteredLimit(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if err := d.unused(id, nil); err != nil {
			return err
		}
		records.Drop(tx, &d.registered, id)
		return nil
	})
}

// Limit returns one by its ID.
func (d *Directory) Limit(id string) (Limit, error) { return show(d, &d.limits, "limit", id) }

// Limits lists those that pass, by the names of what they limit.
func (d *Directory) Limits(pass func(Limit) bool) []Limit {
	return list(d, &d.limits, pass, func(l Limit) string { return l.Name })
}

// SaveLimits adds those that have no ID, which get one, and changes the others: all of
// them or none.
func (d *Directory) SaveLimits(ctx context.Context, limits []Limit) error {
	type key struct {
		project string
		of      Resource
	}
	return d.change(ctx, func(tx *records.Tx) error {
		seen := map[key]bool{}
		for i := range limits {
			l := &limits[i]
			if _, ok := d.projects.Rows[l.Project]; !ok {
				return notFound("project", l.Project)
			}
			if _, ok := d.registeredFor(l.Resource); !ok {
				return forbidden("Unable to create a limit that has no corresponding registered limit.")
			}
			if l.ID == "" {
				l.ID = newID()
			} else if _, ok := d.limits.Rows[l.ID]; !ok {
				return notFound("limit", l.ID)
			}
			other, ok := d.limits.Find(func(o Limit) bool { return o.Project == l.Project && o.Resource == l.Resource })
			if k := (key{l.Project, l.Resource}); seen[k] || ok && other.ID != l.ID {
				return errorf(launcher.ErrConflict, "Conflict occurred attempting to store limit - Duplicate entry of %s.", l.Name)
			} else {
				seen[k] = true
			}
			if err := records.Put(tx, &d.limits, l.ID, *l); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteLimit removes one; the registered limit holds again.
func (d *Directory) DeleteLimit(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.limits.Rows[id]; !ok {
			return notFound("limit", id)
		}
		records.Drop(tx, &d.limits, id)
		return nil
	})
}
