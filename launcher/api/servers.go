package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// CreateBody is the body of a request to create a server.
type CreateBody struct {
	launcher.Spec
	Credentials *launcher.Credentials `json:"credentials,omitempty"` // for the image's registry
}

// StopBody is the body of a request to stop a server.
type StopBody struct {
	Grace *time.Duration `json:"grace,omitempty"` // nanoseconds; the server's own where absent
}

// RebootBody is the body of a request to boot a server again.
type RebootBody struct {
	Hard bool `json:"hard,omitempty"` // its entrypoint is not asked to end
}

// SetBody is the body of a request to change a server; what is absent stays.
type SetBody struct {
	Name     *string `json:"name,omitempty"`
	RootMode *string `json:"root_mode,omitempty"` // from the next start on
}

// SignalBody is the body of a request to signal a server's entrypoint.
type SignalBody struct {
	Signal string `json:"signal"` // name or number
}

func (a *API) listServers(w http.ResponseWriter, _ *http.Request) error {
	list := a.manager.Servers()
	if list == nil {
		list = []launcher.Server{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (a *API) createServer(w http.ResponseWriter, r *http.Request) error {
	var body CreateBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	srv, err := a.manager.Create(r.Context(), body.Spec, body.Credentials)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, srv)
}

func (a *API) showServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, srv)
}

func (a *API) setServer(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.set(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, srv)
}

// set changes a server as a request says.
func (a *API) set(r *http.Request) (launcher.Server, error) {
	var body SetBody
	if err := readJSON(r, &body); err != nil {
		return launcher.Server{}, err
	}
	srv, err := a.manager.Server(r.PathValue("server"))
	if err == nil && body.RootMode != nil {
		err = a.manager.SetRootMode(r.Context(), srv.ID, *body.RootMode)
	}
	if err == nil && body.Name != nil {
		err = a.manager.Rename(r.Context(), srv.ID, *body.Name)
	}
	if err != nil {
		return launcher.Server{}, err
	}
	return a.manager.Server(srv.ID)
}

func (a *API) listRootModes(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, rootfs.Modes)
}

func (a *API) deleteServer(w http.ResponseWriter, r *http.Request) error {
	if err := a.manager.Delete(r.Context(), r.PathValue("server")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) watchServer(w http.ResponseWriter, r *http.Request) error {
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	return a.manager.Watch(r.Context(), r.PathValue("server"), func(srv launcher.Server) error {
		if err := out.Encode(srv); err != nil {
			return err
		}
		return flush.Flush()
	})
}

// serverOutput answers with frames. Its query: stream (stdout or stderr, both
// where absent), run (the first; "latest"), since and until (RFC 3339), tail
// (lines), follow and hold (true); see [output.Query].
func (a *API) serverOutput(w http.ResponseWriter, r *http.Request) error {
	srv, err := a.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	q, err := outputQuery(r, &srv)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", FramesType)
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return err
	}
	err = a.manager.Output(r.Context(), srv.ID, q, func(rec output.Record) error {
		if err := WriteFrame(w, rec); err != nil {
			return err
		}
		return flush.Flush()
	})
	if err != nil && r.Context().Err() == nil {
		return errors.Join(err, writeFailure(w, err))
	}
	return err
}

func outputQuery(r *http.Request, srv *launcher.Server) (output.Query, error) {
	q, in := output.All(), r.URL.Query()
	var err error
	if s := in.Get("stream"); s != "" {
		q.Stdout, q.Stderr = s == "stdout", s == "stderr"
	}
	if s := in.Get("run"); s == "latest" {
		q.Run = srv.Run
	} else if s != "" {
		q.Run, err = strconv.Atoi(s)
	}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := in.Get(name); s != "" && err == nil {
			*to, err = time.Parse(time.RFC3339Nano, s)
		}
	}
	if s := in.Get("tail"); s != "" && err == nil {
		q.Tail, err = strconv.Atoi(s)
	}
	for name, to := range map[string]*bool{"follow": &q.Follow, "hold": &q.Hold} {
		if s := in.Get(name); s != "" && err == nil {
			*to, err = strconv.ParseBool(s)
		}
	}
	if err != nil {
		return q, &Error{"invalid", "output: " + err.Error()}
	}
	return q, nil
}

// maxConsole bounds what is sent of a console log, in bytes.
const maxConsole = 1 << 20

// serverConsole answers with the log, or on a websocket follows it.
func (a *API) serverConsole(w http.ResponseWriter, r *http.Request) error {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return a.followConsole(w, r)
	}
	b, err := a.manager.Console(r.PathValue("server"), maxConsole)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err = w.Write(b)
	return err
}

// followConsole sends the log, and what is added to it until the server's guest has
// ended.
func (a *API) followConsole(w http.ResponseWriter, r *http.Request) error {
	return a.process(w, r, func(ctx context.Context, ref string, p *peer) (*agent.Exit, error) {
		go p.receive(ctx)
		return &agent.Exit{}, a.manager.FollowConsole(ctx, ref, maxConsole, NewMessageWriter(p.conn, MessageStdout))
	})
}

func (a *API) startServer(w http.ResponseWriter, r *http.Request) error {
	if err := a.manager.Start(r.Context(), r.PathValue("server")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) stopServer(w http.ResponseWriter, r *http.Request) error {
	var body StopBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := a.manager.Stop(r.Context(), r.PathValue("server"), body.Grace); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// rebootServer boots a server again. One that has stopped is started, as docker does.
func (a *API) rebootServer(w http.ResponseWriter, r *http.Request) error {
	var body RebootBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	srv, err := a.manager.Server(r.PathValue("server"))
	if err != nil {
		return err
	}
	if srv.VMState == launcher.VMStopped {
		return done(w, a.manager.Start(r.Context(), srv.ID))
	}
	return done(w, a.manager.Reboot(r.Context(), srv.ID, body.Hard))
}

func (a *API) pauseServer(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.manager.Pause(r.Context(), r.PathValue("server")))
}

func (a *API) unpauseServer(w http.ResponseWriter, r *http.Request) error {
	return done(w, a.manager.Unpause(r.Context(), r.PathValue("server")))
}

func (a *API) signalServer(w http.ResponseWriter, r *http.Request) error {
	var body SignalBody
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := a.manager.Signal(r.Context(), r.PathValue("server"), body.Signal); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
