package keystone

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func projectView(r *http.Request, p identity.Project) view {
	return build(r, "projects", p.ID, view{
		"name": p.Name, "domain_id": orNull(p.DomainID), "parent_id": orNull(p.ParentID), "is_domain": p.IsDomain,
		"description": p.Description, "enabled": p.Enabled, "tags": append([]string{}, p.Tags...), "options": orEmpty(p.Options),
	}, p.Extra)
}

func domainView(r *http.Request, p identity.Project) view {
	return build(r, "domains", p.ID, view{
		"name": p.Name, "description": p.Description, "enabled": p.Enabled,
		"tags": append([]string{}, p.Tags...), "options": orEmpty(p.Options),
	}, p.Extra)
}

func (a *API) listProjects(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	domains := asked(q, "is_domain")
	list := a.dir.Projects(func(p identity.Project) bool { return p.IsDomain == domains && tagged(p, q) })
	return writeList(w, r, "projects", views(list, func(p identity.Project) view { return projectView(r, p) }))
}

// tagged tests a project against the filters by tags, each a list with commas.
func tagged(p identity.Project, q url.Values) bool {
	has := func(tag string) bool { return slices.Contains(p.Tags, tag) }
	lacks := func(tag string) bool { return !has(tag) }
	list := func(key string) []string { return strings.Split(q.Get(key), ",") }
	switch {
	case q.Has("tags") && slices.ContainsFunc(list("tags"), lacks),
		q.Has("tags-any") && !slices.ContainsFunc(list("tags-any"), has),
		q.Has("not-tags") && !slices.ContainsFunc(list("not-tags"), lacks),
		q.Has("not-tags-any") && slices.ContainsFunc(list("not-tags-any"), has):
		return false
	}
	return true
}

func (a *API) showProject(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Project(r.PathValue("project"))
	if err != nil {
		return err
	}
	v := projectView(r, p)
	q := r.URL.Query()
	relatives := func(list []identity.Project) []view {
		return views(list, func(p identity.Project) view { return view{"project": projectView(r, p)} })
	}
	if q.Has("parents_as_list") {
		v["parents"] = relatives(a.dir.Above(p.ID))
	}
	if q.Has("subtree_as_list") {
		v["subtree"] = relatives(a.dir.Below(p.ID))
	}
	if q.Has("parents_as_ids") {
		var ids any
		for _, up := range slices.Backward(a.dir.Above(p.ID)) {
			ids = view{up.ID: ids}
		}
		v["parents"] = ids
	}
	if q.Has("subtree_as_ids") {
		v["subtree"] = idTree(p.ID, a.dir.Below(p.ID))
	}
	return writeOne(w, http.StatusOK, "project", v)
}

// idTree nests the ids of what is below a project; nil where nothing is.
func idTree(id string, below []identity.Project) any {
	tree := view{}
	for _, p := range below {
		if p.ParentID == id {
			tree[p.ID] = idTree(p.ID, below)
		}
	}
	if len(tree) == 0 {
		return nil
	}
	return tree
}

// projectFrom reads what a request says of a project or domain.
func projectFrom(in *attributes, p *identity.Project) error {
	in.text("name", &p.Name)
	in.text("description", &p.Description)
	in.flag("enabled", &p.Enabled)
	in.object("options", &p.Options)
	if in.words("tags", &p.Tags) && in.err == nil {
		in.err = checkTags(p.Tags)
	}
	return in.extra(&p.Extra)
}

func checkTags(tags []string) error {
	for _, tag := range tags {
		if tag == "" || len(tag) > 255 || strings.ContainsAny(tag, ",/") {
			return openstack.BadRequest("Invalid input for field 'tags': %q has not 1 to 255 characters, or has a comma or a slash.", tag)
		}
	}
	return nil
}

func (a *API) createProject(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "project")
	if err != nil {
		return err
	}
	p := identity.Project{Enabled: true}
	in.text("domain_id", &p.DomainID)
	in.text("parent_id", &p.ParentID)
	in.flag("is_domain", &p.IsDomain)
	delete(in.rest, "id")
	if !p.IsDomain && p.DomainID == "" && p.ParentID == "" {
		p.DomainID = callersDomain(r)
	}
	if err := projectFrom(in, &p); err != nil {
		return err
	}
	if p, err = a.dir.CreateProject(r.Context(), p); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "project", projectView(r, p))
}

