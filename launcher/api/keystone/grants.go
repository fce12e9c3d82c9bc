package keystone

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// assignment is what the path of a grant names; its role is empty in lists.
func assignment(r *http.Request, inherited bool) identity.Assignment {
	return identity.Assignment{
		Role: r.PathValue("role"), User: r.PathValue("user"), Group: r.PathValue("group"),
		Project: cmp.Or(r.PathValue("project"), r.PathValue("domain")), Inherited: inherited,
	}
}

func (a *API) listGrants(inherited bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		asked := assignment(r, inherited)
		if asked.Project != "" {
			if _, err := a.dir.Project(asked.Project); err != nil {
				return err
			}
		}
		var roles []view
		for _, g := range a.dir.Assignments(func(g identity.Assignment) bool { asked.Role = g.Role; return g == asked }) {
			role, err := a.dir.Role(g.Role)
			if err != nil {
				return err
			}
			roles = append(roles, roleView(r, role))
		}
		return writeList(w, r, "roles", roles)
	}
}

func (a *API) checkGrant(inherited bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		return done(w, a.dir.Granted(assignment(r, inherited)))
	}
}

func (a *API) grant(inherited bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		if id := r.PathValue("domain"); id != "" {
			if _, err := a.dir.Domain(id); err != nil {
				return err
			}
		}
		return done(w, a.dir.Grant(r.Context(), assignment(r, inherited)))
	}
}

func (a *API) revokeGrant(inherited bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		return done(w, a.dir.Revoke(r.Context(), assignment(r, inherited)))
	}
}

func (a *API) listAssignments(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	list := a.dir.Assignments(nil)
	if asked(q, "effective") {
		if q.Get("group.id") != "" {
			return openstack.BadRequest("Combining effective and group filter will always result in an empty list.")
		}
		list = a.dir.Effective()
	}
	list = slices.DeleteFunc(list, func(g identity.Assignment) bool { return !a.assignmentMatches(g, q) })
	self := openstack.BaseOf(r) + r.URL.RequestURI()
	return openstack.WriteJSON(w, http.StatusOK, view{
		"role_assignments": views(list, func(g identity.Assignment) view { return a.assignmentView(r, g, asked(q, "include_names")) }),
		"links":            view{"self": self, "previous": nil, "next": nil},
	})
}

// asked reports whether a query has a parameter that is not said to be false.
func asked(q url.Values, name string) bool { return q.Has(name) && compare(true, "", q.Get(name)) }

func (a *API) assignmentMatches(g identity.Assignment, q url.Values) bool {
	is := func(key, value string) bool { return q.Get(key) == "" || q.Get(key) == value }
	target, err := a.dir.Project(g.Project)
	isDomain := err == nil && target.IsDomain
	project, domain := "", ""
	switch {
	case isDomain:
		domain = g.Project
	default:
		project = g.Project
	}
	if root := q.Get("scope.project.id"); asked(q, "include_subtree") && root != "" && project != "" {
		below := func(up identity.Project) bool { return up.ID == root }
		if target.DomainID == root || slices.ContainsFunc(a.dir.Above(project), below) {
			project = root
		}
	}
	return is("user.id", g.User) && is("group.id", g.Group) && is("role.id", g.Role) &&
		is("scope.project.id", project) && is("scope.domain.id", domain) &&
		(!asked(q, "scope.system") || g.Project == "") &&
		(q.Get("scope.OS-INHERIT:inherited_to") == "" || g.Inherited)
}

// assignmentView shows who has which role where; with their names if wanted.
func (a *API) assignmentView(r *http.Request, g identity.Assignment, names bool) view {
	named := func(id, name, domain string) view {
		v := view{"id": id}
		if !names {
			return v
		}
		v["name"] = name
		if domain != "" {
			d, _ := a.dir.Domain(domain)
			v["domain"] = view{"id": domain, "name": d.Name}
		}
		return v
	}
	role, _ := a.dir.Role(g.Role)
	v := view{"role": named(g.Role, role.Name, role.DomainID)}
	path := "/roles/" + g.Role
	if g.Group != "" {
		group, _ := a.dir.Group(g.Group)
		v["group"] = named(g.Group, group.Name, group.DomainID)
		path = "/groups/" + g.Group + path
	} else {
		user, _ := a.dir.User(g.User)
		v["user"] = named(g.User, user.Name, user.DomainID)
		path = "/users/" + g.User + path
	}
	p, _ := a.dir.Project(g.Project)
	var where view
	switch {
	case g.Project == "":
		where, path = view{"system": view{"all": true}}, "/system"+path
	case p.IsDomain:
		where, path = view{"domain": named(p.ID, p.Name, "")}, "/domains/"+p.ID+path
	default:
		where, path = view{"project": named(p.ID, p.Name, p.DomainID)}, "/projects/"+p.ID+path
	}
	if g.Inherited {
		where["OS-INHERIT:inherited_to"] = "projects"
		path = "/OS-INHERIT" + path + "/inherited_to_projects"
	}
	v["scope"], v["links"] = where, view{"assignment": versionURL(r) + path}
	return v
}
