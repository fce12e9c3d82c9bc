package keystone

import (
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func (a *API) trustRoutes() []route {
	const trusts = "/v3/OS-TRUST/trusts"
	return []route{
		{"GET", trusts, "identity:list_trusts", tokenHolder, a.listTrusts},
		{"POST", trusts, "identity:create_trust", tokenHolder, a.createTrust},
		{"GET", trusts + "/{trust}", "identity:get_trust", tokenHolder, a.showTrust},
		{"DELETE", trusts + "/{trust}", "identity:delete_trust", tokenHolder, a.deleteTrust},
		{"GET", trusts + "/{trust}/roles", "identity:list_roles_for_trust", tokenHolder, a.listTrustRoles},
		{"GET", trusts + "/{trust}/roles/{role}", "identity:get_role_for_trust", tokenHolder, a.showTrustRole},
	}
}

// trustView shows a trust as it stands in lists.
func trustView(r *http.Request, t identity.Trust) view {
	v := build(r, "OS-TRUST/trusts", t.ID, view{
		"trustor_user_id": t.Trustor, "trustee_user_id": t.Trustee, "project_id": orNull(t.Project),
		"impersonation": t.Impersonation, "expires_at": nil, "remaining_uses": nil,
		"deleted_at": nil, "redelegated_trust_id": nil, "redelegation_count": 0,
	}, nil)
	if !t.Expires.IsZero() {
		v["expires_at"] = timestamp(t.Expires)
	}
	if t.Uses != nil {
		v["remaining_uses"] = *t.Uses
	}
	return v
}

func (a *API) rolesOfTrust(r *http.Request, t identity.Trust) []view {
	list := a.dir.Roles(func(role identity.Role) bool { return slices.Contains(t.Roles, role.ID) })
	return views(list, func(role identity.Role) view { return roleView(r, role) })
}

func (a *API) wholeTrustView(r *http.Request, t identity.Trust) view {
	v := trustView(r, t)
	v["roles"] = a.rolesOfTrust(r, t)
	v["roles_links"] = view{"self": versionURL(r) + "/OS-TRUST/trusts/" + t.ID + "/roles", "previous": nil, "next": nil}
	return v
}

// listTrusts lists those of the trustor or the trustee that the query names; who asks
// for everybody's must be allowed to read all.
func (a *API) listTrusts(w http.ResponseWriter, r *http.Request) error {
	c, q := openstack.CallerOf(r.Context()), r.URL.Query()
	if own := q.Get("trustor_user_id") == c.UserID || q.Get("trustee_user_id") == c.UserID; !own && !reader(c, r) {
		return openstack.Forbidden("You are not authorized to perform the requested action: identity:list_trusts.")
	}
	list := a.dir.Trusts(func(identity.Trust) bool { return true })
	return writeList(w, r, "trusts", views(list, func(t identity.Trust) view { return trustView(r, t) }))
}

// trust finds the one that the path names, if the caller has a part in it.
func (a *API) trust(r *http.Request) (identity.Trust, error) {
	t, err := a.dir.Trust(r.PathValue("trust"))
	c := openstack.CallerOf(r.Context())
	if err == nil && c.UserID != t.Trustor && c.UserID != t.Trustee && !reader(c, r) {
		return t, openstack.Forbidden("You are not authorized to perform the requested action: identity:get_trust.")
	}
	return t, err
}

func (a *API) showTrust(w http.ResponseWriter, r *http.Request) error {
	t, err := a.trust(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "trust", a.wholeTrustView(r, t))
}

type trustRequest struct {
	Trust *struct {
		Trustor           string      `json:"trustor_user_id"`
		Trustee           string      `json:"trustee_user_id"`
		Project           string      `json:"project_id"`
		Impersonation     *bool       `json:"impersonation"`
		Roles             []reference `json:"roles"`
		ExpiresAt         string      `json:"expires_at"`
		RemainingUses     *int        `json:"remaining_uses"`
		AllowRedelegation bool        `json:"allow_redelegation"`
	} `json:"trust"`
}

func (a *API) createTrust(w http.ResponseWriter, r *http.Request) error {
	token, err := a.notWithCredential(r)
	if err != nil {
		return err
	}
	var q trustRequest
	if err := openstack.ReadJSON(r, &q); err != nil {
		return err
	}
	switch t := q.Trust; {
	case t == nil || t.Trustor == "" || t.Trustee == "" || t.Impersonation == nil:
		return openstack.BadRequest("Malformed request body: 'trust' has trustor_user_id, trustee_user_id and impersonation.")
	case t.Trustor != token.User.ID:
		return openstack.Forbidden("The authenticated user should match the trustor.")
	case t.AllowRedelegation:
		return openstack.Forbidden("Trusts cannot be delegated further: leave out allow_redelegation.")
	}
	t := identity.Trust{
		Trustor: q.Trust.Trustor, Trustee: q.Trust.Trustee, Project: q.Trust.Project,
		Impersonation: *q.Trust.Impersonation, Uses: q.Trust.RemainingUses,
	}
	for _, role := range q.Trust.Roles {
		t.Roles = append(t.Roles, role.ID+role.Name)
	}
	if t.Expires, err = parseTime(q.Trust.ExpiresAt); err != nil {
		return err
	}
	if t, err = a.dir.CreateTrust(r.Context(), t); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "trust", a.wholeTrustView(r, t))
}

// deleteTrust is for the trustor, and for administrators.
func (a *API) deleteTrust(w http.ResponseWriter, r *http.Request) error {
	t, err := a.trust(r)
	if err != nil {
		return err
	}
	if c := openstack.CallerOf(r.Context()); c.UserID != t.Trustor && !admin(c, r) {
		return openstack.Forbidden("You are not authorized to perform the requested action: identity:delete_trust.")
	}
	return done(w, a.dir.DeleteTrust(r.Context(), t.ID))
}

func (a *API) listTrustRoles(w http.ResponseWriter, r *http.Request) error {
	t, err := a.trust(r)
	if err != nil {
		return err
	}
	return writeList(w, r, "roles", a.rolesOfTrust(r, t))
}

func (a *API) showTrustRole(w http.ResponseWriter, r *http.Request) error {
	t, err := a.trust(r)
	if err != nil {
		return err
	}
	id := r.PathValue("role")
	role, err := a.dir.Role(id)
	if err != nil || !slices.Contains(t.Roles, id) {
		return openstack.NotFound("Could not find role: %s.", id)
	}
	return writeOne(w, http.StatusOK, "role", roleView(r, role))
}
