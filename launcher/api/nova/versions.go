package nova

import (
	"net/http"
	"strings"

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

// legacy begins the paths of version 2.0, which is 2.1 without microversions.
const legacy = "/v2"

func legacyVersion(r *http.Request) versionView {
	return versionView{
		ID: "v2.0", Status: "SUPPORTED", Updated: "2011-01-21T11:33:21Z",
		Links: []openstack.Link{{Rel: "self", Href: openstack.BaseOf(r) + legacy + "/"}},
	}
}

// modern makes a request for version 2.0 one for 2.1.
func modern(r *http.Request) *http.Request {
	rest, ok := strings.CutPrefix(r.URL.Path, legacy)
	if !ok || rest != "" && rest[0] != '/' {
		return r
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = root+rest, ""
	openstack.WithoutMicroversion(r.Header)
	return r
}

// Public reports whether a request asks for a version document, which needs no token.
func Public(r *http.Request) bool {
	switch r.URL.Path {
	case "", "/", root, root + "/", legacy, legacy + "/":
		return r.Method == http.MethodGet || r.Method == http.MethodHead
	}
	return false
}

func (a *API) versionRoutes() []route {
	return []route{{method: http.MethodGet, path: "", serve: showVersion}}
}

// listVersions answers "/".
func listVersions(w http.ResponseWriter, r *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, map[string][]versionView{"versions": {legacyVersion(r), version(r)}})
}

// showVersion answers "/v2.1".
func showVersion(w http.ResponseWriter, r *http.Request) error {
	return writeVersion(w, version(r), "2.1")
}

// showLegacyVersion answers "/v2".
func showLegacyVersion(w http.ResponseWriter, r *http.Request) error {
	return writeVersion(w, legacyVersion(r), "2")
}

func writeVersion(w http.ResponseWriter, v versionView, media string) error {
	v.MediaTypes = []mediaType{{"application/json", "application/vnd.openstack.compute+json;version=" + media}}
	return openstack.WriteJSON(w, http.StatusOK, map[string]versionView{"version": v})
}
