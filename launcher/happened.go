package launcher

import (
	"context"
	"maps"
	"strconv"

	"github.com/slipway-vm/slipway/launcher/events"
)

// attributes are an event's.
type attributes = map[string]string

// happened tells of an event of a server.
func (m *Manager) happened(i *instance, action events.Action, a attributes) {
	if m.cfg.Events == nil {
		return
	}
	srv, _ := i.snapshot()
	err := m.cfg.Events.Append(events.Event{
		Action: action, Server: srv.ID, Name: srv.Name, Image: srv.Spec.Image, Project: srv.Project, Attributes: maps.Clone(a),
	})
	if err != nil {
		m.log.Warn("event not kept", "server", srv.ID, "err", err)
	}
}

// died tells how a run has ended; stopped, that it was asked to.
func (m *Manager) died(i *instance, srv *Server, stopped bool) {
	a := attributes{}
	switch {
	case srv.Exit != nil:
		if srv.Exit.OOMKilled {
			m.happened(i, events.OOM, nil)
		}
		a["exitCode"] = strconv.Itoa(srv.Exit.Code)
		if srv.Exit.Signal != 0 {
			a["signal"] = strconv.Itoa(srv.Exit.Signal)
		}
		if srv.Exit.Reason != "" {
			a["error"] = srv.Exit.Reason
		}
	default:
		a["exitCode"], a["error"] = strconv.Itoa(srv.FaultCode), srv.Fault
	}
	m.happened(i, events.Die, a)
	if stopped {
		m.happened(i, events.Stop, nil)
	}
}

// Events tells what happens to servers; see [events.Log.Read].
func (m *Manager) Events(ctx context.Context, q events.Query, emit func(events.Event) error) error {
	if m.cfg.Events == nil {
		return errorf(ErrUnavailable, "no events are kept")
	}
	return m.cfg.Events.Read(ctx, q, emit)
}
