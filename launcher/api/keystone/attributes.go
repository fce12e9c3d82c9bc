package keystone

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// view is a resource as it is sent.
type view map[string]any

// attributes reads the members of a resource in a request. What is not taken out by
// name is an attribute of the client's own, and kept.
type attributes struct {
	rest map[string]any
	err  error // the first
}

// readAttributes reads a body {what: {...}}.
func readAttributes(r *http.Request, what string) (*attributes, error) {
	var body map[string]json.RawMessage
	if err := openstack.ReadJSON(r, &body); err != nil {
		return nil, err
	}
	a := &attributes{}
	if err := json.Unmarshal(body[what], &a.rest); err != nil || a.rest == nil {
		return nil, openstack.BadRequest("Malformed request body: it has no object '%s'.", what)
	}
	delete(a.rest, "links")
	return a, nil
}

// take moves a member into to; null is the zero value. It reports whether the
// member was there.
func take[T any](a *attributes, name, kind string, to *T) bool {
	value, ok := a.rest[name]
	if !ok {
		return false
	}
	delete(a.rest, name)
	typed, good := value.(T)
	if value != nil && !good && a.err == nil {
		a.err = openstack.BadRequest("Invalid input for field '%s': %v is not of type '%s'.", name, value, kind)
	}
	*to = typed
	return true
}

func (a *attributes) text(name string, to *string) bool { return take(a, name, "string", to) }

func (a *attributes) flag(name string, to *bool) { take(a, name, "boolean", to) }

func (a *attributes) object(name string, to *map[string]any) { take(a, name, "object", to) }

func (a *attributes) words(name string, to *[]string) bool {
	var values []any
	if !take(a, name, "array", &values) {
		return false
	}
	words := []string{}
	for _, v := range values {
		s, ok := v.(string)
		if !ok && a.err == nil {
			a.err = openstack.BadRequest("Invalid input for field '%s': %v is not of type 'string'.", name, v)
		}
		words = append(words, s)
	}
	*to = words
	return true
}

// extra lays what is left over what there was: null takes an attribute away.
func (a *attributes) extra(to *map[string]any) error {
	if a.err != nil {
		return a.err
	}
	all := map[string]any{}
	maps.Copy(all, *to)
	for name, value := range a.rest {
		if value == nil {
			delete(all, name)
			continue
		}
		all[name] = value
	}
	if len(all) == 0 {
		all = nil
	}
	*to = all
	return nil
}

// same refuses a member that differs from what cannot be changed.
func (a *attributes) same(name, now string) {
	was := now
	if a.text(name, &was) && was != now && a.err == nil {
		a.err = openstack.BadRequest("Cannot change '%s'.", name)
	}
}

// build makes a view of what the resource has itself and of the client's own
// attributes.
func build(r *http.Request, path, id string, own view, extra map[string]any) view {
	v := view{}
	maps.Copy(v, extra)
	maps.Copy(v, own)
	v["id"] = id
	v["links"] = view{"self": versionURL(r) + "/" + path + "/" + url.PathEscape(id)}
	return v
}

// orNull is null for an empty text.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// orEmpty is an object also where there is none.
func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// timestamp writes a time as Keystone does.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

// writeOne answers with one resource.
func writeOne(w http.ResponseWriter, status int, name string, v view) error {
	return openstack.WriteJSON(w, status, view{name: v})
}

// writeList answers with the views that the query asks for.
func writeList(w http.ResponseWriter, r *http.Request, name string, views []view) error {
	list := []view{}
	for _, v := range views {
		if matches(v, r.URL.Query()) {
			list = append(list, v)
		}
	}
	self := openstack.BaseOf(r) + r.URL.RequestURI()
	return openstack.WriteJSON(w, http.StatusOK, view{
		name: list, "links": view{"self": self, "previous": nil, "next": nil},
	})
}

// matches tests a view against the parameters of a query that name attributes of it,
// alone or with one of Keystone's comparators: name__contains.
func matches(v view, query url.Values) bool {
	for key, wanted := range query {
		name, how, _ := strings.Cut(key, "__")
		value, ok := v[name]
		if _, isList := value.([]string); !ok || isList || len(wanted) == 0 {
			continue
		}
		if !compare(value, how, wanted[0]) {
			return false
		}
	}
	return true
}

func compare(value any, how, wanted string) bool {
	if flag, ok := value.(bool); ok {
		off := wanted == "0" || strings.EqualFold(wanted, "false")
		return flag != off
	}
	have := ""
	if value != nil {
		have = fmt.Sprint(value)
	}
	if rest, ok := strings.CutPrefix(how, "i"); ok && rest != "" {
		have, wanted, how = strings.ToLower(have), strings.ToLower(wanted), rest
	}
	switch how {
	case "contains":
		return strings.Contains(have, wanted)
	case "startswith":
		return strings.HasPrefix(have, wanted)
	case "endswith":
		return strings.HasSuffix(have, wanted)
	}
	return have == wanted
}

// views makes a view of each item.
func views[T any](items []T, f func(T) view) []view {
	list := make([]view, 0, len(items))
	for _, item := range items {
		list = append(list, f(item))
	}
	return list
}

// done answers a change that has nothing to show.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
