package identity

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Services lists the services that were added to the catalog, by name.
func (d *Directory) Services() []Service {
	return list(d, &d.services, nil, func(s Service) string { return s.Name })
}

// Endpoints lists the endpoints that were added to the catalog.
func (d *Directory) Endpoints() []Endpoint {
	return list(d, &d.endpoints, nil, func(e Endpoint) string { return e.ID })
}

// Regions lists the regions that were added to the catalog.
func (d *Directory) Regions() []Region {
	return list(d, &d.regions, nil, func(r Region) string { return r.ID })
}

// SaveService adds a service, which gets an id, or changes one.
func (d *Directory) SaveService(ctx context.Context, s Service) (Service, error) {
	if s.Type == "" {
		return s, invalid("Invalid input for field 'type': a service has one.")
	}
	if s.ID == "" {
		s.ID = newID()
	}
	return s, d.change(ctx, func(tx *records.Tx) error { return records.Put(tx, &d.services, s.ID, s) })
}

// URLFor is an endpoint's URL with a token's project and user in the places that it has
// for them; empty where it has one for a project and there is none.
func (e Endpoint) URLFor(project, user string) string {
	var pairs []string
	for name, value := range map[string]string{"tenant_id": project, "project_id": project, "user_id": user} {
		for _, place := range []string{"%(" + name + ")s", "$(" + name + ")s"} {
			if value == "" && strings.Contains(e.URL, place) {
				return ""
			}
			pairs = append(pairs, place, value)
		}
	}
	return strings.NewReplacer(pairs...).Replace(e.URL)
}

// SaveEndpoint adds an endpoint, which gets an id, or changes one. Known are the ids
// of services and regions that are not the directory's.
func (d *Directory) SaveEndpoint(ctx context.Context, e Endpoint, known []string, makeRegion bool) (Endpoint, error) {
	if !slices.Contains([]string{"public", "internal", "admin"}, e.Interface) {
		return e, invalid("Invalid input for field 'interface': %q is not one of public, internal and admin.", e.Interface)
	}
	if u, err := url.Parse(e.URLFor("project", "user")); err != nil || u.Host == "" || strings.Contains(u.Path, "$(") {
		return e, invalid("Invalid input for field 'url': %q is no URL of a service.", e.URL)
	}
	if e.ID == "" {
		e.ID = newID()
	}
	return e, d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.services.Rows[e.Service]; !ok && !slices.Contains(known, e.Service) {
			return invalid("Could not find service: %s.", e.Service)
		}
		if _, ok := d.regions.Rows[e.Region]; e.Region != "" && !ok && !slices.Contains(known, e.Region) {
			if !makeRegion {
				return invalid("Could not find region: %s.", e.Region)
			}
			if err := records.Put(tx, &d.regions, e.Region, Region{ID: e.Region}); err != nil {
				return err
			}
		}
		return records.Put(tx, &d.endpoints, e.ID, e)
	})
}

// AddRegion adds a region, which gets an id if it has none.
func (d *Directory) AddRegion(ctx context.Context, r Region) (Region, error) {
	if r.ID == "" {
		r.ID = newID()
	}
	return r, d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.regions.Rows[r.ID]; ok {
			return errorf(launcher.ErrConflict, "Conflict occurred attempting to store region - Duplicate ID, %s.", r.ID)
		}
		return records.Put(tx, &d.regions, r.ID, r)
	})
}

// UpdateRegion changes a region that was added.
func (d *Directory) UpdateRegion(ctx context.Context, r Region) (Region, error) {
	return r, d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.regions.Rows[r.ID]; !ok {
			return notFound("region", r.ID)
		}
		return records.Put(tx, &d.regions, r.ID, r)
	})
}

// DeleteService removes a service that was added, with its endpoints.
func (d *Directory) DeleteService(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.services.Rows[id]; !ok {
			return notFound("service", id)
		}
		records.Drop(tx, &d.services, id)
		records.DropAll(tx, &d.endpoints, func(e Endpoint) bool { return e.Service == id })
		return nil
	})
}

// DeleteEndpoint removes an endpoint that was added.
func (d *Directory) DeleteEndpoint(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.endpoints.Rows[id]; !ok {
			return notFound("endpoint", id)
		}
		records.Drop(tx, &d.endpoints, id)
		return nil
	})
}

// DeleteRegion removes a region that was added, unless endpoints are in it.
func (d *Directory) DeleteRegion(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.regions.Rows[id]; !ok {
			return notFound("region", id)
		}
		if e, ok := d.endpoints.Find(func(e Endpoint) bool { return e.Region == id }); ok {
			return forbidden("Cannot delete region %s: endpoint %s is in it.", id, e.ID)
		}
		records.Drop(tx, &d.regions, id)
		return nil
	})
}
