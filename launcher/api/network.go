package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/catalog"
	"github.com/slipway-vm/slipway/launcher/compute"
	networking "github.com/slipway-vm/slipway/launcher/network"
)

// NetworkVersion begins the path of every request of the network's, below the
// service's own prefix.
const NetworkVersion = "/v1"

// NetworkConfig is what the API stands on, on the network.
type NetworkConfig struct {
	Manager  *launcher.Manager
	Networks *networking.Service // nil: servers have none
	Kernels  Kernels
	// Compute has the flavors and the quotas, Images says who sees which.
	Compute *compute.Compute
	Images  *catalog.Catalog
	// DefaultFlavor is that of servers which name none.
	DefaultFlavor string
	// LocalProject is the project that the servers of the local socket are shown
	// in, which belong to nobody else.
	LocalProject string
	Version      string
	Log          *slog.Logger
}

// network is the part of the API that the network service has: what OpenStack has
// no word for. A caller has the servers of his project, as with Nova.
type network struct {
	*API
	cfg NetworkConfig
}

// NewNetwork makes the handler for the network. Callers are authenticated before
// it; see [NetworkPublic].
func NewNetwork(cfg NetworkConfig) http.Handler {
	n := &network{API: &API{manager: cfg.Manager, networks: cfg.Networks, kernels: cfg.Kernels, log: cfg.Log, upgrade: upgradeSocket}, cfg: cfg}
	var routes []openstack.Route
	for _, r := range n.routes() {
		routes = append(routes, openstack.Route{Method: r.method, Path: NetworkVersion + r.path, Serve: n.guard(r)})
	}
	return openstack.NewMux(openstack.Slipway, cfg.Log, routes)
}

// NetworkPublic reports whether a request needs no token: those that describe the
// API.
func NetworkPublic(r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		(path == NetworkVersion || path == NetworkVersion+openAPIPath)
}

// networkRoute is a request that the network service answers.
type networkRoute struct {
	method, path string
	// role is what a caller needs; empty: nothing, not even a token.
	role string
	// acts says that a locked server refuses it.
	acts  bool
	serve openstack.Func
	about operation
}

// guard lets those through who may, and puts the server's ID in the place of what
// the path calls it. Locked servers are the administrators' alone.
func (n *network) guard(route networkRoute) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller := openstack.CallerOf(r.Context())
		if route.role != "" && (!caller.Has(route.role) || caller.ProjectID == "") {
			return openstack.Forbidden("It takes the role %s in a project.", route.role)
		}
		if route.role != "" {
			r = r.WithContext(launcher.WithCaller(r.Context(), launcher.Caller{
				Request: openstack.RequestIDOf(r.Context()), Project: caller.ProjectID, User: caller.UserID,
			}))
		}
		if strings.Contains(route.path, "{server}") {
			srv, err := n.find(caller, r.PathValue("server"))
			if err != nil {
				return err
			}
			if route.acts && srv.Locked && !caller.Has(openstack.Admin) {
				return openstack.Conflict("Server %s is locked", srv.ID)
			}
			r.SetPathValue("server", srv.ID)
		}
		sent := &response{ResponseWriter: w}
		if err := route.serve(sent, r); err != nil && !sent.begun {
			return guestError(err)
		}
		return nil
	}
}

// project is the one that a server is shown in.
func (n *network) project(srv *launcher.Server) string {
	if srv.Project == "" {
		return n.cfg.LocalProject
	}
	return srv.Project
}

// find returns the server with an ID, or else a name, in the caller's project. An
// administrator's ID may be that of any project's.
func (n *network) find(caller *openstack.Caller, ref string) (launcher.Server, error) {
	var named []launcher.Server
	for _, srv := range n.manager.Servers() {
		mine := n.project(&srv) == caller.ProjectID
		switch {
		case srv.ID == ref && (mine || caller.Has(openstack.Admin)):
			return srv, nil
		case srv.Name == ref && mine:
			named = append(named, srv)
		}
	}
	switch len(named) {
	case 0:
		return launcher.Server{}, openstack.NotFound("No server with a name or ID of '%s' exists.", ref)
	case 1:
		return named[0], nil
	}
	return launcher.Server{}, openstack.Conflict("More than one server exists with the name '%s': use an ID.", ref)
}

