package glance

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/metadefs"
)

// Paths of the metadata definitions.
const (
	namespacesPath = "/v2/metadefs/namespaces"
	namespacePath  = namespacesPath + "/{namespace}"
	schemasPath    = "/v2/schemas/metadefs/"
)

func (a *api) metadefRoutes() []openstack.Route {
	const types = namespacePath + "/resource_types"
	routes := []openstack.Route{
		{Method: "GET", Path: "/v2/metadefs/resource_types", Serve: reading(a.resourceTypes)},
		{Method: "GET", Path: namespacesPath, Serve: reading(a.namespaces)},
		{Method: "POST", Path: namespacesPath, Serve: administering(a.createNamespace)},
		{Method: "GET", Path: namespacePath, Serve: reading(a.namespace)},
		{Method: "PUT", Path: namespacePath, Serve: administering(a.updateNamespace)},
		{Method: "DELETE", Path: namespacePath, Serve: administering(a.deleteNamespace)},
		{Method: "GET", Path: types, Serve: reading(a.associations)},
		{Method: "POST", Path: types, Serve: administering(associations.create(a))},
		{Method: "DELETE", Path: types + "/{name}", Serve: administering(associations.remove(a))},
		{Method: "POST", Path: namespacePath + "/tags", Serve: administering(a.setNamespaceTags)},
		{Method: "POST", Path: namespacePath + "/tags/{name}", Serve: administering(tags.create(a))},
		{Method: "POST", Path: namespacePath + "/objects", Serve: administering(objects.create(a))},
		{Method: "POST", Path: namespacePath + "/properties", Serve: administering(properties.create(a))},
	}
	routes = append(routes, objects.routes(a)...)
	routes = append(routes, properties.routes(a)...)
	return append(routes, tags.routes(a)...)
}

func definer(r *http.Request) metadefs.Caller {
	c := caller(r)
	return metadefs.Caller{Project: c.Project, Admin: c.Admin}
}

// resourceTypes lists the types that namespaces may be associated with.
func (a *api) resourceTypes(w http.ResponseWriter, _ *http.Request) error {
	list := []map[string]string{}
	for _, name := range a.metadefs.ResourceTypes() {
		list = append(list, map[string]string{"name": name})
	}
	return openstack.WriteJSON(w, http.StatusOK, map[string]any{"resource_types": list})
}

// fixed is an attribute that nobody sets.
type fixed struct{}

func (fixed) UnmarshalJSON([]byte) error {
	return openstack.Forbidden("Attributes self, schema, created_at and updated_at are read-only.")
}

type fixedFields struct {
	Self    fixed `json:"self"`
	Schema  fixed `json:"schema"`
	Created fixed `json:"created_at"`
	Updated fixed `json:"updated_at"`
}

// namespaceBody is a namespace as clients send it.
type namespaceBody struct {
	fixedFields
	Name         string                       `json:"namespace"`
	DisplayName  string                       `json:"display_name"`
	Description  string                       `json:"description"`
	Visibility   string                       `json:"visibility"`
	Protected    bool                         `json:"protected"`
	Owner        string                       `json:"owner"`
	Associations []associationBody            `json:"resource_type_associations"`
	Properties   map[string]metadefs.Property `json:"properties"`
	Objects      []objectBody                 `json:"objects"`
	Tags         []tagBody                    `json:"tags"`
}

func readNamespace(r *http.Request) (n metadefs.Namespace, err error) {
	var b namespaceBody
	if err := openstack.ReadStrictJSON(r, &b); err != nil {
		return n, err
	}
	if !slices.Contains([]string{"", "public", "private"}, b.Visibility) {
		return n, openstack.BadRequest("Provided object does not match schema 'namespace': '%s' is not one of ['public', 'private']", b.Visibility)
	}
	n = metadefs.Namespace{
		Name: b.Name, DisplayName: b.DisplayName, Description: b.Description, Owner: b.Owner,
		Public: b.Visibility == "public", Protected: b.Protected,
	}
	for _, x := range b.Associations {
		n.Associations = append(n.Associations, x.association())
	}
	for name, p := range b.Properties {
		p.Name = name
		n.Properties = append(n.Properties, p)
	}
	slices.SortFunc(n.Properties, func(a, b metadefs.Property) int { return strings.Compare(a.Name, b.Name) })
	for _, x := range b.Objects {
		n.Objects = append(n.Objects, x.object())
	}
	for _, x := range b.Tags {
		n.Tags = append(n.Tags, metadefs.Tag{Name: x.Name})
	}
	return n, n.Check()
}

// namespaceView shows a namespace, and of what it holds only the associations.
func namespaceView(n *metadefs.Namespace) map[string]any {
	v := map[string]any{
		"namespace": n.Name, "visibility": map[bool]string{true: "public", false: "private"}[n.Public],
		"protected": n.Protected, "owner": n.Owner, "created_at": n.Created.Format(shape), "updated_at": n.Updated.Format(shape),
		"self": namespacesPath + "/" + n.Name, "schema": schemasPath + "namespace",
	}
	for name, value := range map[string]string{"display_name": n.DisplayName, "description": n.Description} {
		if value != "" {
			v[name] = value
		}
	}
	if len(n.Associations) > 0 {
		v["resource_type_associations"] = associations.views(n)
	}
	return v
}

