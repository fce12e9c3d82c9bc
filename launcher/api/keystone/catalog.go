package keystone

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

var interfaces = []string{"public", "internal", "admin"}

// stableID is the id of a part of Slipway's own catalog.
func stableID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// services are Slipway's own and those that were added.
func (a *API) services(r *http.Request) []identity.Service {
	var all []identity.Service
	for _, e := range a.catalog(r) {
		all = append(all, identity.Service{ID: stableID(e.Type), Type: e.Type, Name: e.Name, Description: e.Description, Enabled: true})
	}
	return append(all, a.dir.Services()...)
}

func (a *API) endpoints(r *http.Request) []identity.Endpoint {
	var all []identity.Endpoint
	for _, e := range a.catalog(r) {
		for _, i := range interfaces {
			all = append(all, identity.Endpoint{
				ID: stableID(e.Type, i), Service: stableID(e.Type), Interface: i, Region: a.region, URL: e.URL, Enabled: true,
			})
		}
	}
	return append(all, a.dir.Endpoints()...)
}

func (a *API) regions() []identity.Region {
	return append([]identity.Region{{ID: a.region}}, a.dir.Regions()...)
}

// own refuses to change what is of Slipway itself.
func own(what, id string) error {
	return openstack.Forbidden("The %s %s is part of Slipway and cannot be changed.", what, id)
}

// catalogView is the catalog as tokens carry it.
func (a *API) catalogView(r *http.Request, t *identity.Token) []view {
	all := []view{}
	endpoints := a.endpoints(r)
	for _, s := range a.services(r) {
		if !s.Enabled {
			continue
		}
		list := []view{}
		for _, e := range endpoints {
			if url := e.URLFor(t.Project.ID, t.User.ID); url != "" && e.Service == s.ID && e.Enabled {
				list = append(list, view{"id": e.ID, "interface": e.Interface, "region": orNull(e.Region), "region_id": orNull(e.Region), "url": url})
			}
		}
		all = append(all, view{"id": s.ID, "type": s.Type, "name": s.Name, "endpoints": list})
	}
	return all
}

func serviceView(r *http.Request, s identity.Service) view {
	return build(r, "services", s.ID, view{"type": s.Type, "name": s.Name, "description": s.Description, "enabled": s.Enabled}, s.Extra)
}

func endpointView(r *http.Request, e identity.Endpoint) view {
	v := build(r, "endpoints", e.ID, view{
		"service_id": e.Service, "interface": e.Interface, "url": e.URL, "enabled": e.Enabled,
		"region": orNull(e.Region), "region_id": orNull(e.Region),
	}, e.Extra)
	if e.Name != "" {
		v["name"] = e.Name
	}
	if e.Description != "" {
		v["description"] = e.Description
	}
	return v
}

func regionView(r *http.Request, region identity.Region) view {
	return build(r, "regions", region.ID, view{"parent_region_id": orNull(region.Parent), "description": region.Description}, region.Extra)
}

// pick finds an item by id among those of Slipway and those added.
func pick[T any](list []T, what, id string, of func(T) string) (T, error) {
	i := slices.IndexFunc(list, func(v T) bool { return of(v) == id })
	if i < 0 {
		var none T
		return none, openstack.NotFound("Could not find %s: %s.", what, id)
	}
	return list[i], nil
}

func (a *API) service(r *http.Request) (identity.Service, bool, error) {
	all := a.services(r)
	s, err := pick(all, "service", r.PathValue("id"), func(s identity.Service) string { return s.ID })
	return s, len(a.catalog(r)) > slices.IndexFunc(all, func(o identity.Service) bool { return o.ID == s.ID }), err
}

func (a *API) listServices(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "services", views(a.services(r), func(s identity.Service) view { return serviceView(r, s) }))
}

func (a *API) showService(w http.ResponseWriter, r *http.Request) error {
	s, _, err := a.service(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "service", serviceView(r, s))
}

func (a *API) saveService(w http.ResponseWriter, r *http.Request, s identity.Service, status int) error {
	in, err := readAttributes(r, "service")
	if err != nil {
		return err
	}
	in.same("id", s.ID)
	in.text("type", &s.Type)
	in.text("name", &s.Name)
	in.text("description", &s.Description)
	in.flag("enabled", &s.Enabled)
	if err := in.extra(&s.Extra); err != nil {
		return err
	}
	if s, err = a.dir.SaveService(r.Context(), s); err != nil {
		return err
	}
	return writeOne(w, status, "service", serviceView(r, s))
}

func (a *API) createService(w http.ResponseWriter, r *http.Request) error {
	return a.saveService(w, r, identity.Service{Enabled: true}, http.StatusCreated)
}

