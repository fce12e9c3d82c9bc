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

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/events"
)

// NetworkVersion begins the path of every request of the network's, below the
// service's own prefix.
const NetworkVersion = "/v1"

// NetworkConfig is what the API stands on, on the network.
type NetworkConfig struct {
	Manager *launcher.Manager
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
	n := &network{API: &API{manager: cfg.Manager, log: cfg.Log, upgrade: upgradeSocket}, cfg: cfg}
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

func (n *network) routes() []networkRoute {
	const reader, member = openstack.Reader, openstack.Member
	const one = "/servers/{server}"
	socket := func(summary string, request any) operation {
		return operation{summary: summary, socket: true, request: request}
	}
	return []networkRoute{
		{"GET", "", "", false, n.describe, operation{summary: "The version of the API", answer: Version{}}},
		{"GET", openAPIPath, "", false, serveOpenAPI, operation{summary: "This description", answer: object{}}},
		{"GET", "/events", reader, false, n.events, operation{
			summary: "What happens to servers, as it happens", media: ndjson, answer: events.Event{},
			query: []parameter{sinceQuery, untilQuery, allProjectsQuery,
				{"filter", "JSON: lists servers, actions and images, of each of which one must match", "string", false}},
		}},
		{"GET", "/servers", reader, false, n.list, operation{summary: "The servers of the project", answer: []launcher.Server{}, query: []parameter{allProjectsQuery}}},
		{"GET", one, reader, false, n.show, operation{summary: "A server, with its exit status and the timeline of its boot", answer: launcher.Server{}}},
		{"DELETE", one, member, true, n.deleteServer, operation{summary: "Delete a server, and wait until it is gone"}},
		{"GET", one + "/watch", reader, false, n.watch, operation{summary: "A server at each change, until it is deleted", media: ndjson, answer: launcher.Server{}}},
		{"GET", one + "/wait", reader, false, n.wait, operation{
			summary: "A server once it has a status and nothing is being done to it; 408 when the time is up", answer: launcher.Server{},
			query: []parameter{{"status", "a status to wait for: SHUTOFF, ERROR and DELETED where none is named", "string", true},
				{"timeout", "the longest wait in seconds", "number", false}},
		}},
		{"GET", one + "/stats", reader, false, n.serverStats, operation{summary: "What a running server uses", answer: launcher.Stats{}}},
		{"GET", one + "/top", reader, false, n.serverTop, operation{summary: "The processes of a running server", answer: []agent.ProcessInfo{}}},
		{"GET", one + "/output", member, false, n.serverOutput, operation{
			summary: "What the entrypoint wrote: frames of a stream's number (1 standard output, 2 standard error, 0 an error that ends them), three zero bytes, the data's length (uint32, big-endian), its time (int64, nanoseconds since 1970) and the data",
			media:   FramesType,
			query: []parameter{{"stream", "stdout or stderr; both where it is absent", "string", false},
				{"run", "a number, from which start of the server on, or latest", "string", false}, sinceQuery, untilQuery,
				{"tail", "only that many lines of the past", "integer", false},
				{"follow", "go on as more comes", "boolean", false}, {"hold", "the entrypoint waits where the reader is slow", "boolean", false}},
		}},
		{"GET", one + "/console", member, false, n.console, operation{
			summary: "The end of the console's log; on a websocket, as it goes on", media: text, socket: true,
		}},
		{"GET", one + "/file", member, false, n.statFile, operation{
			summary: "A file of a running server", answer: agent.FileInfo{}, query: []parameter{{"path", "an absolute path", "string", false}},
		}},
		{"GET", one + "/exec", member, true, n.execServer, socket("Run a command beside the entrypoint", agent.ExecRequest{})},
		{"GET", one + "/attach", member, true, n.attachServer, socket("Reach the entrypoint's input", agent.AttachRequest{})},
		{"GET", one + "/copy-from", member, false, n.copyFromServer, socket("Copy files out, as a tar stream on standard output", CopyBody{})},
		{"GET", one + "/copy-to", member, true, n.copyToServer, socket("Copy files in, as a tar stream on standard input", CopyBody{})},
		{"POST", one + "/start", member, true, n.startServer, operation{summary: "Begin to boot a server that has stopped"}},
		{"POST", one + "/stop", member, true, n.stopServer, operation{summary: "Stop a server, and wait for its end", body: StopBody{}}},
		{"POST", one + "/signal", member, true, n.signalServer, operation{summary: "Signal the entrypoint", body: SignalBody{}}},
		{"POST", one + "/freeze", member, true, n.freezeServer, operation{summary: "Stop the processes, what they wrote being on the disk"}},
		{"POST", one + "/thaw", member, true, n.thawServer, operation{summary: "Let the processes of a frozen server run on"}},
	}
}

// guard lets those through who may, and puts the server's ID in the place of what
// the path calls it. Locked servers are the administrators' alone.
func (n *network) guard(route networkRoute) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller := openstack.CallerOf(r.Context())
		if route.role != "" && (!caller.Has(route.role) || caller.ProjectID == "") {
			return openstack.Forbidden("It takes the role %s in a project.", route.role)
		}
		if strings.Contains(route.path, "{server}") {
			srv, err := n.find(caller, r.PathValue("server"))
			if err != nil {
				return err
			}
			if route.acts && srv.Locked && !caller.Has(openstack.Admin) {
				return openstack.Conflict("Server %s is locked", srv.ID)
			}
			r = r.WithContext(launcher.WithCaller(r.Context(), launcher.Caller{
				Request: openstack.RequestIDOf(r.Context()), Project: caller.ProjectID, User: caller.UserID,
			}))
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
	srv.UserData, srv.Spec.CloudInit, srv.HostBoot = "", nil, ""
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

// console answers with the log, or, on a websocket, follows it until the server's
// guest has ended.
func (n *network) console(w http.ResponseWriter, r *http.Request) error {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return n.serverConsole(w, r)
	}
	return n.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		go p.receive(ctx)
		return &agent.Exit{}, n.manager.FollowConsole(ctx, ref, maxConsole, NewMessageWriter(p.conn, MessageStdout))
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
