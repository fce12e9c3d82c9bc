package neutron

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// root begins every path but that of the list of versions.
const root = "/v2.0"

type view = map[string]any

// resource is one kind of them.
type resource[T any] struct {
	name, plural string // "network", "networks"; in paths with hyphens
	title        string // in faults: "Network"
	attributes   []attribute[T]
	required     []string
	base         func(*T) *network.Base
	filters      map[string]func(*T, []string) (bool, error) // those that are no attribute

	sees     func(*openstack.Caller, *T) bool // beside its owner and administrators; nil: nobody
	all      func() []T
	find     func(id string) (T, error)
	defaults T
	// check is asked about a new or changed resource, and what a request has set.
	check  func(*openstack.Caller, *T, view) error
	create func(context.Context, T) (T, error) // nil: it cannot be made
	update func(context.Context, string, func(*T) error) (T, error)
	remove func(context.Context, string) error
	// before is called before all else, with the caller's project.
	before func(context.Context, string) error
}

// routes are all that may be asked of a resource.
func (x *resource[T]) routes(a *api) []openstack.Route {
	path := root + "/" + strings.ReplaceAll(x.plural, "_", "-")
	one := path + "/{id}"
	routes := []openstack.Route{
		{Method: "GET", Path: path, Serve: a.may(openstack.Reader, "get_"+x.name, func(w http.ResponseWriter, r *http.Request) error { return x.serveList(a, w, r) })},
		{Method: "GET", Path: one, Serve: a.may(openstack.Reader, "get_"+x.name, func(w http.ResponseWriter, r *http.Request) error { return x.serveShow(a, w, r) })},
		{Method: "POST", Path: path, Serve: a.may(openstack.Member, "create_"+x.name, x.serveCreate)},
		{Method: "DELETE", Path: one, Serve: a.may(openstack.Member, "delete_"+x.name, func(w http.ResponseWriter, r *http.Request) error { return x.serveDelete(a, w, r) })},
	}
	if x.update == nil {
		return routes
	}
	routes = append(routes, openstack.Route{Method: "PUT", Path: one, Serve: a.may(openstack.Member, "update_"+x.name, func(w http.ResponseWriter, r *http.Request) error { return x.serveUpdate(a, w, r) })})
	return append(routes, x.tagRoutes(a, one)...)
}

// owns reports whether a caller may change what a base belongs to.
func (a *api) owns(c *openstack.Caller, b *network.Base) bool {
	return isAdmin(c) || c.ProjectID != "" && a.owner(b) == c.ProjectID
}

// visible finds a resource that the caller of a request may see.
func (x *resource[T]) visible(a *api, r *http.Request, id string) (T, error) {
	v, err := x.find(id)
	c := openstack.CallerOf(r.Context())
	if err == nil && (a.owns(c, x.base(&v)) || x.sees != nil && x.sees(c, &v)) {
		return v, nil
	}
	if err == nil || errors.Is(err, launcher.ErrNotFound) {
		err = x.missing(id)
	}
	var none T
	return none, err
}

// own finds a resource that the caller may change.
func (x *resource[T]) own(a *api, r *http.Request, action string) (T, error) {
	v, err := x.visible(a, r, r.PathValue("id"))
	if err == nil && !a.owns(openstack.CallerOf(r.Context()), x.base(&v)) {
		err = disallowed(action + "_" + x.name)
	}
	return v, err
}

func (x *resource[T]) missing(id string) error {
	return &openstack.Fault{
		Code: http.StatusNotFound, Type: strings.ReplaceAll(x.title, " ", "") + "NotFound",
		Message: strings.ToUpper(x.title[:1]) + strings.ToLower(x.title[1:]) + " " + id + " could not be found.",
	}
}

// view shows a resource to a caller: all of it, or the fields asked for.
func (x *resource[T]) view(c *openstack.Caller, v *T, fields []string) view {
	out := view{}
	for _, at := range x.attributes {
		if at.show == nil || at.adminOnly && !isAdmin(c) || len(fields) > 0 && !slices.Contains(fields, at.name) {
			continue
		}
		out[at.name] = at.show(v)
	}
	return out
}

func (x *resource[T]) write(w http.ResponseWriter, r *http.Request, v *T) error {
	return openstack.WriteJSON(w, http.StatusOK, view{x.name: x.view(openstack.CallerOf(r.Context()), v, r.URL.Query()["fields"])})
}

func (x *resource[T]) serveShow(a *api, w http.ResponseWriter, r *http.Request) error {
	v, err := x.visible(a, r, r.PathValue("id"))
	if err != nil {
		return err
	}
	return x.write(w, r, &v)
}

// serveCreate makes one resource, or all of a list or none.
func (x *resource[T]) serveCreate(w http.ResponseWriter, r *http.Request) error {
	c := openstack.CallerOf(r.Context())
	if x.create == nil {
		return openstack.NotFound("The resource could not be found.")
	}
	if x.before != nil {
		if err := x.before(r.Context(), c.ProjectID); err != nil {
			return err
		}
	}
	bodies, bulk, err := x.bodies(r)
	if err != nil {
		return err
	}
	var wanted []T
	for _, b := range bodies {
		v, err := x.parse(c, b)
		if err != nil {
			return err
		}
		wanted = append(wanted, v)
	}
	var made []any
	for _, v := range wanted {
		v, err := x.create(r.Context(), v)
		if err != nil {
			return errors.Join(faultOf(err), x.undo(r.Context(), made))
		}
		made = append(made, x.view(c, &v, nil))
	}
	if bulk {
		return openstack.WriteJSON(w, http.StatusCreated, view{x.plural: made})
	}
	return openstack.WriteJSON(w, http.StatusCreated, view{x.name: made[0]})
}

