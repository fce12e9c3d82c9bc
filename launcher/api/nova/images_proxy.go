package nova

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// lastImageMetadata is the last microversion in which Nova passes on images' metadata.
const lastImageMetadata = 38

// imageRoutes are Nova's proxies for the image service.
func (a *API) imageRoutes() []route {
	if a.cfg.Catalog == nil {
		return nil
	}
	const one, metadata = "/images/{id}", "/images/{id}/metadata"
	read := func(path string, last openstack.Microversion, serve openstack.Func) route {
		return route{method: http.MethodGet, path: path, role: openstack.Reader, policy: "os_compute_api:images", max: last, serve: serve}
	}
	write := func(method, path string, last openstack.Microversion, serve openstack.Func) route {
		return route{method: method, path: path, role: openstack.Member, policy: "os_compute_api:images", max: last, serve: serve}
	}
	return []route{
		read("/images", lastProxies, a.listImages(false)),
		read("/images/detail", lastProxies, a.listImages(true)),
		read(one, lastProxies, a.showImage),
		write("DELETE", one, lastProxies, a.deleteImage),
		read(metadata, lastImageMetadata, a.showImageMetadata),
		write("POST", metadata, lastImageMetadata, a.setImageMetadata(false)),
		write("PUT", metadata, lastImageMetadata, a.setImageMetadata(true)),
		read(metadata+"/{key}", lastImageMetadata, a.showImageItem),
		write("PUT", metadata+"/{key}", lastImageMetadata, a.setImageItem),
		write("DELETE", metadata+"/{key}", lastImageMetadata, a.deleteImageItem),
	}
}

// imageStates are Nova's words for an image's status, and how far it then is.
var imageStates = map[catalog.Status]struct {
	status   string
	progress int
}{
	catalog.Active: {"ACTIVE", 100}, catalog.Queued: {"SAVING", 25}, catalog.Saving: {"SAVING", 50},
	catalog.Uploading: {"SAVING", 50}, catalog.Importing: {"SAVING", 50},
}

func viewImage(r *http.Request, i *catalog.Image, detail bool) view {
	path := "/images/" + i.ID
	all := []any{view{
		"rel": "alternate", "type": "application/vnd.openstack.image", "href": strings.TrimSuffix(openstack.BaseOf(r), "/compute") + "/image" + path,
	}}
	for _, l := range links(r, path) {
		all = append(all, l)
	}
	v := view{"id": i.ID, "name": i.Name, "links": all}
	if !detail {
		return v
	}
	state := imageStates[i.Status]
	if state.status == "" {
		state.status = "UNKNOWN"
	}
	v["status"], v["progress"] = state.status, state.progress
	v["minRam"], v["minDisk"], v["OS-EXT-IMG-SIZE:size"] = i.MinRAM, i.MinDisk, i.Size
	v["created"], v["updated"] = second(i.Created), second(i.Updated)
	v["metadata"] = orEmpty(i.Properties)
	if id := i.Properties["instance_uuid"]; id != "" {
		v["server"] = view{"id": id, "links": links(r, "/servers/"+id)}
	}
	return v
}

// listImages lists by Nova's filters.
func (a *API) listImages(detail bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		page, err := openstack.ReadPage(r, maxPage)
		if err != nil {
			return err
		}
		who := asked(openstack.CallerOf(r.Context()))
		all, err := a.cfg.Catalog.All(r.Context(), who)
		if err != nil {
			return err
		}
		keep, err := imageFilter(r)
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(i catalog.Image) bool { return !who.Lists(i, "", "") || i.Hidden || !keep(&i) })
		part, more, err := openstack.Cut(all, page, func(i catalog.Image) string { return i.ID }, nil)
		if err != nil {
			return err
		}
		views := []view{}
		for n := range part {
			views = append(views, viewImage(r, &part[n], detail))
		}
		answer := view{"images": views}
		if more {
			answer["images_links"] = []openstack.Link{{Rel: "next", Href: openstack.BaseOf(r) + page.Next(part[len(part)-1].ID)}}
		}
		return openstack.WriteJSON(w, http.StatusOK, answer)
	}
}

