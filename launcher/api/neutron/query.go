package neutron

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// maxPage is the most items of one answer.
const maxPage = 10000

// about are the parameters of a query that say how to answer, and not what with.
var about = []string{"fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse"}

func (x *resource[T]) serveList(a *api, w http.ResponseWriter, r *http.Request) error {
	c, q := openstack.CallerOf(r.Context()), r.URL.Query()
	if x.before != nil && c.ProjectID != "" {
		if err := x.before(r.Context(), c.ProjectID); err != nil {
			return err
		}
	}
	page, err := x.page(r, q)
	if err != nil {
		return err
	}
	if err := x.checkFilters(q); err != nil {
		return err
	}
	var views []view
	for _, v := range x.all() {
		if !a.owns(c, x.base(&v)) && (x.sees == nil || !x.sees(c, &v)) {
			continue
		}
		shown := x.view(c, &v, nil)
		keep, err := x.matches(&v, shown, q)
		if err != nil {
			return err
		}
		if keep {
			views = append(views, shown)
		}
	}
	part, more, err := openstack.Cut(views, page, func(v view) string { return v["id"].(string) }, x.sortKeys())
	if err != nil {
		return err
	}
	answer := view{x.plural: append([]view{}, trimmed(part, q["fields"])...)}
	if more {
		last := part[len(part)-1]["id"].(string)
		answer[x.plural+"_links"] = page.NextLinks(r, last)
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

// trimmed leaves of views what is asked for.
func trimmed(views []view, fields []string) []view {
	if len(fields) == 0 {
		return views
	}
	var all []view
	for _, v := range views {
		short := view{}
		for _, name := range fields {
			if value, ok := v[name]; ok {
				short[name] = value
			}
		}
		all = append(all, short)
	}
	return all
}

// page is what the query says of pages and order, which is ascending here unless it
// says otherwise.
func (x *resource[T]) page(r *http.Request, q url.Values) (openstack.Page, error) {
	page, err := openstack.ReadPage(r, maxPage)
	if len(q["sort_dir"]) == 0 && q.Get("sort") == "" {
		for i := range page.Sort {
			page.Sort[i].Desc = false
		}
	}
	if q.Get("limit") == "0" {
		page.Limit = maxPage // all of them
	}
	return page, err
}

func (x *resource[T]) sortKeys() map[string]openstack.Compare[view] {
	keys := map[string]openstack.Compare[view]{}
	for _, at := range x.attributes {
		if at.show == nil {
			continue
		}
		name := at.name
		keys[name] = func(a, b view) int {
			m, ok := a[name].(int)
			n, too := b[name].(int)
			if ok && too {
				return cmp.Compare(m, n)
			}
			return cmp.Compare(text(a[name]), text(b[name]))
		}
	}
	return keys
}

func (x *resource[T]) checkFilters(q url.Values) error {
	for name := range q {
		known := slices.Contains(about, name) || x.filters[name] != nil || tagFilters[name] != nil ||
			slices.ContainsFunc(x.attributes, func(at attribute[T]) bool { return at.name == name && at.show != nil })
		if !known {
			return openstack.BadRequest("[u'%s'] is invalid attribute for filtering", name)
		}
	}
	return nil
}

// matches holds a resource, and what is shown of it, against the filters of a query.
func (x *resource[T]) matches(v *T, shown view, q url.Values) (bool, error) {
	for name, wanted := range q {
		switch {
		case slices.Contains(about, name):
		case x.filters[name] != nil:
			if ok, err := x.filters[name](v, wanted); err != nil || !ok {
				return false, err
			}
		case tagFilters[name] != nil:
			if !tagFilters[name](x.base(v).Tags, splitAll(wanted)) {
				return false, nil
			}
		case !slices.ContainsFunc(wanted, func(s string) bool { return equal(shown[name], s) }):
			return false, nil
		}
	}
	return true, nil
}

// equal compares what is shown with a word of a query.
func equal(v any, wanted string) bool {
	switch v := v.(type) {
	case bool:
		b, err := boolean(wanted)
		return err == nil && b == v
	case []any:
		return slices.ContainsFunc(v, func(one any) bool { return text(one) == wanted })
	}
	return text(v) == wanted
}

func text(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func splitAll(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, strings.Split(v, ",")...)
	}
	return all
}

// tagFilters are what queries say of tags.
var tagFilters = map[string]func(have, wanted []string) bool{
	"tags": hasAll, "tags-any": hasAny,
	"not-tags":     func(have, wanted []string) bool { return !hasAll(have, wanted) },
	"not-tags-any": func(have, wanted []string) bool { return !hasAny(have, wanted) },
}

func hasAll(have, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(w string) bool { return !slices.Contains(have, w) })
}

func hasAny(have, wanted []string) bool {
	return slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(have, w) })
}
