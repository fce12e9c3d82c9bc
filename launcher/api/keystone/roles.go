package keystone

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func roleView(r *http.Request, role identity.Role) view {
	return build(r, "roles", role.ID, view{
		"name": role.Name, "domain_id": orNull(role.DomainID), "description": orNull(role.Description), "options": orEmpty(role.Options),
	}, role.Extra)
}

func (a *API) listRoles(w http.ResponseWriter, r *http.Request) error {
	domain := r.URL.Query().Get("domain_id")
	list := a.dir.Roles(func(role identity.Role) bool { return role.DomainID == domain })
	return writeList(w, r, "roles", views(list, func(role identity.Role) view { return roleView(r, role) }))
}

func (a *API) showRole(w http.ResponseWriter, r *http.Request) error {
	role, err := a.dir.Role(r.PathValue("role"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "role", roleView(r, role))
}

func roleFrom(in *attributes, role *identity.Role) error {
	in.text("name", &role.Name)
	in.text("description", &role.Description)
	in.object("options", &role.Options)
	return in.extra(&role.Extra)
}

func (a *API) createRole(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "role")
	if err != nil {
		return err
	}
	var role identity.Role
	in.text("domain_id", &role.DomainID)
	delete(in.rest, "id")
	if err := roleFrom(in, &role); err != nil {
		return err
	}
	if role, err = a.dir.CreateRole(r.Context(), role); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "role", roleView(r, role))
}

func (a *API) updateRole(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "role")
	if err != nil {
		return err
	}
	role, err := a.dir.UpdateRole(r.Context(), r.PathValue("role"), func(role *identity.Role) error {
		in.same("id", role.ID)
		in.same("domain_id", role.DomainID)
		return roleFrom(in, role)
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "role", roleView(r, role))
}

func (a *API) deleteRole(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeleteRole(r.Context(), r.PathValue("role")))
}

// short is a role as implications show it.
func short(r *http.Request, role identity.Role) view {
	return view{"id": role.ID, "name": role.Name, "links": view{"self": versionURL(r) + "/roles/" + role.ID}}
}

// inference shows a role with those that it implies.
func (a *API) inference(r *http.Request, role identity.Role) view {
	implied := []view{}
	for _, id := range role.Implies {
		if other, err := a.dir.Role(id); err == nil {
			implied = append(implied, short(r, other))
		}
	}
	return view{"prior_role": short(r, role), "implies": implied}
}

func (a *API) listInferences(w http.ResponseWriter, r *http.Request) error {
	list := a.dir.Roles(func(role identity.Role) bool { return len(role.Implies) > 0 })
	return openstack.WriteJSON(w, http.StatusOK, view{
		"role_inferences": views(list, func(role identity.Role) view { return a.inference(r, role) }),
		"links":           view{"self": versionURL(r) + "/role_inferences", "previous": nil, "next": nil},
	})
}

func (a *API) listImplied(w http.ResponseWriter, r *http.Request) error {
	role, err := a.dir.Role(r.PathValue("role"))
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view{
		"role_inference": a.inference(r, role), "links": view{"self": openstack.BaseOf(r) + r.URL.Path},
	})
}

func (a *API) showImplied(w http.ResponseWriter, r *http.Request) error {
	role, err := a.dir.Role(r.PathValue("role"))
	if err != nil {
		return err
	}
	for _, id := range role.Implies {
		if id == r.PathValue("implied") {
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNoContent)
				return nil
			}
			return a.writeImplied(w, r, http.StatusOK)
		}
	}
	return openstack.NotFound("%s does not imply %s.", role.ID, r.PathValue("implied"))
}

func (a *API) writeImplied(w http.ResponseWriter, r *http.Request, status int) error {
	role, err := a.dir.Role(r.PathValue("role"))
	if err != nil {
		return err
	}
	implied, err := a.dir.Role(r.PathValue("implied"))
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, status, view{
		"role_inference": view{"prior_role": short(r, role), "implies": short(r, implied)},
		"links":          view{"self": openstack.BaseOf(r) + r.URL.Path},
	})
}

func (a *API) imply(w http.ResponseWriter, r *http.Request) error {
	if err := a.dir.Imply(r.Context(), r.PathValue("role"), r.PathValue("implied"), true); err != nil {
		return err
	}
	return a.writeImplied(w, r, http.StatusCreated)
}

func (a *API) doNotImply(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.Imply(r.Context(), r.PathValue("role"), r.PathValue("implied"), false))
}