// Version says which version of the API a service has.
type Version struct {
	ID      string           `json:"id"`
	Status  string           `json:"status"`
	Slipway string           `json:"slipway"` // the service's own version
	Links   []openstack.Link `json:"links"`
}

func (n *network) describe(w http.ResponseWriter, r *http.Request) error {
	base := openstack.BaseOf(r) + NetworkVersion
	return writeJSON(w, http.StatusOK, Version{
		ID: "v1", Status: "CURRENT", Slipway: n.cfg.Version,
		Links: []openstack.Link{{Rel: "self", Href: base}, {Rel: "describedby", Href: base + openAPIPath}},
	})
}

// seen is a server as its project sees it.
func seen(srv launcher.Server) launcher.Server {
	srv.UserData, srv.Files, srv.Spec.CloudInit, srv.HostBoot = "", nil, nil, ""
	return srv
}

func (n *network) list(w http.ResponseWriter, r *http.Request) error {
	caller, list := openstack.CallerOf(r.Context()), []launcher.Server{}
	everybodys, err := allProjects(r)
	if err != nil {
		return err
	}
	for _, srv := range n.manager.Servers() {
		if everybodys || n.project(&srv) == caller.ProjectID {
			list = append(list, seen(srv))
		}
	}
	return writeJSON(w, http.StatusOK, list)
}

// allProjects reports whether an administrator asks for what is everybody's.
func allProjects(r *http.Request) (bool, error) {
	s := r.URL.Query().Get("all_projects")
	if s == "" {
		return false, nil
	}
	all, err := strconv.ParseBool(s)
	if err != nil {
		return false, openstack.BadRequest("all_projects: %q is neither true nor false.", s)
	}
	if all && !openstack.CallerOf(r.Context()).Has(openstack.Admin) {
		return false, openstack.Forbidden("It takes the role admin to see all projects.")
	}
	return all, nil
}

func (n *network) show(w http.ResponseWriter, r *http.Request) error {
	srv, err := n.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, seen(srv))
}

func (n *network) setServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := n.set(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, seen(srv))
}

// watch is watchServer without what is not the project's to know.
func (n *network) watch(w http.ResponseWriter, r *http.Request) error {
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	return n.manager.Watch(r.Context(), r.PathValue("server"), func(srv launcher.Server) error {
		if err := out.Encode(seen(srv)); err != nil {
			return err
		}
		return flush.Flush()
	})
}

// ended are the statuses that a wait is for where it names none.
var ended = []string{"SHUTOFF", "ERROR", "DELETED"}

// wait answers with the server once it has one of the statuses that the query
// names, at the latest after its timeout, in seconds, with 408.
func (n *network) wait(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	want, ctx := q["status"], r.Context()
	if len(want) == 0 {
		want = ended
	}
	if s := q.Get("timeout"); s != "" {
		seconds, err := strconv.ParseFloat(s, 64)
		if err != nil || seconds <= 0 || seconds > 1e6 {
			return openstack.BadRequest("timeout: %q is no number of seconds.", s)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
		defer cancel()
	}
	var last launcher.Server
	err := n.manager.Watch(ctx, r.PathValue("server"), func(srv launcher.Server) error {
		last = srv
		if slices.Contains(want, srv.Status()) && (srv.TaskState == launcher.TaskNone || srv.VMState == launcher.VMDeleted) {
			return errWaited
		}
		return nil
	})
	switch {
	case errors.Is(err, errWaited):
		return writeJSON(w, http.StatusOK, seen(last))
	case err == nil:
		return openstack.NotFound("Server %s was deleted.", last.ID)
	case ctx.Err() != nil && r.Context().Err() == nil:
		return openstack.Faultf(http.StatusRequestTimeout, "Server %s is %s still.", last.ID, last.Status())
	}
	return err
}

var errWaited = errors.New("it has come")

// upgradeSocket makes a connection of messages of a request for a websocket.
func upgradeSocket(ctx context.Context, w http.ResponseWriter, r *http.Request) (Conn, error) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{ProcessProtocol}})
	if err != nil {
		return nil, err // it has answered
	}
	return NewSocketConn(ctx, ws), nil
}
