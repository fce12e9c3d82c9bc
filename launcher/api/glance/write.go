package glance

import (
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
)

var (
	containerFormats = []string{"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}
	diskFormats      = []string{"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"}
)

// readOnly are the properties that nobody sets.
var readOnly = []string{
	"created_at", "updated_at", "status", "checksum", "os_hash_algo", "os_hash_value", "size", "virtual_size",
	"self", "file", "schema", "direct_url", "locations", "slipway:reference", "slipway:digest", "slipway:pulled", "stores",
}

// Limits, as Glance has them by default.
const (
	maxProperties = 128
	maxTags       = 128
	maxMembers    = 128
	maxText       = 255
)

func (a *api) create(w http.ResponseWriter, r *http.Request) error {
	var body map[string]any
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	var x catalog.Image
	if id, ok := body["id"].(string); ok {
		if _, err := uuid.Parse(id); err != nil {
			return openstack.BadRequest("Provided object does not match schema 'image': '%s' is not a UUID", id)
		}
		x.ID = strings.ToLower(id)
	}
	delete(body, "id")
	for name, value := range body {
		if err := set(r, &x, name, value); err != nil {
			return err
		}
	}
	x, err := a.images.Create(r.Context(), caller(r), x)
	if err != nil {
		return err
	}
	w.Header().Set("Location", openstack.BaseOf(r)+"/v2/images/"+x.ID)
	w.Header().Set("OpenStack-image-import-methods", strings.Join(catalog.Methods, ","))
	return openstack.WriteJSON(w, http.StatusCreated, view(x))
}

// set gives a property a value.
func set(r *http.Request, x *catalog.Image, name string, value any) error {
	if slices.Contains(readOnly, name) || name == "id" {
		return openstack.Forbidden("Attribute '%s' is read-only.", name)
	}
	if strings.HasPrefix(name, "os_glance") {
		return openstack.Forbidden("Attribute '%s' is reserved.", name)
	}
	switch name {
	case "name":
		return setText(&x.Name, name, value)
	case "owner":
		if !caller(r).Admin {
			return openstack.Forbidden("You are not permitted to modify 'owner' of this image.")
		}
		return setText(&x.Owner, name, value)
	case "visibility":
		return setOne(&x.Visibility, name, value, []string{catalog.Public, catalog.Private, catalog.Shared, catalog.Community})
	case "container_format", "disk_format":
		if x.Status != "" && x.Status != catalog.Queued {
			return openstack.Forbidden("Attribute %s can be only replaced for a queued image.", name)
		}
		if name == "disk_format" {
			return setOne(&x.Disk, name, value, diskFormats)
		}
		return setOne(&x.Container, name, value, containerFormats)
	case "protected":
		return setBool(&x.Protected, name, value)
	case "os_hidden":
		return setBool(&x.Hidden, name, value)
	case "min_disk":
		return setNumber(&x.MinDisk, name, value)
	case "min_ram":
		return setNumber(&x.MinRAM, name, value)
	case "tags":
		return setTags(x, value)
	}
	return setProperty(x, name, value)
}

func wrong(name string, value any, want string) error {
	shown, _ := json.Marshal(value) // it was JSON
	return openstack.BadRequest("Provided object does not match schema 'image': %s is not %s. Failed validating property '%s'.", shown, want, name)
}

func setText(to *string, name string, value any) error {
	s, ok := value.(string)
	if !ok && value != nil {
		return wrong(name, value, "of type 'string'")
	}
	if len([]rune(s)) > maxText {
		return wrong(name, value, "of at most 255 characters")
	}
	*to = s
	return nil
}

func setOne(to *string, name string, value any, of []string) error {
	s, ok := value.(string)
	if value == nil && name != "visibility" {
		*to = ""
		return nil
	}
	if !ok || !slices.Contains(of, s) {
		return wrong(name, value, "one of "+strings.Join(of, ", "))
	}
	*to = s
	return nil
}

func setBool(to *bool, name string, value any) error {
	b, ok := value.(bool)
	if !ok {
		return wrong(name, value, "of type 'boolean'")
	}
	*to = b
	return nil
}

func setNumber(to *int, name string, value any) error {
	n, ok := value.(float64)
	if !ok || n != float64(int32(n)) || n < 0 {
		return wrong(name, value, "a whole number from 0 to 2147483647")
	}
	*to = int(n)
	return nil
}

func setTags(x *catalog.Image, value any) error {
	list, ok := value.([]any)
	if !ok {
		return wrong("tags", value, "of type 'array'")
	}
	tags := []string{}
	for _, one := range list {
		tag, ok := one.(string)
		if !ok || len([]rune(tag)) > maxText {
			return wrong("tags", one, "a string of at most 255 characters")
		}
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	if len(tags) > maxTags {
		return openstack.Faultf(http.StatusRequestEntityTooLarge, "The limit has been exceeded on the number of allowed image tags. Attempted: %d, Maximum: %d", len(tags), maxTags)
	}
	slices.Sort(tags)
	x.Tags = tags
	return nil
}

func setProperty(x *catalog.Image, name string, value any) error {
	s, ok := value.(string)
	if !ok {
		return wrong(name, value, "of type 'string'")
	}
	if name == "" || len([]rune(name)) > maxText {
		return openstack.BadRequest("A property's name has from 1 to 255 characters.")
	}
	if x.Properties == nil {
		x.Properties = map[string]string{}
	}
	x.Properties[name] = s
	if len(x.Properties) > maxProperties {
		return openstack.Faultf(http.StatusRequestEntityTooLarge, "The limit has been exceeded on the number of allowed image properties. Attempted: %d, Maximum: %d", len(x.Properties), maxProperties)
	}
	return nil
}

// operation is one of a JSON patch.
type operation struct {
	op    string
	name  string
	value any
}

func (a *api) update(w http.ResponseWriter, r *http.Request) error {
	operations, err := readPatch(r)
	if err != nil {
		return err
	}
	x, err := a.images.Change(r.Context(), caller(r), r.PathValue("id"), "modify_image", func(x *catalog.Image) error {
		for _, o := range operations {
			if err := apply(r, x, o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view(x))
}

// Media types of patches: the later is JSON Patch as RFC 6902 has it.
const (
	patch20 = "application/openstack-images-v2.0-json-patch"
	patch21 = "application/openstack-images-v2.1-json-patch"
)

func readPatch(r *http.Request) ([]operation, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != patch20 && media != patch21 {
		return nil, openstack.Faultf(http.StatusUnsupportedMediaType, "Unsupported Content-Type: a patch is of %s or %s.", patch21, patch20)
	}
	var list []map[string]any
	if err := openstack.ReadJSON(r, &list); err != nil {
		return nil, err
	}
	var all []operation
	for _, m := range list {
		o := operation{value: m["value"]}
		path := ""
		if media == patch21 {
			o.op, _ = m["op"].(string)
			path, _ = m["path"].(string)
		} else {
			for _, op := range []string{"add", "replace", "remove"} {
				if p, ok := m[op].(string); ok {
					o.op, path = op, p
				}
			}
		}
		name, ok := strings.CutPrefix(path, "/")
		if !ok || name == "" || strings.Contains(name, "/") {
			return nil, openstack.BadRequest("Invalid JSON pointer for this resource: '%s', e.g '/key' or '/tags'.", path)
		}
		// RFC 6901.
		o.name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		if _, ok := m["value"]; !ok && o.op != "remove" {
			return nil, openstack.BadRequest("Operation \"%s\" requires a member named \"value\".", o.op)
		}
		all = append(all, o)
	}
	return all, nil
}

// basic are the properties that every image has.
var basic = []string{
	"name", "owner", "visibility", "container_format", "disk_format", "protected", "os_hidden", "min_disk", "min_ram", "tags",
}

func apply(r *http.Request, x *catalog.Image, o operation) error {
	_, has := x.Properties[o.name]
	has = has || slices.Contains(basic, o.name)
	switch o.op {
	case "add":
		return set(r, x, o.name, o.value)
	case "replace":
		if !has && !slices.Contains(readOnly, o.name) && o.name != "id" {
			return openstack.Conflict("Property %s does not exist.", o.name)
		}
		return set(r, x, o.name, o.value)
	case "remove":
		if slices.Contains(basic, o.name) || slices.Contains(readOnly, o.name) || o.name == "id" {
			return openstack.Forbidden("Property %s may not be removed.", o.name)
		}
		if !has {
			return openstack.Conflict("Property %s does not exist.", o.name)
		}
		delete(x.Properties, o.name)
		return nil
	}
	return openstack.BadRequest("Operations must be one of \"add\", \"replace\", \"remove\".")
}

// activity takes an image from one status to another, where it is not there already.
func (a *api) activity(from, to catalog.Status) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		_, err := a.images.Change(r.Context(), caller(r), r.PathValue("id"), "deactivate", func(x *catalog.Image) error {
			if x.Status != from && x.Status != to {
				return openstack.Forbidden("Not allowed to change the status of an image that is %s to %s.", x.Status, to)
			}
			x.Status = to
			return nil
		})
		if err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

func (a *api) addTag(w http.ResponseWriter, r *http.Request) error {
	return a.tag(w, r, func(x *catalog.Image, tag string) error {
		all := []any{tag}
		for _, t := range x.Tags {
			all = append(all, t)
		}
		return setTags(x, all)
	})
}

func (a *api) removeTag(w http.ResponseWriter, r *http.Request) error {
	return a.tag(w, r, func(x *catalog.Image, tag string) error {
		i := slices.Index(x.Tags, tag)
		if i < 0 {
			return openstack.NotFound("Tag not found")
		}
		x.Tags = slices.Delete(x.Tags, i, i+1)
		return nil
	})
}

func (a *api) tag(w http.ResponseWriter, r *http.Request, change func(*catalog.Image, string) error) error {
	_, err := a.images.Change(r.Context(), caller(r), r.PathValue("id"), "modify_image", func(x *catalog.Image) error {
		return change(x, r.PathValue("tag"))
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
