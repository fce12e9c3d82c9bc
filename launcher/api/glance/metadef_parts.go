package glance

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

// part is a kind of what namespaces hold, each with a name that is its own there.
type part[T any] struct {
	word, plural string // plural: also in paths
	in           func(*metadefs.Namespace) *[]T
	name         func(T) string
	read         func(*http.Request) (T, error)
	// dates are where one has when it was made and changed; nil: it has not.
	dates func(*T) (created, updated *time.Time)
	view  func(n *metadefs.Namespace, x T) any
	// all shows all of a namespace; nil: as a list, in pages.
	all func(n *metadefs.Namespace) any
}

type associationBody struct {
	Created fixed  `json:"created_at"`
	Updated fixed  `json:"updated_at"`
	Name    string `json:"name"`
	Prefix  string `json:"prefix"`
	Target  string `json:"properties_target"`
}

func (b associationBody) association() metadefs.Association {
	return metadefs.Association{Type: b.Name, Prefix: b.Prefix, Target: b.Target}
}

type objectBody struct {
	fixedFields
	Name        string                       `json:"name"`
	Description string                       `json:"description"`
	Required    []string                     `json:"required"`
	Properties  map[string]metadefs.Property `json:"properties"`
}

func (b objectBody) object() metadefs.Object {
	return metadefs.Object{Name: b.Name, Description: b.Description, Required: b.Required, Properties: b.Properties}
}

type tagBody struct {
	Created fixed  `json:"created_at"`
	Updated fixed  `json:"updated_at"`
	Name    string `json:"name"`
}

var associations = part[metadefs.Association]{
	word: "resource type association", plural: "resource_type_associations",
	in:   func(n *metadefs.Namespace) *[]metadefs.Association { return &n.Associations },
	name: func(x metadefs.Association) string { return x.Type },
	read: func(r *http.Request) (x metadefs.Association, err error) {
		var b associationBody
		if err := openstack.ReadStrictJSON(r, &b); err != nil {
			return x, err
		}
		x = b.association()
		return x, x.Check()
	},
	dates: func(x *metadefs.Association) (created, updated *time.Time) { return &x.Created, &x.Updated },
	view: func(_ *metadefs.Namespace, x metadefs.Association) any {
		v := map[string]any{"name": x.Type, "created_at": x.Created.Format(shape), "updated_at": x.Updated.Format(shape)}
		for name, value := range map[string]string{"prefix": x.Prefix, "properties_target": x.Target} {
			if value != "" {
				v[name] = value
			}
		}
		return v
	},
}

var objects = part[metadefs.Object]{
	word: "object", plural: "objects",
	in:   func(n *metadefs.Namespace) *[]metadefs.Object { return &n.Objects },
	name: func(x metadefs.Object) string { return x.Name },
	read: func(r *http.Request) (x metadefs.Object, err error) {
		var b objectBody
		if err := openstack.ReadStrictJSON(r, &b); err != nil {
			return x, err
		}
		x = b.object()
		return x, x.Check()
	},
	dates: func(x *metadefs.Object) (created, updated *time.Time) { return &x.Created, &x.Updated },
	view: func(n *metadefs.Namespace, x metadefs.Object) any {
		list := []metadefs.Property{}
		for name, p := range x.Properties {
			p.Name = name
			list = append(list, p)
		}
		v := map[string]any{
			"name": x.Name, "properties": byName(list), "required": append([]string{}, x.Required...),
			"created_at": x.Created.Format(shape), "updated_at": x.Updated.Format(shape),
			"self": namespacesPath + "/" + n.Name + "/objects/" + x.Name, "schema": schemasPath + "object",
		}
		if x.Description != "" {
			v["description"] = x.Description
		}
		return v
	},
}

var properties = part[metadefs.Property]{
	word: "property", plural: "properties",
	in:   func(n *metadefs.Namespace) *[]metadefs.Property { return &n.Properties },
	name: func(x metadefs.Property) string { return x.Name },
	read: func(r *http.Request) (x metadefs.Property, err error) {
		if err := openstack.ReadStrictJSON(r, &x); err != nil {
			return x, err
		}
		return x, x.Check()
	},
	view: func(_ *metadefs.Namespace, x metadefs.Property) any { return x },
	all:  func(n *metadefs.Namespace) any { return map[string]any{"properties": byName(n.Properties)} },
}

