package keystone

import (
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

func (a *API) credentialView(r *http.Request, c identity.ApplicationCredential) view {
	roles := []view{}
	for _, id := range c.Roles {
		if role, err := a.dir.Role(id); err == nil {
			roles = append(roles, view{"id": role.ID, "name": role.Name, "domain_id": orNull(role.DomainID)})
		}
	}
	v := build(r, "users/"+c.User+"/application_credentials", c.ID, view{
		"name": c.Name, "description": orNull(c.Description), "project_id": c.Project, "user_id": c.User,
		"roles": roles, "expires_at": nil, "unrestricted": c.Unrestricted, "system": nil,
	}, nil)
	if rules := a.dir.RulesOf(&c); rules != nil {
		v["access_rules"] = views(rules, accessRuleView)
	}
	if !c.Expires.IsZero() {
		v["expires_at"] = c.Expires.UTC().Format("2006-01-02T15:04:05.000000")
	}
	return v
}

func (a *API) listCredentials(w http.ResponseWriter, r *http.Request) error {
	u, err := a.dir.User(r.PathValue("user"))
	if err != nil {
		return err
	}
	list := a.dir.Credentials(func(c identity.ApplicationCredential) bool { return c.User == u.ID })
	return writeList(w, r, "application_credentials", views(list, func(c identity.ApplicationCredential) view { return a.credentialView(r, c) }))
}

// credential is the one that the path names, if it is the user's whom it names.
func (a *API) credential(r *http.Request) (identity.ApplicationCredential, error) {
	c, err := a.dir.Credential(r.PathValue("credential"))
	if err == nil && c.User != r.PathValue("user") {
		return identity.ApplicationCredential{}, openstack.NotFound("Could not find Application Credential: %s.", c.ID)
	}
	return c, err
}

func (a *API) showCredential(w http.ResponseWriter, r *http.Request) error {
	c, err := a.credential(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "application_credential", a.credentialView(r, c))
}

type credentialRequest struct {
	Credential *struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Secret      string `json:"secret"`
		Roles       []struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"roles"`
		ExpiresAt    string `json:"expires_at"`
		Unrestricted bool   `json:"unrestricted"`
		AccessRules  []struct {
			ID      string `json:"id"`
			Service string `json:"service"`
			Method  string `json:"method"`
			Path    string `json:"path"`
		} `json:"access_rules"`
	} `json:"application_credential"`
}

// notWithCredential refuses what a token of a restricted application credential
// may not do.
func (a *API) notWithCredential(r *http.Request) (*identity.Token, error) {
	t, err := a.token(r)
	if err != nil {
		return nil, err
	}
	if t.Trust != nil {
		return nil, openstack.Forbidden("A token of a trust may not manage credentials or trusts.")
	}
	if t.Credential != nil && !t.Credential.Unrestricted {
		return nil, openstack.Forbidden("A restricted application credential may not manage credentials.")
	}
	return t, nil
}

func (a *API) createCredential(w http.ResponseWriter, r *http.Request) error {
	t, err := a.notWithCredential(r)
	if err != nil {
		return err
	}
	var q credentialRequest
	if err := openstack.ReadJSON(r, &q); err != nil {
		return err
	}
	switch {
	case q.Credential == nil:
		return openstack.BadRequest("Malformed request body: it has no object 'application_credential'.")
	case t.Project.ID == "":
		return openstack.BadRequest("An application credential is for a project: use a token for one.")
	}
	c := identity.ApplicationCredential{
		Name: q.Credential.Name, Description: q.Credential.Description, Unrestricted: q.Credential.Unrestricted,
		User: t.User.ID, Project: t.Project.ID,
	}
	for _, role := range q.Credential.Roles {
		c.Roles = append(c.Roles, role.ID+role.Name)
	}
	if t.Credential != nil && len(c.Roles) == 0 {
		c.Roles = t.Credential.Roles // no more than itself has
	}
	if c.Expires, err = parseTime(q.Credential.ExpiresAt); err != nil {
		return err
	}
	var rules []identity.AccessRule
	for _, rule := range q.Credential.AccessRules {
		rules = append(rules, identity.AccessRule{ID: rule.ID, Service: rule.Service, Method: rule.Method, Path: rule.Path})
	}
	if t.Credential != nil && len(t.Credential.Rules) > 0 && len(rules) == 0 {
		return openstack.Forbidden("A credential with access rules may not make one without.")
	}
	c, secret, err := a.dir.CreateCredential(r.Context(), c, rules, q.Credential.Secret)
	if err != nil {
		return err
	}
	v := a.credentialView(r, c)
	v["secret"] = secret
	return writeOne(w, http.StatusCreated, "application_credential", v)
}

// parseTime reads the forms of ISO 8601 that clients send; without a zone it is UTC.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02T15:04:05.999999-0700"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return time.Time{}, openstack.BadRequest("Invalid input for field 'expires_at': %q is no time such as 2030-01-31T12:00:00Z.", text)
}

func (a *API) deleteCredential(w http.ResponseWriter, r *http.Request) error {
	if _, err := a.notWithCredential(r); err != nil {
		return err
	}
	c, err := a.credential(r)
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteCredential(r.Context(), c.ID))
}

func accessRuleView(rule identity.AccessRule) view {
	return view{"id": rule.ID, "service": rule.Service, "method": rule.Method, "path": rule.Path}
}

func (a *API) listAccessRules(w http.ResponseWriter, r *http.Request) error {
	return writeList(w, r, "access_rules", views(a.dir.AccessRules(r.PathValue("user")), accessRuleView))
}

// accessRule is the one that the path names, if it is the user's whom it names.
func (a *API) accessRule(r *http.Request) (identity.AccessRule, error) {
	rule, err := a.dir.AccessRule(r.PathValue("rule"))
	if err == nil && rule.User != r.PathValue("user") {
		return identity.AccessRule{}, openstack.NotFound("Could not find Access Rule: %s.", rule.ID)
	}
	return rule, err
}

func (a *API) showAccessRule(w http.ResponseWriter, r *http.Request) error {
	rule, err := a.accessRule(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "access_rule", accessRuleView(rule))
}

func (a *API) deleteAccessRule(w http.ResponseWriter, r *http.Request) error {
	rule, err := a.accessRule(r)
	if err != nil {
		return err
	}
	return done(w, a.dir.DeleteAccessRule(r.Context(), rule.ID))
}
