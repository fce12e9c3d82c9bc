// Package api serves a Manager over HTTP: Slipway's own API, below
// /slipway/v1, on the engine's socket.
//
// Bodies are JSON; a failure is {"error": {"kind": ..., "message": ...}} with a
// status that follows from the kind. Answers that go on for a while (a watched
// server, a pull) are JSON values, one to a line; output is frames, see
// [WriteFrame].
package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	networking "github.com/slipway-vm/slipway/launcher/network"
)

// Prefix begins the path of every request.
const Prefix = "/slipway/v1"

// maxBody bounds the body of a request in bytes.
const maxBody = 1 << 20

// API is a handler for all requests.
type API struct {
	manager  *launcher.Manager
	networks *networking.Service
	kernels  Kernels
	facts    Facts
	log      *slog.Logger
	// upgrade makes a connection of messages of a request's.
	upgrade func(context.Context, http.ResponseWriter, *http.Request) (Conn, error)
}

// Facts says what the engine is and what it found on its host.
type Facts func(ctx context.Context) Info

// Info describes an engine.
type Info struct {
	Version  string `json:"version"`
	PID      int    `json:"pid"`
	StateDir string `json:"state_dir"`
	Libvirt  string `json:"libvirt"`
	QEMU     string `json:"qemu"`
	URI      string `json:"uri"`
	Standby  int    `json:"standby"` // guests that wait for a server
}

// New makes the handler. A nil log discards.
func New(m *launcher.Manager, networks *networking.Service, kernels Kernels, facts Facts, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &API{manager: m, networks: networks, kernels: kernels, facts: facts, log: log, upgrade: upgradeStream}
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		mux.HandleFunc(r.method+" "+Prefix+r.path, a.handle(r.serve))
	}
	return mux
}

// route is one request that the API answers.
type route struct {
	method, path string
	serve        func(http.ResponseWriter, *http.Request) error
}

func (a *API) routes() []route {
	return []route{
		{"GET", "/info", a.info},
		{"GET", "/servers", a.listServers},
		{"POST", "/servers", a.createServer},
		{"GET", "/servers/{server}", a.showServer},
		{"PATCH", "/servers/{server}", a.setServer},
		{"DELETE", "/servers/{server}", a.deleteServer},
		{"GET", "/servers/{server}/watch", a.watchServer},
		{"GET", "/servers/{server}/output", a.serverOutput},
		{"GET", "/servers/{server}/console", a.serverConsole},
		{"POST", "/servers/{server}/console", a.followConsole},
		{"POST", "/servers/{server}/start", a.startServer},
		{"POST", "/servers/{server}/stop", a.stopServer},
		{"POST", "/servers/{server}/reboot", a.rebootServer},
		{"POST", "/servers/{server}/pause", a.pauseServer},
		{"POST", "/servers/{server}/unpause", a.unpauseServer},
		{"POST", "/servers/{server}/signal", a.signalServer},
		{"POST", "/servers/{server}/exec", a.execServer},
		{"POST", "/servers/{server}/attach", a.attachServer},
		{"POST", "/servers/{server}/copy-from", a.copyFromServer},
		{"POST", "/servers/{server}/copy-to", a.copyToServer},
		{"GET", "/servers/{server}/file", a.statFile},
		{"GET", "/servers/{server}/stats", a.serverStats},
		{"GET", "/servers/{server}/top", a.serverTop},
		{"GET", "/root-modes", a.listRootModes},
		{"POST", "/servers/{server}/freeze", a.freezeServer},
		{"POST", "/servers/{server}/thaw", a.thawServer},
		{"POST", "/servers/{server}/image", a.createServerImage},
		{"POST", "/servers/{server}/publish", a.publishServer},
		{"GET", "/networks", a.listNetworks},
		{"POST", "/networks", a.createNetwork},
		{"GET", "/networks/{network}", a.showNetwork},
		{"DELETE", "/networks/{network}", a.deleteNetwork},
		{"GET", "/events", a.events},
		{"GET", "/images", a.listImages},
		{"POST", "/images/pull", a.pullImage},
		{"POST", "/images/load", a.loadImage},
		{"POST", "/images/push", a.pushImage},
		{"GET", "/image", a.showImage}, // references have slashes: ?ref=
		{"GET", "/image/file", a.saveImage},
		{"DELETE", "/image", a.deleteImage},
		{"POST", "/images/prune", a.pruneImages},
		{"POST", "/images/verify", a.verifyImage},
		{"POST", "/disks", a.exportDisk},
		{"POST", "/preloads", a.preload},
		{"GET", "/kernels", a.listKernels},
		{"POST", "/kernels/import", a.importKernel},
		{"POST", "/kernels/default", a.setDefaultKernel},
	}
}

// handle turns an error of a handler into the answer, where none has begun.
func (a *API) handle(serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		sent := &response{ResponseWriter: w}
		err := serve(sent, r)
		if err != nil && !sent.begun {
			writeError(w, guestError(err))
		}
		a.log.Debug("request", "method", r.Method, "path", r.URL.Path, "elapsed", time.Since(begin), "err", err)
	}
}

// response notes whether an answer has begun.
type response struct {
	http.ResponseWriter
	begun bool
}

func (r *response) WriteHeader(status int) { r.begun = true; r.ResponseWriter.WriteHeader(status) }

func (r *response) Write(b []byte) (int, error) { r.begun = true; return r.ResponseWriter.Write(b) }

// Unwrap is for http.ResponseController.
func (r *response) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// kinds is the one table from kinds of error to names and statuses.
var kinds = []struct {
	err    error
	name   string
	status int
}{
	{launcher.ErrNotFound, "not_found", http.StatusNotFound},
	{launcher.ErrConflict, "conflict", http.StatusConflict},
	{launcher.ErrInvalid, "invalid", http.StatusBadRequest},
	{launcher.ErrForbidden, "forbidden", http.StatusForbidden},
	{launcher.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
	{launcher.ErrUnsupported, "unsupported", http.StatusNotImplemented},
}

// Error is a failure as it is sent.
type Error struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Is matches the launcher's kinds.
func (e *Error) Is(target error) bool {
	for _, k := range kinds {
		if k.err == target {
			return k.name == e.Kind
		}
	}
	return false
}

// ErrorBody is the body of an answer that reports a failure.
type ErrorBody struct {
	Error *Error `json:"error"`
}

func asError(err error) (*Error, int) {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return &Error{k.name, err.Error()}, k.status
		}
	}
	return &Error{"internal", err.Error()}, http.StatusInternalServerError
}

func writeError(w http.ResponseWriter, err error) {
	e, status := asError(err)
	_ = writeJSON(w, status, ErrorBody{e})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(v)
}

func readJSON(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{"invalid", "request body: " + err.Error()}
	}
	return nil
}

func (a *API) info(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, http.StatusOK, a.facts(r.Context()))
}
