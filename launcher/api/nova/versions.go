package nova

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// versionView describes a version of the API.
type versionView struct {
	ID         string           `json:"id"`
	Status     string           `json:"status"`
	Version    string           `json:"version"`
	MinVersion string           `json:"min_version"`
	Updated    string           `json:"updated"`
	Links      []openstack.Link `json:"links"`
	MediaTypes []mediaType      `json:"media-types,omitempty"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

func version(r *http.Request) versionView {
	return versionView{
		ID: "v2.1", Status: "CURRENT", Version: versions.Max.String(), MinVersion: versions.Min.String(),
		Updated: "2013-07-23T11:33:21Z",
		Links:   []openstack.Link{{Rel: "self", Href: openstack.BaseOf(r) + root + "/"}},
	}
}

// Public reports whether a request asks for a version document, which needs no token.
func Public(r *http.Request) bool {
	switch r.URL.Path {
	case "", "/", root, root + "/":
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	return false
}

func (a *API) versionRoutes() []route {
	return []route{{method: http.MethodGet, path: "", serve: showVersion}}
}

// listVersions answers "/".
func listVersions(w http.ResponseWriter, r *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, map[string][]versionView{"versions": {version(r)}})
}

// showVersion answers "/v2.1".
func showVersion(w http.ResponseWriter, r *http.Request) error {
	v := version(r)
	v.MediaTypes = []mediaType{{"application/json", "application/vnd.openstack.compute+json;version=2.1"}}
	return openstack.WriteJSON(w, http.StatusOK, map[string]versionView{"version": v})
}
