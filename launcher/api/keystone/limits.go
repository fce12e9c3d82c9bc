package keystone

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// limitRoutes are those of unified limits, which are kept for services that ask for
// them.
func (a *API) limitRoutes() []route {
	return []route{
		{"GET", "/v3/limits/model", "identity:get_limit_model", tokenHolder, a.limitModel},
		{"GET", "/v3/registered_limits", "identity:list_registered_limits", tokenHolder, a.listRegisteredLimits},
		{"POST", "/v3/registered_limits", "identity:create_registered_limits", admin, a.createRegisteredLimits},
		{"GET", "/v3/registered_limits/{id}", "identity:get_registered_limit", tokenHolder, a.showRegisteredLimit},
		{"PATCH", "/v3/registered_limits/{id}", "identity:update_registered_limit", admin, a.updateRegisteredLimit},
		{"DELETE", "/v3/registered_limits/{id}", "identity:delete_registered_limit", admin, a.deleteRegisteredLimit},
		{"GET", "/v3/limits", "identity:list_limits", tokenHolder, a.listLimits},
		{"POST", "/v3/limits", "identity:create_limits", admin, a.createLimits},
		{"GET", "/v3/limits/{id}", "identity:get_limit", tokenHolder, a.showLimit},
		{"PATCH", "/v3/limits/{id}", "identity:update_limit", admin, a.updateLimit},
		{"DELETE", "/v3/limits/{id}", "identity:delete_limit", admin, a.deleteLimit},
	}
}

func (a *API) limitModel(w http.ResponseWriter, _ *http.Request) error {
	return writeOne(w, http.StatusOK, "model", view{
		"name": "flat", "description": "Limit enforcement and validation does not take project hierarchy into consideration.",
	})
}

func registeredLimitView(r *http.Request, l identity.RegisteredLimit) view {
	return build(r, "registered_limits", l.ID, view{
		"service_id": l.Service, "region_id": orNull(l.Region), "resource_name": l.Name,
		"default_limit": l.Default, "description": orNull(l.Description),
	}, nil)
}

func (a *API) limitView(r *http.Request, l identity.Limit) view {
	v := build(r, "limits", l.ID, view{
		"project_id": nil, "domain_id": nil, "service_id": l.Service, "region_id": orNull(l.Region),
		"resource_name": l.Name, "resource_limit": l.Limit, "description": orNull(l.Description),
	}, nil)
	if _, err := a.dir.Domain(l.Project); err == nil {
		v["domain_id"] = l.Project
	} else {
		v["project_id"] = l.Project
	}
	return v
}

func (a *API) listRegisteredLimits(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "registered_limits", views(a.dir.RegisteredLimits(), func(l identity.RegisteredLimit) view { return registeredLimitView(r, l) }))
}

func (a *API) showRegisteredLimit(w http.ResponseWriter, r *http.Request) error {
	l, err := a.dir.RegisteredLimit(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "registered_limit", registeredLimitView(r, l))
}

// known refuses services and regions that are not there.
func (a *API) known(r *http.Request, of identity.Resource) error {
	switch {
	case of.Name == "" || of.Service == "":
		return openstack.BadRequest("Malformed request body: a limit has service_id and resource_name.")
	case !slices.ContainsFunc(a.services(r), func(s identity.Service) bool { return s.ID == of.Service }):
		return openstack.BadRequest("Could not find service: %s.", of.Service)
	case of.Region != "" && !slices.ContainsFunc(a.regions(), func(g identity.Region) bool { return g.ID == of.Region }):
		return openstack.BadRequest("Could not find region: %s.", of.Region)
	}
	return nil
}

func (in *attributes) number(name string, to *int) bool {
	var n float64
	if !take(in, name, "integer", &n) {
		return false
	}
	if n != float64(int(n)) || n < -1 {
		in.err = openstack.BadRequest("Invalid input for field '%s': %v is not an integer of at least -1.", name, n)
	}
	*to = int(n)
	return true
}

func resourceFrom(in *attributes, of *identity.Resource) {
	in.text("service_id", &of.Service)
	in.text("region_id", &of.Region)
	in.text("resource_name", &of.Name)
}

// readEach reads a body {what: [{...}, ...]}.
func readEach(r *http.Request, what string) ([]*attributes, error) {
	var body map[string][]map[string]any
	if err := openstack.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	if len(body[what]) == 0 {
		return nil, openstack.BadRequest("Malformed request body: it has no list '%s'.", what)
	}
	var all []*attributes
	for _, one := range body[what] {
		all = append(all, &attributes{rest: one})
	}
	return all, nil
}