func (a *API) updateService(w http.ResponseWriter, r *http.Request) error {
	s, ours, err := a.service(r)
	if err != nil {
		return err
	}
	if ours {
		return own("service", s.ID)
	}
	return a.saveService(w, r, s, http.StatusOK)
}

func (a *API) deleteService(w http.ResponseWriter, r *http.Request) error {
	s, ours, err := a.service(r)
	if err == nil && ours {
		err = own("service", s.ID)
	}
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteService(r.Context(), s.ID))
}

func (a *API) endpoint(r *http.Request) (identity.Endpoint, bool, error) {
	all := a.endpoints(r)
	e, err := pick(all, "endpoint", r.PathValue("id"), func(e identity.Endpoint) string { return e.ID })
	return e, len(all)-len(a.dir.Endpoints()) > slices.IndexFunc(all, func(o identity.Endpoint) bool { return o.ID == e.ID }), err
}

func (a *API) listEndpoints(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "endpoints", views(a.endpoints(r), func(e identity.Endpoint) view { return endpointView(r, e) }))
}

func (a *API) showEndpoint(w http.ResponseWriter, r *http.Request) error {
	e, _, err := a.endpoint(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "endpoint", endpointView(r, e))
}

func (a *API) saveEndpoint(w http.ResponseWriter, r *http.Request, e identity.Endpoint, status int) error {
	in, err := readAttributes(r, "endpoint")
	if err != nil {
		return err
	}
	in.same("id", e.ID)
	in.text("service_id", &e.Service)
	in.text("interface", &e.Interface)
	in.text("url", &e.URL)
	// By its older name a region is made where it is not there.
	makeRegion := in.text("region", &e.Region)
	if in.text("region_id", &e.Region) {
		makeRegion = false
	}
	in.text("name", &e.Name)
	in.text("description", &e.Description)
	in.flag("enabled", &e.Enabled)
	if err := in.extra(&e.Extra); err != nil {
		return err
	}
	known := []string{a.region}
	for _, service := range a.services(r) {
		known = append(known, service.ID)
	}
	if e, err = a.dir.SaveEndpoint(r.Context(), e, known, makeRegion); err != nil {
		return err
	}
	return writeOne(w, status, "endpoint", endpointView(r, e))
}

func (a *API) createEndpoint(w http.ResponseWriter, r *http.Request) error {
	return a.saveEndpoint(w, r, identity.Endpoint{Enabled: true}, http.StatusCreated)
}

func (a *API) updateEndpoint(w http.ResponseWriter, r *http.Request) error {
	e, ours, err := a.endpoint(r)
	if err != nil {
		return err
	}
	if ours {
		return own("endpoint", e.ID)
	}
	return a.saveEndpoint(w, r, e, http.StatusOK)
}

func (a *API) deleteEndpoint(w http.ResponseWriter, r *http.Request) error {
	e, ours, err := a.endpoint(r)
	if err == nil && ours {
		err = own("endpoint", e.ID)
	}
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteEndpoint(r.Context(), e.ID))
}

func (a *API) showRegion(w http.ResponseWriter, r *http.Request) error {
	region, err := pick(a.regions(), "region", r.PathValue("id"), func(region identity.Region) string { return region.ID })
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "region", regionView(r, region))
}

func (a *API) listRegions(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "regions", views(a.regions(), func(region identity.Region) view { return regionView(r, region) }))
}

func regionFrom(r *http.Request, region *identity.Region) error {
	in, err := readAttributes(r, "region")
	if err != nil {
		return err
	}
	if region.ID == "" {
		in.text("id", &region.ID)
	}
	in.same("id", region.ID)
	in.text("description", &region.Description)
	in.text("parent_region_id", &region.Parent)
	return in.extra(&region.Extra)
}

func (a *API) createRegion(w http.ResponseWriter, r *http.Request) error {
	region := identity.Region{ID: r.PathValue("id")}
	if err := regionFrom(r, &region); err != nil {
		return err
	}
	if region.ID == a.region {
		return openstack.Conflict("Conflict occurred attempting to store region - Duplicate ID, %s.", region.ID)
	}
	region, err := a.dir.AddRegion(r.Context(), region)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "region", regionView(r, region))
}

func (a *API) updateRegion(w http.ResponseWriter, r *http.Request) error {
	region, err := pick(a.regions(), "region", r.PathValue("id"), func(region identity.Region) string { return region.ID })
	if err != nil {
		return err
	}
	if region.ID == a.region {
		return own("region", region.ID)
	}
	if err := regionFrom(r, &region); err != nil {
		return err
	}
	if region, err = a.dir.UpdateRegion(r.Context(), region); err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "region", regionView(r, region))
}

func (a *API) deleteRegion(w http.ResponseWriter, r *http.Request) error {
	if id := r.PathValue("id"); id == a.region {
		return own("region", id)
	}
	return done(w, a.dir.DeleteRegion(r.Context(), r.PathValue("id")))
}
