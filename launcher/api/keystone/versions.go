package keystone

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func document(r *http.Request) view {
	return view{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []view{{"rel": "self", "href": versionURL(r) + "/"}},
		"media-types": []view{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

func (a *API) versions(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Location", versionURL(r)+"/")
	return openstack.WriteJSON(w, http.StatusMultipleChoices, view{"versions": view{"values": []view{document(r)}}})
}

func (a *API) version(w http.ResponseWriter, r *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, view{"version": document(r)})
}
