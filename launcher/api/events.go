package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/events"
)

// events answers with an event to a line, as it happens. Its query: since and until
// (RFC 3339), and filter, an [events.Filter] as JSON.
func (a *API) events(w http.ResponseWriter, r *http.Request) error {
	q, err := eventQuery(r)
	if err != nil {
		return err
	}
	return a.tellEvents(w, r, q)
}

// events is of the servers of the caller's project, or an administrator's
// all_projects.
func (n *network) events(w http.ResponseWriter, r *http.Request) error {
	q, err := eventQuery(r)
	if err != nil {
		return err
	}
	everybodys, err := allProjects(r)
	if err != nil {
		return err
	}
	q.Filter.Projects = nil
	if project := openstack.CallerOf(r.Context()).ProjectID; !everybodys {
		q.Filter.Projects = []string{project}
		if project == n.cfg.LocalProject {
			q.Filter.Projects = append(q.Filter.Projects, "")
		}
	}
	return n.tellEvents(w, r, q)
}

func eventQuery(r *http.Request) (events.Query, error) {
	var q events.Query
	in := r.URL.Query()
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if s := in.Get(name); s != "" {
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return q, &Error{"invalid", name + ": " + err.Error()}
			}
			*to = at
		}
	}
	if s := in.Get("filter"); s != "" {
		if err := json.Unmarshal([]byte(s), &q.Filter); err != nil {
			return q, &Error{"invalid", "filter: " + err.Error()}
		}
	}
	return q, nil
}

func (a *API) tellEvents(w http.ResponseWriter, r *http.Request, q events.Query) error {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return err
	}
	out := json.NewEncoder(w)
	return a.manager.Events(r.Context(), q, func(e events.Event) error {
		if err := out.Encode(e); err != nil {
			return err
		}
		return flush.Flush()
	})
}
