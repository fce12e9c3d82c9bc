package glance

import (
	"log/slog"
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

// Config is what the API stands on.
type Config struct {
	Images   *catalog.Catalog
	Metadefs *metadefs.Definitions
	Log      *slog.Logger
}

type api struct {
	images   *catalog.Catalog
	metadefs *metadefs.Definitions
	log      *slog.Logger
}

// New makes the handler. Callers are authenticated before it; see [Public].
func New(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &api{images: cfg.Images, metadefs: cfg.Metadefs, log: cfg.Log}
	routes := []openstack.Route{
		{Method: "GET", Path: "/{$}", Serve: versions(http.StatusMultipleChoices)},
		{Method: "GET", Path: "/versions", Serve: versions(http.StatusOK)},
		{Method: "GET", Path: "/v2/images", Serve: reading(a.list)},
		{Method: "POST", Path: "/v2/images", Serve: writing(a.create)},
		{Method: "GET", Path: "/v2/images/{$}", Serve: nameless},
		{Method: "DELETE", Path: "/v2/images/{$}", Serve: nameless},
		{Method: "GET", Path: "/v2/images/{id}", Serve: reading(a.show)},
		{Method: "PATCH", Path: "/v2/images/{id}", Serve: writing(a.update)},
		{Method: "DELETE", Path: "/v2/images/{id}", Serve: writing(a.remove)},
		{Method: "PUT", Path: "/v2/images/{id}/file", Serve: writing(a.upload)},
		{Method: "GET", Path: "/v2/images/{id}/file", Serve: reading(a.download)},
		{Method: "PUT", Path: "/v2/images/{id}/stage", Serve: writing(a.stage)},
		{Method: "POST", Path: "/v2/images/{id}/import", Serve: writing(a.importData)},
		{Method: "GET", Path: "/v2/images/{id}/tasks", Serve: reading(a.imageTasks)},
		{Method: "POST", Path: "/v2/images/{id}/actions/deactivate", Serve: writing(a.activity(catalog.Active, catalog.Deactivated))},
		{Method: "POST", Path: "/v2/images/{id}/actions/reactivate", Serve: writing(a.activity(catalog.Deactivated, catalog.Active))},
		{Method: "PUT", Path: "/v2/images/{id}/tags/{tag}", Serve: writing(a.addTag)},
		{Method: "DELETE", Path: "/v2/images/{id}/tags/{tag}", Serve: writing(a.removeTag)},
		{Method: "GET", Path: "/v2/images/{id}/members", Serve: reading(a.members)},
		{Method: "POST", Path: "/v2/images/{id}/members", Serve: writing(a.addMember)},
		{Method: "GET", Path: "/v2/images/{id}/members/{member}", Serve: reading(a.member)},
		{Method: "PUT", Path: "/v2/images/{id}/members/{member}", Serve: writing(a.answer)},
		{Method: "DELETE", Path: "/v2/images/{id}/members/{member}", Serve: writing(a.removeMember)},
		{Method: "GET", Path: "/v2/tasks", Serve: administering(a.tasks)},
		{Method: "POST", Path: "/v2/tasks", Serve: administering(a.createTask)},
		{Method: "GET", Path: "/v2/tasks/{id}", Serve: administering(a.task)},
		{Method: "GET", Path: "/v2/info/import", Serve: reading(importInfo)},
		{Method: "GET", Path: "/v2/info/stores", Serve: reading(storesInfo)},
	}
	routes = append(routes, a.metadefRoutes()...)
	for name, schema := range schemas {
		routes = append(routes, openstack.Route{Method: "GET", Path: "/v2/schemas/" + name, Serve: showSchema(schema)})
	}
	return openstack.NewMux(openstack.Image, cfg.Log, routes)
}

// reading lets those through who may read, writing those who may change things, and
// administering those who may do everything.
func reading(serve openstack.Func) openstack.Func       { return having(openstack.Reader, serve) }
func writing(serve openstack.Func) openstack.Func       { return having(openstack.Member, serve) }
func administering(serve openstack.Func) openstack.Func { return having(openstack.Admin, serve) }

func having(role string, serve openstack.Func) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !openstack.CallerOf(r.Context()).Has(role) {
			return openstack.Forbidden("You are not authorized to complete this action.")
		}
		return serve(w, r)
	}
}

// nameless answers for an image without an ID, which Glance does not take for the list.
func nameless(http.ResponseWriter, *http.Request) error {
	return openstack.NotFound("The resource could not be found.")
}

// Public reports whether a request asks for the list of versions, which needs no
// token.
func Public(r *http.Request) bool {
	switch r.URL.Path {
	case "", "/", "/versions", "/versions/":
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	return false
}

type versionView struct {
	ID     string           `json:"id"`
	Status string           `json:"status"`
	Links  []openstack.Link `json:"links"`
}

// minors are the versions that what is shown corresponds to, the latest first.
var minors = []string{"v2.12", "v2.11", "v2.10", "v2.9", "v2.8", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}

func versions(status int) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		list := make([]versionView, 0, len(minors))
		for i, id := range minors {
			v := versionView{id, "SUPPORTED", []openstack.Link{{Rel: "self", Href: openstack.BaseOf(r) + "/v2/"}}}
			if i == 0 {
				v.Status = "CURRENT"
			}
			list = append(list, v)
		}
		return openstack.WriteJSON(w, status, map[string]any{"versions": list})
	}
}