var tags = part[metadefs.Tag]{
	word: "tag", plural: "tags",
	in:   func(n *metadefs.Namespace) *[]metadefs.Tag { return &n.Tags },
	name: func(x metadefs.Tag) string { return x.Name },
	read: func(r *http.Request) (x metadefs.Tag, err error) {
		// One that is made has its name in the path, and no body.
		b := tagBody{Name: r.PathValue("name")}
		if r.Method != http.MethodPost {
			err = openstack.ReadStrictJSON(r, &b)
		}
		if err != nil {
			return x, err
		}
		x.Name = b.Name
		return x, x.Check()
	},
	dates: func(x *metadefs.Tag) (created, updated *time.Time) { return &x.Created, &x.Updated },
	view: func(_ *metadefs.Namespace, x metadefs.Tag) any {
		return map[string]any{"name": x.Name, "created_at": x.Created.Format(shape), "updated_at": x.Updated.Format(shape)}
	},
}

// routes are those that objects, properties and tags have alike.
func (p part[T]) routes(a *api) []openstack.Route {
	all := namespacePath + "/" + p.plural
	return []openstack.Route{
		{Method: "GET", Path: all, Serve: reading(p.index(a))},
		{Method: "DELETE", Path: all, Serve: administering(p.clear(a))},
		{Method: "GET", Path: all + "/{name}", Serve: reading(p.show(a))},
		{Method: "PUT", Path: all + "/{name}", Serve: administering(p.update(a))},
		{Method: "DELETE", Path: all + "/{name}", Serve: administering(p.remove(a))},
	}
}

// at is the place of a name in a namespace, or -1.
func (p part[T]) at(n *metadefs.Namespace, name string) int {
	return slices.IndexFunc(*p.in(n), func(x T) bool { return p.name(x) == name })
}

func (p part[T]) views(n *metadefs.Namespace) []any {
	all := []any{}
	for _, x := range *p.in(n) {
		all = append(all, p.view(n, x))
	}
	return all
}

func (p part[T]) missing(n *metadefs.Namespace, name string) error {
	return openstack.NotFound("The metadata definition %s with name=%s was not found in namespace=%s.", p.word, name, n.Name)
}

func (p part[T]) taken(n *metadefs.Namespace, name string) error {
	return openstack.Conflict("A metadata definition %s with name=%s already exists in namespace=%s.", p.word, name, n.Name)
}

// date notes that one is made or changed.
func (p part[T]) date(x *T, created, updated time.Time) {
	if p.dates != nil {
		c, u := p.dates(x)
		*c, *u = created, updated
	}
}

func (p part[T]) index(a *api) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		n, err := a.metadefs.Find(definer(r), r.PathValue("namespace"))
		if err != nil {
			return err
		}
		if p.all != nil {
			return openstack.WriteJSON(w, http.StatusOK, p.all(&n))
		}
		page, err := openstack.ReadPage(r, maxPage)
		if err != nil {
			return err
		}
		list := *p.in(&n)
		slices.Reverse(list) // the newest first
		part, more, err := openstack.Cut(list, page, p.name, p.keys())
		if err != nil {
			return err
		}
		*p.in(&n) = part
		answer := map[string]any{p.plural: p.views(&n), "first": first(r.URL), "schema": schemasPath + p.plural}
		if more {
			answer["next"] = page.Next(p.name(part[len(part)-1]))
		}
		return openstack.WriteJSON(w, http.StatusOK, answer)
	}
}

// keys are what lists can be sorted by.
func (p part[T]) keys() map[string]openstack.Compare[T] {
	return map[string]openstack.Compare[T]{
		"name": openstack.By(p.name),
		"created_at": func(a, b T) int {
			x, _ := p.dates(&a)
			y, _ := p.dates(&b)
			return x.Compare(*y)
		},
		"updated_at": func(a, b T) int {
			_, x := p.dates(&a)
			_, y := p.dates(&b)
			return x.Compare(*y)
		},
	}
}

