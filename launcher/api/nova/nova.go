package nova

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	"github.com/slipway-vm/slipway/launcher/network"
)

// MaxVersion is the highest microversion that is answered.
const MaxVersion openstack.Microversion = 90

// versions is the range of microversions.
var versions = openstack.Microversions{Min: 1, Max: MaxVersion}

// Config is what the API stands on.
type Config struct {
	Manager *launcher.Manager
	Images  Images
	// Catalog is what Nova's proxies for the image API show; nil: there are none.
	Catalog *catalog.Catalog
	// Compute holds flavors, key pairs and what else surrounds servers.
	Compute *compute.Compute
	// Networks holds networks and the ports of servers; nil: there are none.
	Networks *network.Service
	// Figures looks at the host.
	Figures func(context.Context) (Figures, error)
	// ProjectExists is asked before quotas are set for a project; nil: every one does.
	ProjectExists func(ctx context.Context, id string) (bool, error)
	// LocalProject is the project that the servers of the local socket are shown
	// in, which belong to nobody else.
	LocalProject string
	// Host is this machine's name.
	Host string
	Log  *slog.Logger
}

// Image is an image as a server's request needs it.
type Image struct {
	ID        string // UUID
	Reference string // what the launcher boots
	MinDisk   int64  // bytes
	MinMemory int64  // bytes
}

// Images are the images that servers may be made from.
type Images interface {
	// Image returns the image with an ID, for a caller. The error matches
	// launcher.ErrNotFound where there is none that he may use.
	Image(ctx context.Context, caller *openstack.Caller, id string) (Image, error)
	// NewSnapshot makes an image without data, and says by what reference the launcher
	// is to have it; EndSnapshot is told what became of it.
	NewSnapshot(ctx context.Context, caller *openstack.Caller, s catalog.Snapshot) (id, reference string, err error)
	EndSnapshot(ctx context.Context, id string, img launcher.Image, failed error) error
	// Rotate removes the server's backups of the snapshot's kind that are too many.
	Rotate(ctx context.Context, caller *openstack.Caller, s catalog.Snapshot) error
}

// API is a handler for all requests.
type API struct {
	cfg Config
	log *slog.Logger
	mux http.Handler
}

// New makes the handler. Callers are authenticated before it; see [Public].
func New(cfg Config) http.Handler {
	a := &API{cfg: cfg, log: cfg.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.mux = openstack.NewMux(openstack.Compute, a.log, mounted(a.routes()))
	return a
}

// routes collects those of every resource.
func (a *API) routes() []route {
	var all []route
	for _, routes := range [][]route{
		a.versionRoutes(),
		a.flavorRoutes(), a.keypairRoutes(), a.serverGroupRoutes(), a.quotaRoutes(),
		a.serviceRoutes(), a.hostRoutes(), a.hypervisorRoutes(), a.aggregateRoutes(), a.usageRoutes(),
		a.extensionRoutes(), a.remnantRoutes(), a.imageRoutes(), a.securityGroupRoutes(),
		a.serverRoutes(), a.serverPartRoutes(), a.interfaceRoutes(), a.floatingIPRoutes(), a.instanceActionRoutes(),
	} {
		all = append(all, routes...)
	}
	return all
}

// route is one request that the API answers.
type route struct {
	method string
	path   string // below /v2.1: "/servers/{id}"
	// role is what a caller needs, and policy the name of Nova's rule for it:
	// "os_compute_api:servers:index". Without a role everybody may call.
	role, policy string
	// min and max bound the microversions that have the route; 0: all.
	min, max openstack.Microversion
	serve    openstack.Func
}

// has reports whether a microversion has the route.
func (r route) has(v openstack.Microversion) bool { return v >= r.min && (r.max == 0 || v <= r.max) }

// mounted puts the routes below /v2.1. Routes of one method and path are told apart
// by their microversions.
func mounted(routes []route) []openstack.Route {
	type key struct{ method, path string }
	var order []key
	alike := map[key][]route{}
	for _, r := range routes {
		k := key{r.method, r.path}
		if alike[k] == nil {
			order = append(order, k)
		}
		alike[k] = append(alike[k], r)
	}
	var all []openstack.Route
	for _, k := range order {
		all = append(all, openstack.Route{Method: k.method, Path: root + k.path, Serve: choose(alike[k])})
	}
	return append(all, openstack.Route{Method: http.MethodGet, Path: "/{$}", Serve: listVersions},
		openstack.Route{Method: http.MethodGet, Path: legacy, Serve: showLegacyVersion})
}

// choose serves by the route that the request's microversion has.
func choose(routes []route) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := openstack.MicroversionOf(r.Context())
		for _, candidate := range routes {
			if !candidate.has(v) {
				continue
			}
			if candidate.role != "" && !openstack.CallerOf(r.Context()).Has(candidate.role) {
				return refused(candidate.policy)
			}
			return candidate.serve(w, r)
		}
		return openstack.NotFound("API version %s is not supported on this method.", v)
	}
}

// refused is Nova's answer to who may not do something.
func refused(policy string) error {
	return openstack.Forbidden("Policy doesn't allow %s to be performed.", policy)
}

// root begins every path but that of the list of versions.
const root = "/v2.1"

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "", "/", legacy, legacy + "/":
		a.mux.ServeHTTP(w, r)
		return
	}
	r, err := withoutProject(modern(r))
	if err != nil {
		openstack.WriteFault(w, r, openstack.Compute, err)
		return
	}
	versions.Middleware(a.mux).ServeHTTP(w, r)
}

// withoutProject takes the project out of a path that names it, as those of older
// catalogs do; it must be the caller's.
func withoutProject(r *http.Request) (*http.Request, error) {
	rest, ok := strings.CutPrefix(r.URL.Path, root+"/")
	first, rest, more := strings.Cut(rest, "/")
	caller := openstack.CallerOf(r.Context())
	if !ok || !isProject(first) && (caller == nil || caller.ProjectID == "" || first != caller.ProjectID) {
		return r, nil
	}
	if caller == nil || first != caller.ProjectID {
		theirs := ""
		if caller != nil {
			theirs = caller.ProjectID
		}
		return r, openstack.BadRequest("Malformed request URL: URL's project_id '%s' doesn't match Context's project_id '%s'", first, theirs)
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = root, ""
	if more && rest != "" {
		r.URL.Path += "/" + rest
	}
	return r, nil
}

// isProject tells the IDs of projects, 32 hexadecimal digits or a UUID, from the
// names of resources.
func isProject(s string) bool {
	digits := strings.ReplaceAll(s, "-", "")
	return len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// links are those of every resource: its address, and one without the version.
func links(r *http.Request, path string) []openstack.Link {
	base := openstack.BaseOf(r)
	return []openstack.Link{{Rel: "self", Href: base + root + path}, {Rel: "bookmark", Href: base + path}}
}

// bookmark is the only link of a resource that stands inside of another.
func bookmark(r *http.Request, path string) []openstack.Link { return links(r, path)[1:] }
