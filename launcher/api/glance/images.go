package glance

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// imageView is an image as it is shown. Data of Glance's that an image of layers
// has none of is null.
type imageView struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status"`
	Visibility  string   `json:"visibility"`
	Container   string   `json:"container_format"`
	Disk        string   `json:"disk_format"`
	Size        *int64   `json:"size"`
	VirtualSize *int64   `json:"virtual_size"`
	Checksum    *string  `json:"checksum"`
	HashAlgo    *string  `json:"os_hash_algo"`
	HashValue   *string  `json:"os_hash_value"`
	MinDisk     int      `json:"min_disk"`
	MinRAM      int      `json:"min_ram"`
	Owner       *string  `json:"owner"`
	Protected   bool     `json:"protected"`
	Hidden      bool     `json:"os_hidden"`
	Tags        []string `json:"tags"`
	Created     string   `json:"created_at"`
	Updated     string   `json:"updated_at"`
	Self        string   `json:"self"`
	File        string   `json:"file"`
	Schema      string   `json:"schema"`

	Arch      string `json:"architecture,omitempty"` // in Nova's words
	Reference string `json:"slipway:reference"`
	Digest    string `json:"slipway:digest,omitempty"` // of the manifest
	// Pulled is "False" for an image that is fetched when a server is made from it.
	Pulled string `json:"slipway:pulled"`
}

func view(x compute.Image) imageView {
	const form = "2006-01-02T15:04:05Z"
	v := imageView{
		ID: x.ID, Name: x.Name, Status: "active", Visibility: "public", Container: "docker", Disk: "raw", Tags: []string{},
		Created: x.Created.UTC().Format(form), Updated: x.Updated.UTC().Format(form),
		Self: "/v2/images/" + x.ID, File: "/v2/images/" + x.ID + "/file", Schema: "/v2/schemas/image",
		Reference: x.Reference, Digest: x.Digest, Pulled: "False", Arch: x.Arch,
	}
	if machine, ok := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[x.Arch]; ok {
		v.Arch = machine
	}
	if x.Ready {
		v.Pulled = "True"
	}
	if x.Glance {
		v.Visibility, v.Owner = x.Visibility, &x.Owner
	}
	if x.Size > 0 {
		v.Size = &x.Size
	}
	if algo, value, ok := strings.Cut(x.Digest, ":"); ok && value != "" {
		v.HashAlgo, v.HashValue = &algo, &value
	}
	return v
}

// values are what filters and sorting compare, by the name of the property.
func (v imageView) values() map[string]string {
	deref := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return map[string]string{
		"id": v.ID, "name": v.Name, "status": v.Status, "visibility": v.Visibility, "container_format": v.Container, "disk_format": v.Disk,
		"os_hash_algo": deref(v.HashAlgo), "os_hash_value": deref(v.HashValue), "owner": deref(v.Owner), "checksum": deref(v.Checksum),
		"protected": strconv.FormatBool(v.Protected), "os_hidden": strconv.FormatBool(v.Hidden), "created_at": v.Created, "updated_at": v.Updated,
		"min_disk": strconv.Itoa(v.MinDisk), "min_ram": strconv.Itoa(v.MinRAM),
		"architecture": v.Arch, "slipway:reference": v.Reference, "slipway:digest": v.Digest, "slipway:pulled": v.Pulled,
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
	found, err := a.named(r, q)
	if err != nil {
		return err
	}
	var list []imageView
	for _, x := range found {
		v := view(x)
		keep, err := matches(v, q)
		if err != nil {
			return err
		}
		if keep {
			list = append(list, v)
		}
	}
	part, more, err := openstack.Cut(list, page, func(v imageView) string { return v.ID }, sortKeys)
	if err != nil {
		return err
	}
	answer := map[string]any{"images": append([]imageView{}, part...), "schema": "/v2/schemas/images", "first": first(r.URL)}
	if more {
		answer["next"] = page.Next(part[len(part)-1].ID)
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

// named returns the images that a query may be about: of one for a name the image
// that it means, which need not be here.
func (a *api) named(r *http.Request, q url.Values) ([]compute.Image, error) {
	name := q.Get("name")
	if name == "" || strings.HasPrefix(name, "in:") {
		return a.images.All(r.Context())
	}
	x, err := a.images.Named(r.Context(), name)
	if errors.Is(err, launcher.ErrNotFound) {
		return nil, nil
	}
	return []compute.Image{x}, err
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
var sortKeys = func() map[string]openstack.Compare[imageView] {
	keys := map[string]openstack.Compare[imageView]{
		"size": openstack.By(func(v imageView) int64 {
			if v.Size == nil {
				return 0
			}
			return *v.Size
		}),
	}
	for _, name := range []string{"name", "status", "container_format", "disk_format", "id", "created_at", "updated_at"} {
		keys[name] = openstack.By(func(v imageView) string { return v.values()[name] })
	}
	return keys
}()

// matches holds an image against the filters of a query. Those that are no property
// of it keep it out, as in Glance.
func matches(v imageView, q url.Values) (bool, error) {
	for name, wanted := range q {
		ok := true
		var err error
		switch name {
		case "limit", "marker", "sort", "sort_key", "sort_dir", "member_status":
		case "tag":
			ok = !slices.ContainsFunc(wanted, func(t string) bool { return !slices.Contains(v.Tags, t) })
		case "size_min", "size_max":
			ok, err = sized(v, name, wanted[0])
		case "created_at", "updated_at":
			ok, err = dated(v.values()[name], name, wanted[0])
		case "visibility":
			ok, err = visible(v, wanted[0])
		case "protected", "os_hidden":
			ok = strings.EqualFold(v.values()[name], wanted[0])
		default:
			ok = equal(v.values()[name], wanted[0])
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

func visible(v imageView, wanted string) (bool, error) {
	if !slices.Contains([]string{"public", "private", "shared", "community", "all"}, wanted) {
		return false, openstack.BadRequest("Invalid visibility value: %s", wanted)
	}
	return wanted == "all" || v.Visibility == wanted, nil
}

func sized(v imageView, name, wanted string) (bool, error) {
	n, err := strconv.ParseInt(wanted, 10, 64)
	if err != nil || n < 0 {
		return false, openstack.BadRequest("Invalid value for option %s: %s. It must be a whole number, 0 or more.", name, wanted)
	}
	var size int64
	if v.Size != nil {
		size = *v.Size
	}
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
	x, err := a.find(r)
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view(x))
}

func (a *api) find(r *http.Request) (compute.Image, error) {
	x, err := a.images.Find(r.Context(), r.PathValue("id"))
	if errors.Is(err, launcher.ErrNotFound) {
		err = openstack.NotFound("No image found with ID %s", r.PathValue("id"))
	}
	return x, err
}

func (a *api) remove(w http.ResponseWriter, r *http.Request) error {
	x, err := a.find(r)
	if err != nil {
		return err
	}
	if !openstack.CallerOf(r.Context()).Has(openstack.Admin) {
		return openstack.Forbidden("You are not authorized to complete delete_image action.")
	}
	if x.Glance {
		return openstack.Forbidden("Image %s is stored in Glance: delete it there.", x.ID)
	}
	err = a.images.Delete(r.Context(), x.ID)
	if errors.Is(err, launcher.ErrConflict) {
		return openstack.Conflict("Image %s could not be deleted because it is in use: servers are made from it.", x.ID)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// members: images that are public are shared with nobody in particular.
func (a *api) members(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.find(r); err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"members": []string{}, "schema": "/v2/schemas/members"})
}
