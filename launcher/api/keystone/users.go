package keystone

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func userView(r *http.Request, u identity.User) view {
	v := build(r, "users", u.ID, view{
		"name": u.Name, "domain_id": u.DomainID, "enabled": u.Enabled,
		"password_expires_at": nil, "options": orEmpty(u.Options),
	}, u.Extra)
	if u.DefaultProject != "" {
		v["default_project_id"] = u.DefaultProject
	}
	return v
}

func (a *API) listUsers(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "users", views(a.dir.Users(nil), func(u identity.User) view { return userView(r, u) }))
}

func (a *API) showUser(w http.ResponseWriter, r *http.Request) error {
	u, err := a.dir.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "user", userView(r, u))
}

// userFrom reads what a request says of a user, but for the password.
func userFrom(in *attributes, u *identity.User) error {
	in.text("name", &u.Name)
	in.text("default_project_id", &u.DefaultProject)
	in.flag("enabled", &u.Enabled)
	in.object("options", &u.Options)
	return in.extra(&u.Extra)
}

// callersDomain is where something is made whose domain is not named.
func callersDomain(r *http.Request) string {
	c := openstack.CallerOf(r.Context())
	if c.DomainID != "" {
		return c.DomainID
	}
	return c.ProjectDomainID
}

func (a *API) createUser(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "user")
	if err != nil {
		return err
	}
	u := identity.User{Enabled: true, DomainID: callersDomain(r)}
	in.text("domain_id", &u.DomainID)
	delete(in.rest, "id")
	var password string
	in.text("password", &password)
	if err := userFrom(in, &u); err != nil {
		return err
	}
	if u, err = a.dir.CreateUser(r.Context(), u, password); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "user", userView(r, u))
}

func (a *API) updateUser(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "user")
	if err != nil {
		return err
	}
	// The password is hashed before the record is locked.
	var password *string
	if secret := ""; in.text("password", &secret) {
		password = &secret
	}
	u, err := a.dir.UpdateUser(r.Context(), r.PathValue("user"), password, func(u *identity.User) error {
		in.same("id", u.ID)
		in.same("domain_id", u.DomainID)
		return userFrom(in, u)
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "user", userView(r, u))
}

func (a *API) deleteUser(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteUser(r.Context(), r.PathValue("user")))
}

func (a *API) listUserProjects(w http.ResponseWriter, r *http.Request) error {
	u, err := a.dir.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	return writeList(w, r, "projects", views(a.dir.ProjectsOf(u.ID, false), func(p identity.Project) view { return projectView(r, p) }))
}

func (a *API) listUserGroups(w http.ResponseWriter, r *http.Request) error {
	u, err := a.dir.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	groups := a.dir.Groups(func(g identity.Group) bool { return slices.Contains(g.Members, u.ID) })
	return writeList(w, r, "groups", views(groups, func(g identity.Group) view { return groupView(r, g) }))
}

func groupView(r *http.Request, g identity.Group) view {
	return build(r, "groups", g.ID, view{"name": g.Name, "domain_id": g.DomainID, "description": g.Description}, g.Extra)
}

func (a *API) listGroups(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "groups", views(a.dir.Groups(nil), func(g identity.Group) view { return groupView(r, g) }))
}

func (a *API) showGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.dir.Group(r.PathValue("group"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "group", groupView(r, g))
}

func groupFrom(in *attributes, g *identity.Group) error {
	in.text("name", &g.Name)
	in.text("description", &g.Description)
	return in.extra(&g.Extra)
}

func (a *API) createGroup(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "group")
	if err != nil {
		return err
	}
	g := identity.Group{DomainID: callersDomain(r)}
	in.text("domain_id", &g.DomainID)
	delete(in.rest, "id")
	if err := groupFrom(in, &g); err != nil {
		return err
	}
	if g, err = a.dir.CreateGroup(r.Context(), g); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "group", groupView(r, g))
}

func (a *API) updateGroup(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "group")
	if err != nil {
		return err
	}
	g, err := a.dir.UpdateGroup(r.Context(), r.PathValue("group"), func(g *identity.Group) error {
		in.same("id", g.ID)
		in.same("domain_id", g.DomainID)
		return groupFrom(in, g)
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "group", groupView(r, g))
}

func (a *API) deleteGroup(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteGroup(r.Context(), r.PathValue("group")))
}

func (a *API) listMembers(w http.ResponseWriter, r *http.Request) error {
	g, err := a.dir.Group(r.PathValue("group"))
	if err != nil {
		return err
	}
	users := a.dir.Users(func(u identity.User) bool { return slices.Contains(g.Members, u.ID) })
	return writeList(w, r, "users", views(users, func(u identity.User) view { return userView(r, u) }))
}

func (a *API) checkMember(w http.ResponseWriter, r *http.Request) error {
	g, err := a.dir.Group(r.PathValue("group"))
	if err == nil && !slices.Contains(g.Members, r.PathValue("user")) {
		err = openstack.NotFound("Could not find user: %s, in group %s.", r.PathValue("user"), g.ID)
	}
	return done(w, err)
}

func (a *API) addMember(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.AddMember(r.Context(), r.PathValue("group"), r.PathValue("user")))
}

func (a *API) removeMember(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.RemoveMember(r.Context(), r.PathValue("group"), r.PathValue("user")))
}
