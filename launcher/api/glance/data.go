package glance

import (
	"errors"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

func (a *api) upload(w http.ResponseWriter, r *http.Request) error {
	if err := octets(r); err != nil {
		return err
	}
	if err := a.images.Upload(r.Context(), caller(r), r.PathValue("id"), r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *api) stage(w http.ResponseWriter, r *http.Request) error {
	if err := octets(r); err != nil {
		return err
	}
	if err := a.images.Stage(r.Context(), caller(r), r.PathValue("id"), r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func octets(r *http.Request) error {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/octet-stream" {
		return openstack.Faultf(http.StatusUnsupportedMediaType, "Unsupported Content-Type: data is of application/octet-stream.")
	}
	return nil
}

func (a *api) download(w http.ResponseWriter, r *http.Request) error {
	x, d, err := a.images.Data(r.Context(), caller(r), r.PathValue("id"))
	if errors.Is(err, catalog.ErrNoData) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	if x.Checksum != "" {
		// As Glance has it: in hexadecimal, where HTTP once wanted base64.
		h.Set("Content-MD5", x.Checksum)
	}
	if d.File != nil {
		http.ServeContent(w, r, "", time.Time{}, d.File)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(d.Size, 10))
	if err := d.Write(r.Context(), w); err != nil {
		a.log.Warn("image not sent whole", "image", x.ID, "err", err)
		panic(http.ErrAbortHandler) // the client must not take it for whole
	}
	return nil
}

func (a *api) importData(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Method struct {
			Name string `json:"name"`
			URI  string `json:"uri"`
		} `json:"method"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	_, err := a.images.Import(r.Context(), caller(r), r.PathValue("id"), catalog.Import{
		Method: body.Method.Name, URI: body.Method.URI, Request: openstack.RequestIDOf(r.Context()),
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func importInfo(w http.ResponseWriter, _ *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"import-methods": map[string]any{
		"description": "Import methods available.", "type": "array", "value": catalog.Methods,
	}})
}

// storeID names the one store.
const storeID = "file"

func storesInfo(w http.ResponseWriter, _ *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"stores": []map[string]any{
		{"id": storeID, "description": "Files of this host", "default": true},
	}})
}