func (a *API) updateProject(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "project")
	if err != nil {
		return err
	}
	p, err := a.dir.UpdateProject(r.Context(), r.PathValue("project"), func(p *identity.Project) error {
		in.same("id", p.ID)
		in.same("domain_id", p.DomainID)
		in.same("parent_id", p.ParentID)
		isDomain := p.IsDomain
		if in.flag("is_domain", &isDomain); isDomain != p.IsDomain {
			return openstack.BadRequest("Cannot change 'is_domain'.")
		}
		return projectFrom(in, p)
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "project", projectView(r, p))
}

func (a *API) deleteProject(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteProject(r.Context(), r.PathValue("project")))
}

func (a *API) listDomains(w http.ResponseWriter, r *http.Request) error {
	list := a.dir.Projects(func(p identity.Project) bool { return p.IsDomain })
	return writeList(w, r, "domains", views(list, func(p identity.Project) view { return domainView(r, p) }))
}

func (a *API) showDomain(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Domain(r.PathValue("domain"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "domain", domainView(r, p))
}

func (a *API) createDomain(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "domain")
	if err != nil {
		return err
	}
	p := identity.Project{Enabled: true, IsDomain: true}
	in.text("explicit_domain_id", &p.ID)
	delete(in.rest, "id")
	if err := projectFrom(in, &p); err != nil {
		return err
	}
	if p, err = a.dir.CreateProject(r.Context(), p); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "domain", domainView(r, p))
}

func (a *API) updateDomain(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "domain")
	if err != nil {
		return err
	}
	if _, err := a.dir.Domain(r.PathValue("domain")); err != nil {
		return err
	}
	p, err := a.dir.UpdateProject(r.Context(), r.PathValue("domain"), func(p *identity.Project) error {
		in.same("id", p.ID)
		return projectFrom(in, p)
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "domain", domainView(r, p))
}

func (a *API) deleteDomain(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.dir.Domain(r.PathValue("domain")); err != nil {
		return err
	}
	return done(w, a.dir.DeleteProject(r.Context(), r.PathValue("domain")))
}

func (a *API) listTags(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Project(r.PathValue("project"))
	if err != nil {
		return err
	}
	return writeTags(w, r, p)
}

func writeTags(w http.ResponseWriter, r *http.Request, p identity.Project) error {
	return openstack.WriteJSON(w, http.StatusOK, view{
		"tags": append([]string{}, p.Tags...), "links": view{"self": openstack.BaseOf(r) + r.URL.Path, "previous": nil, "next": nil},
	})
}

// editTags changes a project's tags.
func (a *API) editTags(r *http.Request, edit func([]string) ([]string, error)) (identity.Project, error) {
	return a.dir.UpdateProject(r.Context(), r.PathValue("project"), func(p *identity.Project) (err error) {
		if p.Tags, err = edit(slices.Clone(p.Tags)); err != nil {
			return err
		}
		return checkTags(p.Tags)
	})
}

func (a *API) setTags(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Tags []string `json:"tags"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	p, err := a.editTags(r, func([]string) ([]string, error) { return body.Tags, nil })
	if err != nil {
		return err
	}
	return writeTags(w, r, p)
}

func (a *API) removeTags(w http.ResponseWriter, r *http.Request) error {
	_, err := a.editTags(r, func([]string) ([]string, error) { return nil, nil })
	return done(w, err)
}

func (a *API) checkTag(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Project(r.PathValue("project"))
	if err == nil && !slices.Contains(p.Tags, r.PathValue("tag")) {
		err = openstack.NotFound("Could not find project tag: %s.", r.PathValue("tag"))
	}
	return done(w, err)
}

func (a *API) addTag(w http.ResponseWriter, r *http.Request) error {
	tag := r.PathValue("tag")
	_, err := a.editTags(r, func(tags []string) ([]string, error) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
		return tags, nil
	})
	if err == nil {
		w.WriteHeader(http.StatusCreated)
	}
	return err
}

func (a *API) removeTag(w http.ResponseWriter, r *http.Request) error {
	tag := r.PathValue("tag")
	_, err := a.editTags(r, func(tags []string) ([]string, error) {
		i := slices.Index(tags, tag)
		if i < 0 {
			return nil, openstack.NotFound("Could not find project tag: %s.", tag)
		}
		return slices.Delete(tags, i, i+1), nil
	})
	return done(w, err)
}
