package glance

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// createTask makes an image of what a URL has, all in one: what Glance's tasks of the
// type import do, and there are no others.
func (a *api) createTask(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Type  string         `json:"type"`
		Input map[string]any `json:"input"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	if body.Type != "import" {
		return openstack.BadRequest("Provided object does not match schema 'task': '%s' is not one of ['import']", body.Type)
	}
	uri, _ := body.Input["import_from"].(string)
	format, _ := body.Input["import_from_format"].(string)
	properties, ok := body.Input["image_properties"].(map[string]any)
	if uri == "" || format == "" || !ok {
		return openstack.BadRequest("Input does not contain 'import_from', 'import_from_format' and 'image_properties'.")
	}
	x := catalog.Image{Disk: format, Container: "bare"}
	for name, value := range properties {
		if err := set(r, &x, name, value); err != nil {
			return err
		}
	}
	x, err := a.images.Create(r.Context(), caller(r), x)
	if err != nil {
		return err
	}
	t, err := a.images.Import(r.Context(), caller(r), x.ID, catalog.Import{
		Method: catalog.MethodDownload, URI: uri, Request: openstack.RequestIDOf(r.Context()), Type: body.Type, Input: body.Input,
	})
	if err != nil {
		if derr := a.images.Delete(r.Context(), caller(r), x.ID); derr != nil {
			a.log.Error("image of no task not deleted", "image", x.ID, "err", derr)
		}
		return err
	}
	w.Header().Set("Location", openstack.BaseOf(r)+"/v2/tasks/"+t.ID)
	return openstack.WriteJSON(w, http.StatusCreated, taskView(t))
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
