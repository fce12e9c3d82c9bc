package neutron

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// Config is what the API stands on.
type Config struct {
	Networks *network.Service
	// DeletePort removes a port, and takes it from the server that it is plugged into;
	// nil: Networks.DeletePort.
	DeletePort func(ctx context.Context, id string) error
	// LocalProject is the project that what belongs to nobody is shown in: that of the
	// local socket.
	LocalProject string
	Host         string // this machine's name
	Domain       string // of the names of servers
	Log          *slog.Logger
}

type api struct {
	cfg Config
	net *network.Service
}

// New makes the handler. Callers are authenticated before it; see [Public].
func New(cfg Config) http.Handler {
	a := &api{cfg: cfg, net: cfg.Networks}
	if a.cfg.DeletePort == nil {
		a.cfg.DeletePort = a.net.DeletePort
	}
	routes := []openstack.Route{
		{Method: "GET", Path: "/{$}", Serve: versions},
		{Method: "GET", Path: root, Serve: resources},
		{Method: "GET", Path: root + "/extensions", Serve: listExtensions},
		{Method: "GET", Path: root + "/extensions/{alias}", Serve: showExtension},
	}
	for _, more := range [][]openstack.Route{
		a.networks().routes(a), a.subnets().routes(a), a.ports().routes(a),
		a.groups().routes(a), a.rules().routes(a), a.floatingIPs().routes(a),
		a.quotaRoutes(), a.remnantRoutes(),
	} {
		routes = append(routes, more...)
	}
	return openstack.NewMux(openstack.Network, cfg.Log, routes)
}

// Public reports whether a request asks for the list of versions, which needs no
// token.
func Public(r *http.Request) bool {
	return (r.URL.Path == "" || r.URL.Path == "/") && (r.Method == http.MethodGet || r.Method == http.MethodHead)
}

// may lets those through who have a role.
func (a *api) may(role, rule string, serve openstack.Func) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !openstack.CallerOf(r.Context()).Has(role) {
			return disallowed(rule)
		}
		return serve(w, r)
	}
}

func isAdmin(c *openstack.Caller) bool { return c.Has(openstack.Admin) }

// owner is the project that something is shown in.
func (a *api) owner(b *network.Base) string { return cmp.Or(b.Project, a.cfg.LocalProject) }

func versions(w http.ResponseWriter, r *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, view{"versions": []view{{
		"id": "v2.0", "status": "CURRENT", "links": []openstack.Link{{Rel: "self", Href: openstack.BaseOf(r) + root + "/"}},
	}}})
}

// resources lists what a version has.
func resources(w http.ResponseWriter, r *http.Request) error {
	var all []view
	for _, x := range []struct{ name, plural string }{
		{"network", "networks"}, {"subnet", "subnets"}, {"port", "ports"},
		{"security_group", "security-groups"}, {"security_group_rule", "security-group-rules"}, {"floatingip", "floatingips"},
	} {
		all = append(all, view{"name": x.name, "collection": x.plural, "links": []openstack.Link{{Rel: "self", Href: openstack.BaseOf(r) + root + "/" + x.plural}}})
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"resources": all})
}

// common are the attributes that all resources have.
func common[T any](a *api, base func(*T) *network.Base) []attribute[T] {
	const form = "2006-01-02T15:04:05Z"
	project := aText(255, func(x *T) *string { return &base(x).Project })
	owner := func(x *T) any { return a.owner(base(x)) }
	return []attribute[T]{
		{name: "id", show: func(x *T) any { return base(x).ID }},
		{name: "name", when: anyWrite, show: func(x *T) any { return base(x).Name }, set: aText(255, func(x *T) *string { return &base(x).Name })},
		{name: "description", when: anyWrite, show: func(x *T) any { return base(x).Description }, set: aText(255, func(x *T) *string { return &base(x).Description })},
		{name: "tenant_id", when: post, show: owner, set: project},
		{name: "project_id", when: post, show: owner, set: project},
		{name: "created_at", show: func(x *T) any { return base(x).Created.UTC().Format(form) }},
		{name: "updated_at", show: func(x *T) any { return base(x).Updated.UTC().Format(form) }},
		{name: "revision_number", show: func(x *T) any { return base(x).Revision }},
		{name: "tags", when: post, show: func(x *T) any { return list(base(x).Tags, same) }, set: setTags(base)},
	}
}