func imageFilter(r *http.Request) (func(*catalog.Image) bool, error) {
	q := r.URL.Query()
	var since time.Time
	if s := q.Get("changes-since"); s != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, s); err != nil {
			return nil, openstack.BadRequest("Invalid changes-since value")
		}
	}
	server := lastPart(q.Get("server"))
	return func(i *catalog.Image) bool {
		snapshot := i.Properties["image_type"] == "snapshot"
		return (!q.Has("name") || q.Get("name") == i.Name) &&
			(!q.Has("status") || strings.EqualFold(q.Get("status"), imageStates[i.Status].status)) &&
			(server == "" || server == i.Properties["instance_uuid"]) &&
			(!q.Has("type") || (q.Get("type") == "snapshot") == snapshot) &&
			!i.Updated.Before(since)
	}, nil
}

// proxied finds the image of a request.
func (a *API) proxied(r *http.Request) (catalog.Image, error) {
	i, err := a.cfg.Catalog.Find(r.Context(), asked(openstack.CallerOf(r.Context())), r.PathValue("id"))
	return i, notFoundAs(err, openstack.NotFound("Image not found."))
}

func (a *API) showImage(w http.ResponseWriter, r *http.Request) error {
	i, err := a.proxied(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "image", viewImage(r, &i, true))
}

func (a *API) deleteImage(w http.ResponseWriter, r *http.Request) error {
	err := a.cfg.Catalog.Delete(r.Context(), asked(openstack.CallerOf(r.Context())), r.PathValue("id"))
	if err != nil {
		return notFoundAs(err, openstack.NotFound("Image not found."))
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) showImageMetadata(w http.ResponseWriter, r *http.Request) error {
	i, err := a.proxied(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "metadata", orEmpty(i.Properties))
}

// changeImage changes the properties of an image of the caller's.
func (a *API) changeImage(r *http.Request, change func(properties map[string]string) error) (catalog.Image, error) {
	caller := openstack.CallerOf(r.Context())
	i, err := a.cfg.Catalog.Change(r.Context(), asked(caller), r.PathValue("id"), "modify_image", func(i *catalog.Image) error {
		if i.Properties == nil {
			i.Properties = map[string]string{}
		}
		if err := change(i.Properties); err != nil {
			return err
		}
		return a.cfg.Compute.Quotas.Metadata(caller.ProjectID, caller.UserID, len(i.Properties))
	})
	return i, notFoundAs(err, openstack.NotFound("Image not found."))
}

// setImageMetadata adds properties; whole, those are all.
func (a *API) setImageMetadata(whole bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		b, err := readBody(r, object(map[string]*schema{"metadata": aMetadata}, "metadata"))
		if err != nil {
			return err
		}
		i, err := a.changeImage(r, func(properties map[string]string) error {
			if whole {
				clear(properties)
			}
			for key, value := range stringsOf(b.in("metadata")) {
				properties[key] = value
			}
			return nil
		})
		if err != nil {
			return err
		}
		return writeOne(w, http.StatusOK, "metadata", orEmpty(i.Properties))
	}
}

func (a *API) showImageItem(w http.ResponseWriter, r *http.Request) error {
	i, err := a.proxied(r)
	if err != nil {
		return err
	}
	key := r.PathValue("key")
	value, ok := i.Properties[key]
	if !ok {
		return noImageItem()
	}
	return writeOne(w, http.StatusOK, "meta", view{key: value})
}

func noImageItem() error { return openstack.NotFound("Metadata item was not found") }

func (a *API) setImageItem(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, object(map[string]*schema{"meta": aMetadata}, "meta"))
	if err != nil {
		return err
	}
	key, meta := r.PathValue("key"), stringsOf(b.in("meta"))
	if _, ok := meta[key]; !ok || len(meta) != 1 {
		return openstack.BadRequest("Request body and URI mismatch")
	}
	_, err = a.changeImage(r, func(properties map[string]string) error {
		properties[key] = meta[key]
		return nil
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "meta", meta)
}

func (a *API) deleteImageItem(w http.ResponseWriter, r *http.Request) error {
	key := r.PathValue("key")
	_, err := a.changeImage(r, func(properties map[string]string) error {
		if _, ok := properties[key]; !ok {
			return noImageItem()
		}
		delete(properties, key)
		return nil
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
