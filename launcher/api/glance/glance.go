package glance

import (
	"log/slog"
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// Config is what the API stands on.
type Config struct {
	Images *compute.Images
	Log    *slog.Logger
}

type api struct{ images *compute.Images }

// New makes the handler. Callers are authenticated before it; see [Public].
func New(cfg Config) http.Handler {
	a := &api{images: cfg.Images}
	return openstack.NewMux(openstack.Image, cfg.Log, []openstack.Route{
		{Method: "GET", Path: "/{$}", Serve: versions(http.StatusMultipleChoices)},
		{Method: "GET", Path: "/versions", Serve: versions(http.StatusOK)},
		{Method: "GET", Path: "/v2/images", Serve: reading(a.list)},
		{Method: "GET", Path: "/v2/images/{id}", Serve: reading(a.show)},
		{Method: "DELETE", Path: "/v2/images/{id}", Serve: reading(a.remove)},
		{Method: "GET", Path: "/v2/images/{id}/members", Serve: reading(a.members)},
		{Method: "GET", Path: "/v2/schemas/image", Serve: showSchema(imageSchema)},
		{Method: "GET", Path: "/v2/schemas/images", Serve: showSchema(imagesSchema)},
	})
}

// reading lets those through who may read.
func reading(serve openstack.Func) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !openstack.CallerOf(r.Context()).Has(openstack.Reader) {
			return openstack.Forbidden("You are not authorized to complete this action.")
		}
		return serve(w, r)
	}
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
var minors = []string{"v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0"}

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
