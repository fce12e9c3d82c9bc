package glance

import (
	"errors"
	"mime"
	"net/http"
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
	x, f, err := a.images.Data(r.Context(), caller(r), r.PathValue("id"))
	if errors.Is(err, catalog.ErrNoData) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	// As Glance has it: in hexadecimal, where HTTP once wanted base64.
	h.Set("Content-MD5", x.Checksum)
	http.ServeContent(w, r, "", time.Time{}, f)
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

func storesInfo(w http.ResponseWriter, _ *http.Request) error {
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"stores": []map[string]any{
		{"id": "file", "description": "Files of this host", "default": true},
	}})
}

func taskView(t catalog.Task) map[string]any {
	v := map[string]any{
		"id": t.ID, "type": t.Type, "status": t.Status, "owner": t.Owner, "image_id": t.Image, "request_id": t.Request, "user_id": nil,
		"input": t.Input, "result": nil, "message": t.Message, "expires_at": nil,
		"created_at": t.Created.Format(shape), "updated_at": t.Updated.Format(shape),
		"self": "/v2/tasks/" + t.ID, "schema": "/v2/schemas/task",
	}
	if !t.Expires.IsZero() {
		v["expires_at"] = t.Expires.Format(shape)
	}
	if t.Status == catalog.TaskSuccess {
		v["result"] = map[string]string{"image_id": t.Image}
	}
	return v
}

func (a *api) tasks(w http.ResponseWriter, r *http.Request) error {
	page, err := openstack.ReadPage(r, maxPage)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	var list []map[string]any
	for _, t := range a.images.Tasks(caller(r)) {
		v := taskView(t)
		if (!q.Has("status") || q.Get("status") == t.Status) && (!q.Has("type") || q.Get("type") == t.Type) {
			list = append(list, v)
		}
	}
	keys := map[string]openstack.Compare[map[string]any]{}
	for _, name := range []string{"id", "type", "status", "created_at", "updated_at", "expires_at"} {
		keys[name] = openstack.By(func(v map[string]any) string { return text(v, name) })
	}
	id := func(v map[string]any) string { return text(v, "id") }
	part, more, err := openstack.Cut(list, page, id, keys)
	if err != nil {
		return err
	}
	answer := map[string]any{"tasks": append([]map[string]any{}, part...), "schema": "/v2/schemas/tasks", "first": first(r.URL)}
	if more {
		answer["next"] = page.Next(id(part[len(part)-1]))
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

func (a *api) task(w http.ResponseWriter, r *http.Request) error {
	t, err := a.images.Task(caller(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, taskView(t))
}

// imageTasks are those of one image.
func (a *api) imageTasks(w http.ResponseWriter, r *http.Request) error {
	x, err := a.images.Find(r.Context(), caller(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	list := []map[string]any{}
	for _, t := range a.images.Tasks(caller(r)) {
		if t.Image == x.ID {
			list = append(list, taskView(t))
		}
	}
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"tasks": list})
}
