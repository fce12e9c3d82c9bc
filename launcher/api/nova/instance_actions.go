package nova

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func (a *API) instanceActionRoutes() []route {
	const p = "os_compute_api:os-instance-actions:"
	return []route{
		{method: "GET", path: "/servers/{id}/os-instance-actions", role: openstack.Reader, policy: p + "list", serve: a.listInstanceActions},
		{method: "GET", path: "/servers/{id}/os-instance-actions/{request}", role: openstack.Reader, policy: p + "show", serve: a.showInstanceAction},
	}
}

// anyServer is server, but from 2.21 on it finds deleted ones too.
func (a *API) anyServer(r *http.Request) (launcher.Server, error) {
	srv, err := a.server(r)
	if err == nil || openstack.MicroversionOf(r.Context()) < 21 {
		return srv, err
	}
	for _, old := range a.cfg.Manager.Deleted() {
		if old.ID == r.PathValue("id") && a.sees(r, &old) {
			return old, nil
		}
	}
	return srv, err
}

func (a *API) instanceActions(r *http.Request) (launcher.Server, []launcher.ActionRecord, error) {
	srv, err := a.anyServer(r)
	if err != nil {
		return srv, nil, err
	}
	records, err := a.cfg.Manager.Actions(r.Context(), srv.ID)
	return srv, records, err
}

func (a *API) listInstanceActions(w http.ResponseWriter, r *http.Request) error {
	v := openstack.MicroversionOf(r.Context())
	q, err := checkQuery(r, "limit", "marker", "changes-since", "changes-before")
	if err != nil {
		return err
	}
	_, records, err := a.instanceActions(r)
	if err != nil {
		return err
	}
	answer := view{}
	if v >= 58 {
		page, err := openstack.ReadPage(r, maxServers)
		if err != nil {
			return err
		}
		since, before, err := changedBetween(q, v)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(x launcher.ActionRecord) bool {
			return changedAt(x).Before(since) || !before.IsZero() && changedAt(x).After(before)
		})
		var more bool
		records, more, err = openstack.Cut(records, page, func(x launcher.ActionRecord) string { return x.Request }, nil)
		if err != nil {
			return err
		}
		if more {
			answer["links"] = page.NextLinks(r, records[len(records)-1].Request)
		}
	}
	views := make([]view, 0, len(records))
	for _, x := range records {
		views = append(views, viewInstanceAction(x, v))
	}
	answer["instanceActions"] = views
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

func changedAt(x launcher.ActionRecord) time.Time {
	if x.Finish.IsZero() {
		return x.Start
	}
	return x.Finish
}

func viewInstanceAction(x launcher.ActionRecord, v openstack.Microversion) view {
	a := view{
		"action": x.Action, "instance_uuid": x.Server, "request_id": x.Request,
		"user_id": text(x.User), "project_id": text(x.Project), "start_time": stamp(x.Start), "message": nil,
	}
	if x.Message != "" {
		a["message"] = "Error"
	}
	if v >= 58 {
		a["updated_at"] = stamp(changedAt(x))
	}
	return a
}

func (a *API) showInstanceAction(w http.ResponseWriter, r *http.Request) error {
	v := openstack.MicroversionOf(r.Context())
	srv, records, err := a.instanceActions(r)
	if err != nil {
		return err
	}
	request := r.PathValue("request")
	i := slices.IndexFunc(records, func(x launcher.ActionRecord) bool { return x.Request == request })
	if i < 0 {
		return openstack.NotFound("Action %s not found", request)
	}
	x := viewInstanceAction(records[i], v)
	if isAdmin(r) || v >= 51 {
		x["events"] = []view{a.viewEvent(r, &srv, records[i])}
	}
	return writeOne(w, http.StatusOK, "instanceAction", x)
}

// eventNames are Nova's for what its compute service does for an action, where it is
// not compute_ACTION_instance.
var eventNames = map[string]string{
	"create": "compute__do_build_and_run_instance", "delete": "compute_terminate_instance",
	"resize": "compute_resize_instance", "confirmResize": "compute_confirm_resize", "revertResize": "compute_revert_resize",
	"lock": "api_lock", "unlock": "api_unlock", "resetState": "api_reset_state",
}

// viewEvent is the one event of an action.
func (a *API) viewEvent(r *http.Request, srv *launcher.Server, x launcher.ActionRecord) view {
	v := openstack.MicroversionOf(r.Context())
	name := eventNames[x.Action]
	if name == "" {
		name = "compute_" + strings.ToLower(x.Action) + "_instance"
	}
	e := view{"event": name, "start_time": stamp(x.Start), "finish_time": stamp(x.Finish), "result": nil}
	switch {
	case x.Message != "":
		e["result"] = "Error"
	case !x.Finish.IsZero():
		e["result"] = "Success"
	}
	if isAdmin(r) {
		e["traceback"] = nil
		if v >= 51 {
			e["host"] = a.cfg.Host
		}
	}
	if v >= 62 {
		e["hostId"] = a.hostID(srv)
	}
	if v >= 84 {
		e["details"] = text(x.Message)
	}
	return e
}
