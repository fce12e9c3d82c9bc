// Package keystone serves a Directory of identities as OpenStack's identity API v3.
//
// Who may do what follows Keystone's default policies: the role admin may do all, a
// reader of the system may read all, a user sees himself, his projects and his
// application credentials.
package keystone

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/identity"
)

// Config says what an API serves. Only Directory and Catalog must be given.
type Config struct {
	Directory *identity.Directory
	// Catalog returns Slipway's own services, their URLs as the request's client
	// reaches them.
	Catalog func(*http.Request) []Entry
	Region  string       // of those services, RegionOne by default
	Log     *slog.Logger // nil discards
}

// Entry is a service of Slipway's own in the catalog.
type Entry struct{ Type, Name, Description, URL string }

// API is the handler of all requests.
type API struct {
	dir      *identity.Directory
	catalog  func(*http.Request) []Entry
	region   string
	log      *slog.Logger
	throttle *throttle
	handler  http.Handler
}

// New makes the handler; paths begin with /v3.
func New(cfg Config) *API {
	a := &API{dir: cfg.Directory, catalog: cfg.Catalog, region: cfg.Region, log: cfg.Log, throttle: newThrottle(time.Now)}
	if a.region == "" {
		a.region = "RegionOne"
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var routes []openstack.Route
	for _, r := range a.routes() {
		routes = append(routes, openstack.Route{Method: r.method, Path: r.path, Serve: a.guarded(r)})
	}
	mux := openstack.NewMux(openstack.Identity, a.log, routes)
	a.handler = openstack.Authentication{
		Tokens: a, IdentityURL: versionURL, Service: "identity", Dialect: openstack.Identity, Log: a.log,
		// Each route says itself whether it wants a token.
		Public: func(*http.Request) bool { return true },
	}.Middleware(mux)
	return a
}

func versionURL(r *http.Request) string { return openstack.BaseOf(r) + "/v3" }

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Authenticate implements openstack.Authenticator.
func (a *API) Authenticate(ctx context.Context, token string) (*openstack.Caller, error) {
	t, err := a.dir.Validate(ctx, token)
	if errors.Is(err, identity.ErrUnauthorized) {
		return nil, openstack.ErrToken
	}
	if err != nil {
		return nil, err
	}
	c := &openstack.Caller{
		UserID: t.User.ID, UserName: t.User.Name, UserDomainID: t.User.DomainID,
		ProjectID: t.Project.ID, ProjectName: t.Project.Name, ProjectDomainID: t.Project.DomainID,
		DomainID: t.Domain.ID, System: t.System,
	}
	if rules := a.dir.RulesOf(t.Credential); rules != nil {
		c.Allows = func(service, method, path string) bool {
			return slices.ContainsFunc(rules, func(rule identity.AccessRule) bool { return rule.Allows(service, method, path) })
		}
	}
	for _, role := range t.Roles {
		c.Roles = append(c.Roles, role.Name)
	}
	return c, nil
}

// route is a request with who may make it.
type route struct {
	method, path string
	action       string // as in Keystone's policies
	allow        policy
	serve        openstack.Func
}

// policy tells whether a caller may make a request.
type policy func(c *openstack.Caller, r *http.Request) bool

// anyone needs no token; every other policy does.
var anyone policy

func tokenHolder(*openstack.Caller, *http.Request) bool { return true }

func admin(c *openstack.Caller, _ *http.Request) bool { return c.Has(openstack.Admin) }

// reader may read everything.
func reader(c *openstack.Caller, r *http.Request) bool {
	return admin(c, r) || c.System && c.Has(openstack.Reader)
}

// self is the user whom the path names.
func self(c *openstack.Caller, r *http.Request) bool { return c.UserID == r.PathValue("user") }

func selfOrReader(c *openstack.Caller, r *http.Request) bool { return self(c, r) || reader(c, r) }

func selfOrAdmin(c *openstack.Caller, r *http.Request) bool { return self(c, r) || admin(c, r) }

// insideOrReader is who has a token for the project that the path names, or in
// the domain.
func insideOrReader(c *openstack.Caller, r *http.Request) bool {
	if id := r.PathValue("project"); id != "" && c.ProjectID == id {
		return true
	}
	if id := r.PathValue("domain"); id != "" && (c.DomainID == id || c.ProjectDomainID == id) {
		return true
	}
	return reader(c, r)
}

// guarded asks the policy first, and words the directory's errors.
func (a *API) guarded(rt route) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller := openstack.CallerOf(r.Context())
		if rt.allow != nil {
			if caller == nil {
				return a.unauthorized(w, r)
			}
			if !rt.allow(caller, r) {
				return openstack.Forbidden("You are not authorized to perform the requested action: %s.", rt.action)
			}
		}
		err := rt.serve(w, r)
		switch {
		case errors.Is(err, identity.ErrUnauthorized):
			return a.unauthorized(w, r)
		case errors.Is(err, identity.ErrForbidden):
			return openstack.Forbidden("%s", err.Error())
		}
		return err
	}
}

func (a *API) unauthorized(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+versionURL(r)+`"`)
	return openstack.Unauthorized()
}

// token is the whole token of the caller.
func (a *API) token(r *http.Request) (*identity.Token, error) {
	return a.dir.Validate(r.Context(), r.Header.Get(openstack.TokenHeader))
}
