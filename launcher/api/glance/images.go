package glance

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

// shape is a time's.
const shape = "2006-01-02T15:04:05Z"

// view shows an image. What of Glance's an image has none of is null.
func view(x catalog.Image) map[string]any {
	v := map[string]any{
		"id": x.ID, "name": orNull(x.Name), "status": x.Status, "visibility": x.Visibility, "owner": orNull(x.Owner),
		"container_format": orNull(x.Container), "disk_format": orNull(x.Disk), "min_disk": x.MinDisk, "min_ram": x.MinRAM,
		"protected": x.Protected, "os_hidden": x.Hidden, "tags": append([]string{}, x.Tags...),
		"created_at": x.Created.UTC().Format(shape), "updated_at": x.Updated.UTC().Format(shape),
		"self": "/v2/images/" + x.ID, "file": "/v2/images/" + x.ID + "/file", "schema": "/v2/schemas/image",
		"checksum": orNull(x.Checksum), "os_hash_algo": nil, "os_hash_value": nil, "size": nil, "virtual_size": nil,
	}
	if x.Size > 0 || x.Data {
		v["size"] = x.Size
	}
	if x.Hash != "" {
		v["os_hash_algo"], v["os_hash_value"] = "sha512", x.Hash
	}
	if x.Status == catalog.Active || x.Status == catalog.Deactivated {
		v["stores"] = storeID
	}
	if x.Arch != "" {
		v["architecture"] = x.Arch
	}
	if x.Reference != "" && !x.Data {
		v["slipway:reference"] = x.Reference
	}
	if x.Digest != "" {
		v["slipway:digest"] = x.Digest
	}
	if x.Status == catalog.Active && x.Container == catalog.Container {
		// "False" for an image that is fetched when a server is made from it.
		v["slipway:pulled"] = map[bool]string{true: "True", false: "False"}[x.Pulled]
	}
	if x.Status == catalog.Queued || x.Status == catalog.Uploading || x.Status == catalog.Importing {
		v["os_glance_importing_to_stores"], v["os_glance_failed_import"] = "", ""
		if x.Status == catalog.Importing {
			v["os_glance_importing_to_stores"] = storeID
		}
		if x.FailedImport {
			v["os_glance_failed_import"] = storeID
		}
	}
	for name, value := range x.Properties {
		v[name] = value
	}
	return v
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// text is a property as filters and sorting compare it.
func text(v map[string]any, name string) string {
	switch x := v[name].(type) {
	case nil:
		return ""
	case string:
		return x
	default:
		return fmt.Sprint(x)
	}
}

// maxPage is the most images that one answer holds.
const maxPage = 1000

func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	page, err := openstack.ReadPage(r, maxPage)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	member := q.Get("member_status")
	if !slices.Contains([]string{"", "pending", "accepted", "rejected", "all"}, member) {
		return openstack.BadRequest("Invalid status: %s", member)
	}
	if visibility := q.Get("visibility"); !slices.Contains([]string{"", "all", catalog.Public, catalog.Private, catalog.Shared, catalog.Community}, visibility) {
		return openstack.BadRequest("Invalid visibility value: %s", visibility)
	}
	found, err := a.named(r, q)
	if err != nil {
		return err
	}
	var list []map[string]any
	for _, x := range found {
		if !caller(r).Lists(x, q.Get("visibility"), member) || x.Hidden && !q.Has("os_hidden") {
			continue
		}
		v := view(x)
		keep, err := matches(v, q)
		if err != nil {
			return err
		}
		if keep {
			list = append(list, v)
		}
	}
	id := func(v map[string]any) string { return text(v, "id") }
	part, more, err := openstack.Cut(list, page, id, sortKeys)
	if err != nil {
		return err
	}
	answer := map[string]any{"images": append([]map[string]any{}, part...), "schema": "/v2/schemas/images", "first": first(r.URL)}
	if more {
		answer["next"] = page.Next(id(part[len(part)-1]))
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

func caller(r *http.Request) catalog.Caller {
	c := openstack.CallerOf(r.Context())
	return catalog.Caller{Project: c.ProjectID, Admin: c.Has(openstack.Admin)}
}

// named returns the images that a query may be about: of one for a name that no image
// of the catalog has, the image that it refers to, which need not be here.
func (a *api) named(r *http.Request, q url.Values) ([]catalog.Image, error) {
	name := q.Get("name")
	if name == "" || strings.HasPrefix(name, "in:") {
		return a.images.All(r.Context(), caller(r))
	}
	return a.images.Named(r.Context(), caller(r), name)
}

// first is the path of the first page of a list.
func first(u *url.URL) string {
	q := u.Query()
	q.Del("marker")
	if len(q) == 0 {
		return u.Path
	}
	return u.Path + "?" + q.Encode()
}

// sortKeys are what a list can be ordered by.
var sortKeys = func() map[string]openstack.Compare[map[string]any] {
	keys := map[string]openstack.Compare[map[string]any]{}
	for _, name := range []string{"size", "min_disk", "min_ram"} {
		keys[name] = openstack.By(func(v map[string]any) int64 { return number(v, name) })
	}
	for _, name := range []string{"name", "status", "container_format", "disk_format", "id", "created_at", "updated_at", "visibility", "owner"} {
		keys[name] = openstack.By(func(v map[string]any) string { return text(v, name) })
	}
	return keys
}()

func number(v map[string]any, name string) int64 {
	n, _ := strconv.ParseInt(text(v, name), 10, 64) // null is 0
	return n
}

// matches holds an image against the filters of a query. Those that are no property
// of it keep it out, as in Glance.
func matches(v map[string]any, q url.Values) (bool, error) {
	for name, wanted := range q {
		ok := true
		var err error
		switch name {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "member_status", "visibility":
		case "tag":
			tags, _ := v["tags"].([]string)
			ok = !slices.ContainsFunc(wanted, func(t string) bool { return !slices.Contains(tags, t) })
		case "size_min", "size_max":
			ok, err = sized(v, name, wanted[0])
		case "created_at", "updated_at":
			ok, err = dated(text(v, name), name, wanted[0])
		case "protected", "os_hidden":
			ok = strings.EqualFold(text(v, name), wanted[0])
		default:
			ok = equal(text(v, name), wanted[0])
		}
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// equal compares with one value, or with each of "in:a,b".
func equal(have, wanted string) bool {
	if list, ok := strings.CutPrefix(wanted, "in:"); ok {
		for one := range strings.SplitSeq(list, ",") {
			if have == strings.Trim(one, `"`) {
				return true
			}
		}
		return false
	}
	return have == strings.TrimPrefix(wanted, "eq:")
}

func sized(v map[string]any, name, wanted string) (bool, error) {
	n, err := strconv.ParseInt(wanted, 10, 64)
	if err != nil || n < 0 {
		return false, openstack.BadRequest("Invalid value for option %s: %s. It must be a whole number, 0 or more.", name, wanted)
	}
	size := number(v, "size")
	return name == "size_min" && size >= n || name == "size_max" && size <= n, nil
}

// dated compares times by an operator: "gte:2026-01-02T03:04:05Z".
func dated(have, name, wanted string) (bool, error) {
	operator, text, ok := strings.Cut(wanted, ":")
	if !ok || !slices.Contains([]string{"gt", "gte", "lt", "lte", "eq", "neq"}, operator) {
		operator, text = "eq", wanted
	}
	then, err := time.Parse(time.RFC3339, text)
	at, herr := time.Parse(time.RFC3339, have)
	if err != nil || herr != nil {
		return false, openstack.BadRequest("Bad \"%s\" query filter format. Use ISO 8601 DateTime notation.", name)
	}
	c := at.Compare(then)
	return map[string]bool{"gt": c > 0, "gte": c >= 0, "lt": c < 0, "lte": c <= 0, "eq": c == 0, "neq": c != 0}[operator], nil
}

func (a *api) show(w http.ResponseWriter, r *http.Request) error {
	x, err := a.images.Find(r.Context(), caller(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view(x))
}

func (a *api) remove(w http.ResponseWriter, r *http.Request) error {
	if err := a.images.Delete(r.Context(), caller(r), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
