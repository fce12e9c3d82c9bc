package keystone

import (
	"encoding/json"
	"net/http"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func (a *API) storedRoutes() []route {
	const ec2 = "/v3/users/{user}/credentials/OS-EC2"
	return []route{
		{"GET", "/v3/credentials", "identity:list_credentials", tokenHolder, a.listStored},
		{"POST", "/v3/credentials", "identity:create_credential", tokenHolder, a.createStored},
		{"GET", "/v3/credentials/{credential}", "identity:get_credential", tokenHolder, a.showStored},
		{"PATCH", "/v3/credentials/{credential}", "identity:update_credential", tokenHolder, a.updateStored},
		{"DELETE", "/v3/credentials/{credential}", "identity:delete_credential", tokenHolder, a.deleteStored},
		{"GET", ec2, "identity:ec2_list_credentials", selfOrReader, a.listEC2},
		{"POST", ec2, "identity:ec2_create_credential", selfOrAdmin, a.createEC2},
		{"GET", ec2 + "/{access}", "identity:ec2_get_credential", selfOrReader, a.showEC2},
		{"DELETE", ec2 + "/{access}", "identity:ec2_delete_credential", selfOrAdmin, a.deleteEC2},
	}
}

func storedView(r *http.Request, c identity.StoredCredential) view {
	return build(r, "credentials", c.ID, view{"type": c.Type, "blob": c.Blob, "user_id": c.User, "project_id": orNull(c.Project)}, nil)
}

// mayKeep says whether a caller may see or change a user's credentials.
func mayKeep(r *http.Request, user string, write bool) bool {
	c := openstack.CallerOf(r.Context())
	return c.UserID == user || admin(c, r) || !write && reader(c, r)
}

// listStored lists the caller's own, or an administrator's everybody's.
func (a *API) listStored(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	list := a.dir.StoredCredentials(func(c identity.StoredCredential) bool {
		return mayKeep(r, c.User, false) && (!q.Has("user_id") || q.Get("user_id") == c.User) && (!q.Has("type") || q.Get("type") == c.Type)
	})
	return writeList(w, r, "credentials", views(list, func(c identity.StoredCredential) view { return storedView(r, c) }))
}

// storedCredential finds the one that the path names, if the caller may have it.
func (a *API) storedCredential(r *http.Request, write bool) (identity.StoredCredential, error) {
	c, err := a.dir.StoredCredential(r.PathValue("credential"))
	if err == nil && !mayKeep(r, c.User, write) {
		return c, openstack.Forbidden("You are not authorized to perform the requested action: identity:get_credential.")
	}
	return c, err
}

func (a *API) showStored(w http.ResponseWriter, r *http.Request) error {
	c, err := a.storedCredential(r, false)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "credential", storedView(r, c))
}

func storedFrom(in *attributes, c *identity.StoredCredential) error {
	in.text("type", &c.Type)
	in.text("blob", &c.Blob)
	in.text("user_id", &c.User)
	in.text("project_id", &c.Project)
	return in.err
}

func (a *API) createStored(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.notWithCredential(r); err != nil {
		return err
	}
	in, err := readAttributes(r, "credential")
	if err != nil {
		return err
	}
	c := identity.StoredCredential{User: openstack.CallerOf(r.Context()).UserID}
	if err := storedFrom(in, &c); err != nil {
		return err
	}
	if !mayKeep(r, c.User, true) {
		return openstack.Forbidden("You are not authorized to perform the requested action: identity:create_credential.")
	}
	if c, err = a.dir.CreateStoredCredential(r.Context(), c); err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "credential", storedView(r, c))
}

func (a *API) updateStored(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.notWithCredential(r); err != nil {
		return err
	}
	c, err := a.storedCredential(r, true)
	if err != nil {
		return err
	}
	in, err := readAttributes(r, "credential")
	if err != nil {
		return err
	}
	c, err = a.dir.UpdateStoredCredential(r.Context(), c.ID, func(c *identity.StoredCredential) error {
		if err := storedFrom(in, c); err != nil {
			return err
		}
		if !mayKeep(r, c.User, true) {
			return openstack.Forbidden("You are not authorized to perform the requested action: identity:update_credential.")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "credential", storedView(r, c))
}

func (a *API) deleteStored(w http.ResponseWriter, r *http.Request) error {
	c, err := a.storedCredential(r, true)
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteStoredCredentials(r.Context(), c.ID))
}

// ec2View is a key pair of EC2's API.
func ec2View(r *http.Request, c identity.StoredCredential) view {
	var blob identity.EC2Blob
	_ = json.Unmarshal([]byte(c.Blob), &blob) // it was checked when it was made
	v := build(r, "users/"+c.User+"/credentials/OS-EC2", blob.Access, view{
		"access": blob.Access, "secret": blob.Secret, "user_id": c.User, "tenant_id": c.Project, "trust_id": nil,
	}, nil)
	delete(v, "id")
	return v
}

func (a *API) listEC2(w http.ResponseWriter, r *http.Request) error {
	u, err := a.dir.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	list := a.dir.StoredCredentials(func(c identity.StoredCredential) bool { return c.User == u.ID && c.Type == identity.TypeEC2 })
	return writeList(w, r, "credentials", views(list, func(c identity.StoredCredential) view { return ec2View(r, c) }))
}

// createEC2 makes a key pair for a project that the user has a role in.
func (a *API) createEC2(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.notWithCredential(r); err != nil {
		return err
	}
	var body struct {
		Project string `json:"tenant_id"`
	}
	if err := openstack.ReadJSON(r, &body); err != nil {
		return err
	}
	user := r.PathValue("user")
	if _, err := a.dir.Project(body.Project); err != nil {
		return err
	}
	if len(a.dir.RolesOn(user, body.Project)) == 0 {
		return openstack.Forbidden("User %s has no access to project %s", user, body.Project)
	}
	c, err := a.dir.CreateStoredCredential(r.Context(), identity.StoredCredential{
		Type: identity.TypeEC2, Blob: identity.NewEC2Blob().String(), User: user, Project: body.Project,
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusCreated, "credential", ec2View(r, c))
}

// ec2 finds the key pair that the path names.
func (a *API) ec2(r *http.Request) (identity.StoredCredential, error) {
	c, err := a.dir.StoredCredential(identity.EC2ID(r.PathValue("access")))
	if err != nil || c.User != r.PathValue("user") {
		return c, openstack.NotFound("EC2 access key not found.")
	}
	return c, nil
}

func (a *API) showEC2(w http.ResponseWriter, r *http.Request) error {
	c, err := a.ec2(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "credential", ec2View(r, c))
}

func (a *API) deleteEC2(w http.ResponseWriter, r *http.Request) error {
	c, err := a.ec2(r)
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteStoredCredentials(r.Context(), c.ID))
}