func (p part[T]) create(a *api) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		x, err := p.read(r)
		if err != nil {
			return err
		}
		n, err := a.metadefs.Change(r.Context(), definer(r), r.PathValue("namespace"), func(n *metadefs.Namespace, now time.Time) error {
			if p.at(n, p.name(x)) >= 0 {
				return p.taken(n, p.name(x))
			}
			p.date(&x, now, now)
			*p.in(n) = append(*p.in(n), x)
			return nil
		})
		if err != nil {
			return err
		}
		return openstack.WriteJSON(w, http.StatusCreated, p.view(&n, x))
	}
}

func (p part[T]) show(a *api) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		n, err := a.metadefs.Find(definer(r), r.PathValue("namespace"))
		if err != nil {
			return err
		}
		name := r.PathValue("name")
		if i := associations.at(&n, r.URL.Query().Get("resource_type")); i >= 0 {
			prefixed(&n, n.Associations[i].Prefix)
		}
		i := p.at(&n, name)
		if i < 0 {
			return p.missing(&n, name)
		}
		return openstack.WriteJSON(w, http.StatusOK, p.view(&n, (*p.in(&n))[i]))
	}
}

func (p part[T]) update(a *api) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		x, err := p.read(r)
		if err != nil {
			return err
		}
		n, err := a.metadefs.Change(r.Context(), definer(r), r.PathValue("namespace"), func(n *metadefs.Namespace, now time.Time) error {
			name, list := r.PathValue("name"), *p.in(n)
			i := p.at(n, name)
			if i < 0 {
				return p.missing(n, name)
			}
			if p.name(x) != name && p.at(n, p.name(x)) >= 0 {
				return p.taken(n, p.name(x))
			}
			if p.dates != nil {
				created, _ := p.dates(&list[i])
				p.date(&x, *created, now)
			}
			list[i] = x
			return nil
		})
		if err != nil {
			return err
		}
		return openstack.WriteJSON(w, http.StatusOK, p.view(&n, x))
	}
}

func (p part[T]) remove(a *api) openstack.Func {
	return p.without(a, func(n *metadefs.Namespace, name string) error {
		i := p.at(n, name)
		if i < 0 {
			return p.missing(n, name)
		}
		*p.in(n) = slices.Delete(*p.in(n), i, i+1)
		return nil
	})
}

func (p part[T]) clear(a *api) openstack.Func {
	return p.without(a, func(n *metadefs.Namespace, _ string) error {
		*p.in(n) = nil
		return nil
	})
}

func (part[T]) without(a *api, drop func(n *metadefs.Namespace, name string) error) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		_, err := a.metadefs.Change(r.Context(), definer(r), r.PathValue("namespace"), func(n *metadefs.Namespace, _ time.Time) error {
			if err := n.Deletable(); err != nil {
				return err
			}
			return drop(n, r.PathValue("name"))
		})
		if err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// associations lists those of a namespace.
func (a *api) associations(w http.ResponseWriter, r *http.Request) error {
	n, err := a.metadefs.Find(definer(r), r.PathValue("namespace"))
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{associations.plural: associations.views(&n)})
}

// setNamespaceTags replaces all of a namespace's tags or, if asked to, adds to them.
func (a *api) setNamespaceTags(w http.ResponseWriter, r *http.Request) error {
	var b struct {
		Tags []tagBody `json:"tags"`
	}
	if err := openstack.ReadStrictJSON(r, &b); err != nil {
		return err
	}
	appending := strings.EqualFold(r.Header.Get("X-Openstack-Append"), "true")
	_, err := a.metadefs.Change(r.Context(), definer(r), r.PathValue("namespace"), func(n *metadefs.Namespace, now time.Time) error {
		if !appending {
			n.Tags = nil
		}
		for _, tag := range b.Tags {
			if tags.at(n, tag.Name) >= 0 {
				return tags.taken(n, tag.Name)
			}
			n.Tags = append(n.Tags, metadefs.Tag{Name: tag.Name, Created: now, Updated: now})
		}
		return nil
	})
	if err != nil {
		return err
	}
	list := []map[string]string{}
	for _, tag := range b.Tags {
		list = append(list, map[string]string{"name": tag.Name})
	}
	return openstack.WriteJSON(w, http.StatusCreated, map[string]any{"tags": list})
}