func (a *API) createRegisteredLimits(w http.ResponseWriter, r *http.Request) error {
	all, err := readEach(r, "registered_limits")
	if err != nil {
		return err
	}
	var limits []identity.RegisteredLimit
	for _, in := range all {
		var l identity.RegisteredLimit
		if err := a.registeredFrom(r, in, &l, true); err != nil {
			return err
		}
		limits = append(limits, l)
	}
	if err := a.dir.SaveRegisteredLimits(r.Context(), limits); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusCreated, view{"registered_limits": views(limits, func(l identity.RegisteredLimit) view { return registeredLimitView(r, l) })})
}

// registeredFrom reads a registered limit, a whole one or what of it changes.
func (a *API) registeredFrom(r *http.Request, in *attributes, l *identity.RegisteredLimit, whole bool) error {
	resourceFrom(in, &l.Resource)
	in.text("description", &l.Description)
	if !in.number("default_limit", &l.Default) && whole {
		return openstack.BadRequest("Malformed request body: a registered limit has a default_limit.")
	}
	if in.err != nil {
		return in.err
	}
	return a.known(r, l.Resource)
}

func (a *API) updateRegisteredLimit(w http.ResponseWriter, r *http.Request) error {
	l, err := a.dir.RegisteredLimit(r.PathValue("id"))
	if err != nil {
		return err
	}
	in, err := readAttributes(r, "registered_limit")
	if err != nil {
		return err
	}
	if err := a.registeredFrom(r, in, &l, false); err != nil {
		return err
	}
	if err := a.dir.SaveRegisteredLimits(r.Context(), []identity.RegisteredLimit{l}); err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "registered_limit", registeredLimitView(r, l))
}

func (a *API) deleteRegisteredLimit(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteRegisteredLimit(r.Context(), r.PathValue("id")))
}

// mayKnow reports whether a limit is of the caller's project or domain, or he may
// read all.
func mayKnow(r *http.Request, l identity.Limit) bool {
	c := openstack.CallerOf(r.Context())
	return reader(c, r) || l.Project == c.ProjectID || l.Project == c.DomainID
}

func (a *API) listLimits(w http.ResponseWriter, r *http.Request) error {
	list := a.dir.Limits(func(l identity.Limit) bool { return mayKnow(r, l) })
	return writeList(w, r, "limits", views(list, func(l identity.Limit) view { return a.limitView(r, l) }))
}

func (a *API) showLimit(w http.ResponseWriter, r *http.Request) error {
	l, err := a.dir.Limit(r.PathValue("id"))
	if err != nil {
		return err
	}
	if !mayKnow(r, l) {
		return openstack.Forbidden("You are not authorized to perform the requested action: identity:get_limit.")
	}
	return writeOne(w, http.StatusOK, "limit", a.limitView(r, l))
}

func (a *API) createLimits(w http.ResponseWriter, r *http.Request) error {
	all, err := readEach(r, "limits")
	if err != nil {
		return err
	}
	var limits []identity.Limit
	for _, in := range all {
		var l identity.Limit
		var project, domain string
		in.text("project_id", &project)
		in.text("domain_id", &domain)
		if (project == "") == (domain == "") {
			return openstack.BadRequest("Malformed request body: a limit has either a project_id or a domain_id.")
		}
		l.Project = project + domain
		resourceFrom(in, &l.Resource)
		in.text("description", &l.Description)
		if !in.number("resource_limit", &l.Limit) {
			return openstack.BadRequest("Malformed request body: a limit has a resource_limit.")
		}
		if in.err != nil {
			return in.err
		}
		if err := a.known(r, l.Resource); err != nil {
			return err
		}
		limits = append(limits, l)
	}
	if err := a.dir.SaveLimits(r.Context(), limits); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusCreated, view{"limits": views(limits, func(l identity.Limit) view { return a.limitView(r, l) })})
}

func (a *API) updateLimit(w http.ResponseWriter, r *http.Request) error {
	l, err := a.dir.Limit(r.PathValue("id"))
	if err != nil {
		return err
	}
	in, err := readAttributes(r, "limit")
	if err != nil {
		return err
	}
	in.text("description", &l.Description)
	in.number("resource_limit", &l.Limit)
	if in.err != nil {
		return in.err
	}
	if err := a.dir.SaveLimits(r.Context(), []identity.Limit{l}); err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "limit", a.limitView(r, l))
}

func (a *API) deleteLimit(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteLimit(r.Context(), r.PathValue("id")))
}