// undo removes what was made of a list whose rest could not be.
func (x *resource[T]) undo(ctx context.Context, made []any) error {
	var errs []error
	for _, v := range slices.Backward(made) {
		errs = append(errs, x.remove(ctx, v.(view)["id"].(string)))
	}
	return errors.Join(errs...)
}

// bodies reads a request for one resource or for a list of them.
func (x *resource[T]) bodies(r *http.Request) (all []view, bulk bool, err error) {
	var whole map[string]any
	if err := openstack.ReadJSON(r, &whole); err != nil {
		return nil, false, err
	}
	if list, ok := whole[x.plural].([]any); ok && len(list) > 0 {
		for _, one := range list {
			b, ok := one.(map[string]any)
			if !ok {
				return nil, true, openstack.BadRequest("Invalid input for %s: '%v' is not a dictionary.", x.plural, one)
			}
			all = append(all, b)
		}
		return all, true, nil
	}
	b, ok := whole[x.name].(map[string]any)
	if !ok {
		return nil, false, openstack.BadRequest("Unable to find '%s' in request body", x.name)
	}
	return []view{b}, false, nil
}

// parse makes a new resource of a body.
func (x *resource[T]) parse(c *openstack.Caller, b view) (T, error) {
	v := x.defaults
	x.base(&v).Project = c.ProjectID
	for _, name := range x.required {
		if _, ok := b[name]; !ok {
			return v, openstack.BadRequest("Failed to parse request. Required attribute '%s' not specified", name)
		}
	}
	if err := x.apply(c, &v, b, post); err != nil {
		return v, err
	}
	owner := x.base(&v).Project
	if owner != c.ProjectID && !isAdmin(c) {
		return v, disallowed("create_" + x.name)
	}
	if owner == "" {
		return v, openstack.BadRequest("Running without keystone AuthN requires that project_id is specified")
	}
	return v, x.checked(c, &v, b)
}

func (x *resource[T]) checked(c *openstack.Caller, v *T, b view) error {
	if x.check == nil {
		return nil
	}
	return x.check(c, v, b)
}

// apply sets what a body says, which may be set by a request of that kind.
func (x *resource[T]) apply(c *openstack.Caller, v *T, b view, kind when) error {
	method := map[when]string{post: "POST", put: "PUT"}[kind]
	action := map[when]string{post: "create_", put: "update_"}[kind]
	for name := range b {
		if !slices.ContainsFunc(x.attributes, func(at attribute[T]) bool { return at.name == name }) {
			return openstack.BadRequest("Unrecognized attribute(s) '%s'", name)
		}
	}
	for _, at := range x.attributes { // in their order: some go by others
		value, given := b[at.name]
		switch {
		case !given:
			continue
		case at.when&kind == 0:
			return openstack.BadRequest("Attribute '%s' not allowed in %s", at.name, method)
		case (at.adminOnly || at.adminSets) && !isAdmin(c) && !isDefault(at, v, value):
			return disallowed(action + x.name + " and rule:" + action + x.name + ":" + at.name)
		}
		if err := at.set(v, value); err != nil {
			return openstack.BadRequest("Invalid input for %s. Reason: %s.", at.name, strings.TrimSuffix(err.Error(), "."))
		}
	}
	return nil
}

// isDefault reports whether a value is what an attribute has already.
func isDefault[T any](at attribute[T], v *T, value any) bool {
	if value == nil {
		return true
	}
	b, err := boolean(value)
	return at.show != nil && err == nil && at.show(v) == any(b)
}

func (x *resource[T]) serveUpdate(a *api, w http.ResponseWriter, r *http.Request) error {
	c := openstack.CallerOf(r.Context())
	bodies, bulk, err := x.bodies(r)
	if err != nil || bulk {
		return errors.Join(err, openstack.BadRequest("Unable to find '%s' in request body", x.name))
	}
	old, err := x.own(a, r, "update")
	if err != nil {
		return err
	}
	// Tried before the records are locked, since checks look at others.
	if err := x.apply(c, &old, bodies[0], put); err != nil {
		return err
	}
	if err := x.checked(c, &old, bodies[0]); err != nil {
		return err
	}
	v, err := x.update(r.Context(), r.PathValue("id"), func(v *T) error {
		if err := x.matched(r, v); err != nil {
			return err
		}
		return x.apply(c, v, bodies[0], put)
	})
	if err != nil {
		return faultOf(err)
	}
	return x.write(w, r, &v)
}

// matched refuses a request for another revision of a resource than it has:
// If-Match: revision_number=N.
func (x *resource[T]) matched(r *http.Request, v *T) error {
	wanted, given := strings.CutPrefix(r.Header.Get("If-Match"), "revision_number=")
	if have := x.base(v).Revision; given && wanted != strconv.Itoa(have) {
		return &openstack.Fault{Code: http.StatusPreconditionFailed, Type: "RevisionNumberConstraintFailed",
			Message: fmt.Sprintf("Constrained to %s, but current revision is %d", wanted, have)}
	}
	return nil
}

func (x *resource[T]) serveDelete(a *api, w http.ResponseWriter, r *http.Request) error {
	v, err := x.own(a, r, "delete")
	if err == nil {
		err = x.matched(r, &v)
	}
	if err != nil {
		return err
	}
	if err := x.remove(r.Context(), r.PathValue("id")); err != nil {
		return faultOf(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