// wholeNamespace shows a namespace with all it holds.
func wholeNamespace(n *metadefs.Namespace) map[string]any {
	v := namespaceView(n)
	if len(n.Properties) > 0 {
		v["properties"] = byName(n.Properties)
	}
	if len(n.Objects) > 0 {
		v["objects"] = objects.views(n)
	}
	if len(n.Tags) > 0 {
		v["tags"] = tags.views(n)
	}
	return v
}

// byName shows properties as their names' values.
func byName(list []metadefs.Property) map[string]metadefs.Property {
	all := map[string]metadefs.Property{}
	for _, p := range list {
		name := p.Name
		p.Name = ""
		all[name] = p
	}
	return all
}

func (a *api) namespaces(w http.ResponseWriter, r *http.Request) error {
	page, err := openstack.ReadPage(r, maxPage)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	visibility := q.Get("visibility")
	if !slices.Contains([]string{"", "public", "private"}, visibility) {
		return openstack.BadRequest("Invalid visibility value: %s", visibility)
	}
	var list []map[string]any
	for _, n := range a.metadefs.All(definer(r)) {
		v := namespaceView(&n)
		if (visibility == "" || v["visibility"] == visibility) && associatedWith(&n, q.Get("resource_types")) {
			list = append(list, v)
		}
	}
	name := func(v map[string]any) string { return text(v, "namespace") }
	keys := map[string]openstack.Compare[map[string]any]{}
	for _, key := range []string{"namespace", "display_name", "visibility", "owner", "created_at", "updated_at"} {
		keys[key] = openstack.By(func(v map[string]any) string { return text(v, key) })
	}
	part, more, err := openstack.Cut(list, page, name, keys)
	if err != nil {
		return err
	}
	answer := map[string]any{"namespaces": append([]map[string]any{}, part...), "first": first(r.URL), "schema": schemasPath + "namespaces"}
	if more {
		answer["next"] = page.Next(name(part[len(part)-1]))
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

// associatedWith says whether a namespace is with one of the types, between commas;
// every one is with none.
func associatedWith(n *metadefs.Namespace, types string) bool {
	return types == "" || slices.ContainsFunc(strings.Split(types, ","), func(t string) bool { return associations.at(n, t) >= 0 })
}

func (a *api) createNamespace(w http.ResponseWriter, r *http.Request) error {
	n, err := readNamespace(r)
	if err != nil {
		return err
	}
	if n, err = a.metadefs.Create(r.Context(), definer(r), n); err != nil {
		return err
	}
	w.Header().Set("Location", openstack.BaseOf(r)+namespacesPath+"/"+n.Name)
	return openstack.WriteJSON(w, http.StatusCreated, wholeNamespace(&n))
}

// namespace shows one, for a type of resources with that one's prefix at each name.
func (a *api) namespace(w http.ResponseWriter, r *http.Request) error {
	n, err := a.metadefs.Find(definer(r), r.PathValue("namespace"))
	if err != nil {
		return err
	}
	if i := associations.at(&n, r.URL.Query().Get("resource_type")); i >= 0 {
		prefixed(&n, n.Associations[i].Prefix)
	}
	return openstack.WriteJSON(w, http.StatusOK, wholeNamespace(&n))
}

func prefixed(n *metadefs.Namespace, prefix string) {
	for i := range n.Properties {
		n.Properties[i].Name = prefix + n.Properties[i].Name
	}
	for i, o := range n.Objects {
		all := map[string]metadefs.Property{}
		for name, p := range o.Properties {
			all[prefix+name] = p
		}
		var required []string
		for _, name := range o.Required {
			required = append(required, prefix+name)
		}
		n.Objects[i].Properties, n.Objects[i].Required = all, required
	}
}

// updateNamespace replaces what a namespace says of itself; what it holds stays.
func (a *api) updateNamespace(w http.ResponseWriter, r *http.Request) error {
	next, err := readNamespace(r)
	if err != nil {
		return err
	}
	n, err := a.metadefs.Change(r.Context(), definer(r), r.PathValue("namespace"), func(n *metadefs.Namespace, _ time.Time) error {
		if next.Owner != "" {
			n.Owner = next.Owner
		}
		n.Name, n.DisplayName, n.Description, n.Public, n.Protected = next.Name, next.DisplayName, next.Description, next.Public, next.Protected
		return nil
	})
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, namespaceView(&n))
}

func (a *api) deleteNamespace(w http.ResponseWriter, r *http.Request) error {
	if err := a.metadefs.Delete(r.Context(), definer(r), r.PathValue("namespace")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
