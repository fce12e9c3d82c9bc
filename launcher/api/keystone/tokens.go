package keystone

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

const subjectHeader = "X-Subject-Token"

// reference is how a request names a domain, or something in one.
type reference struct {
	ID     string     `json:"id"`
	Name   string     `json:"name"`
	Domain *reference `json:"domain"`
}

func (f *reference) ref() *identity.Ref {
	if f == nil {
		return nil
	}
	ref := &identity.Ref{ID: f.ID, Name: f.Name}
	if f.Domain != nil {
		ref.DomainID, ref.DomainName = f.Domain.ID, f.Domain.Name
	}
	return ref
}

type authRequest struct {
	Auth *struct {
		Identity *struct {
			Methods  []string `json:"methods"`
			Password struct {
				User struct {
					reference
					Password string `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token struct {
				ID string `json:"id"`
			} `json:"token"`
			Credential struct {
				reference
				User   reference `json:"user"`
				Secret string    `json:"secret"`
			} `json:"application_credential"`
		} `json:"identity"`
		Scope scope `json:"scope"`
	} `json:"auth"`
}

// scope is an object, or the text "unscoped".
type scope struct{ identity.Scope }

func (s *scope) UnmarshalJSON(data []byte) error {
	if string(data) == `"unscoped"` {
		s.None = true
		return nil
	}
	var v struct {
		Unscoped *struct{}  `json:"unscoped"`
		Project  *reference `json:"project"`
		Domain   *reference `json:"domain"`
		System   *struct {
			All bool `json:"all"`
		} `json:"system"`
		Trust *reference `json:"OS-TRUST:trust"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return openstack.BadRequest("Malformed request body: auth.scope: %v.", err)
	}
	if v.Trust != nil {
		s.Scope.Trust = v.Trust.ID
	}
	s.None, s.Project, s.Domain = v.Unscoped != nil, v.Project.ref(), v.Domain.ref()
	s.System = v.System != nil && v.System.All
	return nil
}

// login checks the form of a request for a token.
func (q *authRequest) login() (login identity.Login, user string, err error) {
	if q.Auth == nil || q.Auth.Identity == nil || len(q.Auth.Identity.Methods) == 0 {
		return login, "", openstack.BadRequest("Malformed request body: it names no method in auth.identity.methods.")
	}
	id := q.Auth.Identity
	for _, method := range id.Methods {
		switch method {
		case "password":
			login.User, login.Password = id.Password.User.ref(), id.Password.User.Password
			user = login.User.ID + login.User.Name
			if user == "" {
				return login, "", openstack.BadRequest("Malformed request body: the method password names no user.")
			}
		case "token":
			if login.Token = id.Token.ID; login.Token == "" {
				return login, "", openstack.BadRequest("Malformed request body: the method token has no token.id.")
			}
		case "application_credential":
			login.Credential, login.CredentialUser, login.Secret = id.Credential.ref(), *id.Credential.User.ref(), id.Credential.Secret
			user = "credential " + login.Credential.ID + login.Credential.Name
		default:
			return login, "", openstack.Faultf(http.StatusUnauthorized, "Attempted to authenticate with an unsupported method.")
		}
	}
	return login, user[:min(len(user), 255)], nil
}

func (a *API) issueToken(w http.ResponseWriter, r *http.Request) error {
	var q authRequest
	if err := openstack.ReadJSON(r, &q); err != nil {
		return err
	}
	login, user, err := q.login()
	if err != nil {
		return err
	}
	if err := a.throttle.check(r, user); err != nil {
		return err
	}
	text, token, err := a.dir.Authenticate(r.Context(), login, q.Auth.Scope.Scope)
	if errors.Is(err, identity.ErrUnauthorized) {
		a.throttle.failed(r, user)
		a.log.Info("login refused", "request_id", openstack.RequestIDOf(r.Context()), "address", r.RemoteAddr, "methods", q.Auth.Identity.Methods)
	}
	if err != nil {
		return err
	}
	w.Header().Set(subjectHeader, text)
	w.Header().Set("Vary", openstack.TokenHeader)
	return writeOne(w, http.StatusCreated, "token", a.tokenView(r, token))
}

// subject is the token that a request is about: one of the caller's own, or for an
// administrator any other.
func (a *API) subject(r *http.Request) (string, *identity.Token, error) {
	text, caller := r.Header.Get(subjectHeader), openstack.CallerOf(r.Context())
	t, err := a.dir.Validate(r.Context(), text)
	switch {
	case errors.Is(err, identity.ErrUnauthorized):
		return "", nil, openstack.NotFound("Could not find token.")
	case err == nil && t.User.ID != caller.UserID && !caller.Has(openstack.Admin):
		return "", nil, openstack.Forbidden("You are not authorized to perform the requested action: identity:validate_token.")
	}
	return text, t, err
}

func (a *API) validateToken(w http.ResponseWriter, r *http.Request) error {
	text, t, err := a.subject(r)
	if err != nil {
		return err
	}
	w.Header().Set(subjectHeader, text)
	w.Header().Set("Vary", openstack.TokenHeader)
	return writeOne(w, http.StatusOK, "token", a.tokenView(r, t))
}

func (a *API) revokeToken(w http.ResponseWriter, r *http.Request) error {
	text, _, err := a.subject(r)
	if err != nil {
		return err
	}
	return done(w, a.dir.Discard(r.Context(), text))
}

// inDomain shows something by id and name, in its domain.
func inDomain(id, name string, domain identity.Project) view {
	return view{"id": id, "name": name, "domain": view{"id": domain.ID, "name": domain.Name}}
}

func (a *API) tokenView(r *http.Request, t *identity.Token) view {
	user := inDomain(t.User.ID, t.User.Name, t.UserDomain)
	user["password_expires_at"] = nil
	v := view{
		"methods": t.Methods, "user": user, "audit_ids": t.Audit,
		"issued_at": timestamp(t.Issued), "expires_at": timestamp(t.Expires),
	}
	switch {
	case t.Project.ID != "":
		v["project"] = inDomain(t.Project.ID, t.Project.Name, t.ProjectDomain)
		v["is_domain"] = false
	case t.Domain.ID != "":
		v["domain"] = view{"id": t.Domain.ID, "name": t.Domain.Name}
	case t.System:
		v["system"] = view{"all": true}
	default:
		return v
	}
	v["roles"] = views(t.Roles, func(role identity.Role) view { return view{"id": role.ID, "name": role.Name} })
	if !r.URL.Query().Has("nocatalog") {
		v["catalog"] = a.catalogView(r, t)
	}
	if tr := t.Trust; tr != nil {
		v["OS-TRUST:trust"] = view{
			"id": tr.ID, "impersonation": tr.Impersonation,
			"trustor_user": view{"id": tr.Trustor}, "trustee_user": view{"id": tr.Trustee},
		}
	}
	if c := t.Credential; c != nil {
		v["application_credential"] = view{"id": c.ID, "name": c.Name, "restricted": !c.Unrestricted}
	}
	return v
}

func (a *API) authCatalog(w http.ResponseWriter, r *http.Request) error {
	t, err := a.token(r)
	if err != nil {
		return err
	}
	if t.Project.ID == "" && t.Domain.ID == "" && !t.System {
		return openstack.Forbidden("You are not authorized to perform the requested action: identity:get_auth_catalog.")
	}
	return openstack.WriteJSON(w, http.StatusOK, view{
		"catalog": a.catalogView(r, t), "links": view{"self": versionURL(r) + "/auth/catalog", "previous": nil, "next": nil},
	})
}

func (a *API) authProjects(w http.ResponseWriter, r *http.Request) error {
	list := a.dir.ProjectsOf(openstack.CallerOf(r.Context()).UserID, false)
	return writeList(w, r, "projects", views(enabled(list), func(p identity.Project) view { return projectView(r, p) }))
}

func (a *API) authDomains(w http.ResponseWriter, r *http.Request) error {
	list := a.dir.ProjectsOf(openstack.CallerOf(r.Context()).UserID, true)
	return writeList(w, r, "domains", views(enabled(list), func(p identity.Project) view { return domainView(r, p) }))
}

func enabled(list []identity.Project) []identity.Project {
	return slices.DeleteFunc(list, func(p identity.Project) bool { return !p.Enabled })
}

func (a *API) authSystem(w http.ResponseWriter, r *http.Request) error {
	user := openstack.CallerOf(r.Context()).UserID
	list := []view{}
	if slices.ContainsFunc(a.dir.Effective(), func(g identity.Assignment) bool { return g.User == user && g.Project == "" }) {
		list = append(list, view{"all": true})
	}
	return openstack.WriteJSON(w, http.StatusOK, view{
		"system": list, "links": view{"self": versionURL(r) + "/auth/system"},
	})
}

func (a *API) changePassword(w http.ResponseWriter, r *http.Request) error {
	in, err := readAttributes(r, "user")
	if err != nil {
		return err
	}
	var old, password string
	if !in.text("original_password", &old) || !in.text("password", &password) || in.err != nil {
		return openstack.BadRequest("Malformed request body: user has original_password and password, both texts.")
	}
	user := r.PathValue("user")
	if err := a.throttle.check(r, user); err != nil {
		return err
	}
	err = a.dir.ChangePassword(r.Context(), user, old, password)
	if errors.Is(err, launcher.ErrNotFound) {
		err = identity.ErrUnauthorized // it is not for strangers to know
	}
	if errors.Is(err, identity.ErrUnauthorized) {
		a.throttle.failed(r, user)
	}
	return done(w, err)
}
