package keystone

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// policyRoutes are those of policies that services keep in Keystone. What callers may
// do here, none of them says.
func (a *API) policyRoutes() []route {
	return []route{
		{"GET", "/v3/policies", "identity:list_policies", reader, a.listPolicies},
		{"POST", "/v3/policies", "identity:create_policy", admin, a.createPolicy},
		{"GET", "/v3/policies/{id}", "identity:get_policy", reader, a.showPolicy},
		{"PATCH", "/v3/policies/{id}", "identity:update_policy", admin, a.updatePolicy},
		{"DELETE", "/v3/policies/{id}", "identity:delete_policy", admin, a.deletePolicy},
	}
}

func policyView(r *http.Request, p identity.Policy) view {
	return build(r, "policies", p.ID, view{"type": p.Type, "blob": p.Blob}, p.Extra)
}

// policyFrom reads what a request says of a policy.
func policyFrom(r *http.Request, p *identity.Policy) error {
	in, err := readAttributes(r, "policy")
	if err != nil {
		return err
	}
	in.same("id", p.ID)
	in.text("type", &p.Type)
	in.text("blob", &p.Blob)
	if err := in.extra(&p.Extra); err != nil {
		return err
	}
	if p.Type == "" || p.Blob == "" {
		return openstack.BadRequest("Malformed request body: a policy has type and blob.")
	}
	return nil
}

func (a *API) listPolicies(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "policies", views(a.dir.Policies(), func(p identity.Policy) view { return policyView(r, p) }))
}

func (a *API) showPolicy(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Policy(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "policy", policyView(r, p))
}

func (a *API) createPolicy(w http.ResponseWriter, r *http.Request) error {
	return a.savePolicy(w, r, identity.Policy{}, http.StatusCreated)
}

func (a *API) updatePolicy(w http.ResponseWriter, r *http.Request) error {
	p, err := a.dir.Policy(r.PathValue("id"))
	if err != nil {
		return err
	}
	return a.savePolicy(w, r, p, http.StatusOK)
}

func (a *API) savePolicy(w http.ResponseWriter, r *http.Request, p identity.Policy, status int) error {
	if err := policyFrom(r, &p); err != nil {
		return err
	}
	p, err := a.dir.SavePolicy(r.Context(), p)
	if err != nil {
		return err
	}
	return writeOne(w, status, "policy", policyView(r, p))
}

func (a *API) deletePolicy(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.dir.DeletePolicy(r.Context(), r.PathValue("id")))
}
