package nova

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) serviceRoutes() []route {
	const policy = "os_compute_api:os-services:"
	return []route{
		{method: "GET", path: "/os-services", role: openstack.Admin, policy: policy + "list", serve: a.listServices},
		{method: "PUT", path: "/os-services/{id}", role: openstack.Admin, policy: policy + "update", max: 52, serve: a.actOnService},
		{method: "PUT", path: "/os-services/{id}", role: openstack.Admin, policy: policy + "update", min: 53, serve: a.updateService},
		{method: "DELETE", path: "/os-services/{id}", role: openstack.Admin, policy: policy + "delete", serve: a.deleteService},
		{method: "GET", path: "/os-availability-zone", serve: a.listZones},
		{method: "GET", path: "/os-availability-zone/detail", role: openstack.Admin, policy: "os_compute_api:os-availability-zone:detail", serve: a.listZonesInDetail},
	}
}

// binaries are the services that clients look for, in the order of their numbers.
// The engine is all of them; only the first can be disabled.
var binaries = []string{binary, "nova-scheduler", "nova-conductor"}

const (
	binary = "nova-compute"
	// internalZone is where Nova shows services that run no servers.
	internalZone = "internal"
)

// serviceView is a service as it is listed. ID is a number before 2.53.
type serviceView struct {
	ID         any     `json:"id"`
	Binary     string  `json:"binary"`
	Host       string  `json:"host"`
	Zone       string  `json:"zone"`
	Status     string  `json:"status"`
	State      string  `json:"state"`
	Updated    stamp   `json:"updated_at"`
	Reason     *string `json:"disabled_reason"`
	ForcedDown *bool   `json:"forced_down,omitempty"`
}

// viewServices shows all services, the compute service first.
func (a *API) viewServices(r *http.Request) []serviceView {
	version, s := openstack.MicroversionOf(r.Context()), a.cfg.Compute.Service.State()
	var list []serviceView
	for i, name := range binaries {
		v := serviceView{
			ID: i + 1, Binary: name, Host: a.cfg.Compute.Service.Host, Zone: internalZone,
			Status: "enabled", State: "up", Updated: stamp(time.Now()),
		}
		id, forced := uuid.NewSHA1(uuid.MustParse(s.ID), []byte(name)).String(), false
		if name == binary {
			id, forced, v.Zone = s.ID, s.ForcedDown, a.cfg.Compute.Zone()
			v.Status, v.State, v.Reason = enabled(s), upOrDown(s), s.DisabledReason
		}
		if version >= 53 {
			v.ID = id
		}
		if version >= 11 {
			v.ForcedDown = &forced
		}
		list = append(list, v)
	}
	return list
}

func enabled(s compute.ServiceState) string {
	if s.Disabled {
		return "disabled"
	}
	return "enabled"
}

// upOrDown: a service that answers is up, unless an administrator says otherwise.
func upOrDown(s compute.ServiceState) string {
	if s.ForcedDown {
		return "down"
	}
	return "up"
}

func (a *API) listServices(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "host", "binary")
	if err != nil {
		return err
	}
	list := []serviceView{}
	for _, v := range a.viewServices(r) {
		if (q.Get("host") == "" || q.Get("host") == v.Host) && (q.Get("binary") == "" || q.Get("binary") == v.Binary) {
			list = append(list, v)
		}
	}
	return writeOne(w, http.StatusOK, "services", list)
}

var (
	serviceReason = &schema{kinds: []string{"string"}, minLen: 1, maxLen: 255}
	serviceAction = object(map[string]*schema{
		"host": aHost, "binary": aWord, "disabled_reason": serviceReason, "forced_down": aBoolean,
	}, "host", "binary")
	serviceUpdate = object(map[string]*schema{
		"status": {kinds: []string{"string"}, enum: []any{"enabled", "disabled"}}, "disabled_reason": serviceReason, "forced_down": aBoolean,
	})
)

// actOnService is the update before 2.53: the path names an action, the body the
// service.
func (a *API) actOnService(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, serviceAction)
	if err != nil {
		return err
	}
	change, answer, err := serviceChange(r, b)
	if err != nil {
		return err
	}
	switch host := b.text("host"); {
	case b.text("binary") != binary:
		return openstack.BadRequest("Updating a %s service is not supported. Only nova-compute services can be updated.", b.text("binary"))
	case host != a.cfg.Compute.Service.Host:
		return openstack.NotFound("Host '%s' is not mapped to any cell", host)
	}
	if _, err := a.cfg.Compute.Service.Set(r.Context(), change); err != nil {
		return err
	}
	answer["host"], answer["binary"] = b["host"], b["binary"]
	return writeOne(w, http.StatusOK, "service", answer)
}

func serviceChange(r *http.Request, b body) (func(*compute.ServiceState), map[string]any, error) {
	reason := optional(b, "disabled_reason")
	switch r.PathValue("id") {
	case "enable":
		return func(s *compute.ServiceState) { s.Disabled, s.DisabledReason = false, nil }, map[string]any{"status": "enabled"}, nil
	case "disable":
		return func(s *compute.ServiceState) { s.Disabled, s.DisabledReason = true, nil }, map[string]any{"status": "disabled"}, nil
	case "disable-log-reason":
		if reason == nil {
			return nil, nil, openstack.BadRequest("Missing disabled reason field")
		}
		answer := map[string]any{"status": "disabled", "disabled_reason": *reason}
		return func(s *compute.ServiceState) { s.Disabled, s.DisabledReason = true, reason }, answer, nil
	case "force-down":
		if openstack.MicroversionOf(r.Context()) < 11 {
			break
		}
		if _, ok := b["forced_down"]; !ok {
			return nil, nil, openstack.BadRequest("Missing forced_down field")
		}
		down := b.truth("forced_down", false)
		return func(s *compute.ServiceState) { s.ForcedDown = down }, map[string]any{"forced_down": down}, nil
	}
	return nil, nil, openstack.NotFound("Unknown action")
}

func (a *API) updateService(w http.ResponseWriter, r *http.Request) error {
	if err := a.checkService(r); err != nil {
		return err
	}
	b, err := readBody(r, serviceUpdate)
	if err != nil {
		return err
	}
	status, reason := b.text("status"), optional(b, "disabled_reason")
	_, force := b["forced_down"]
	switch {
	case reason != nil && status != "disabled":
		return openstack.BadRequest("Specifying disabled_reason is only valid when status is 'disabled'.")
	case status == "" && !force:
		return openstack.BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
	}
	_, err = a.cfg.Compute.Service.Set(r.Context(), func(s *compute.ServiceState) {
		if status != "" {
			s.Disabled, s.DisabledReason = status == "disabled", reason
		}
		if force {
			s.ForcedDown = b.truth("forced_down", false)
		}
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "service", a.viewServices(r)[0])
}

// checkService refuses an id that is not the compute service's.
func (a *API) checkService(r *http.Request) error {
	id := r.PathValue("id")
	if openstack.MicroversionOf(r.Context()) < 53 {
		if _, err := strconv.Atoi(id); err != nil {
			return openstack.BadRequest("id must be an integer, not %s.", id)
		}
	} else if uuid.Validate(id) != nil {
		return openstack.BadRequest("Invalid uuid %s", id)
	}
	for _, v := range a.viewServices(r) {
		if fmt.Sprint(v.ID) != id {
			continue
		}
		if v.Binary != binary {
			return openstack.BadRequest("Updating a %s service is not supported. Only nova-compute services can be updated.", v.Binary)
		}
		return nil
	}
	return openstack.NotFound("Service %s not found.", id)
}

// deleteService is for hosts that have gone, which this one has not.
func (a *API) deleteService(_ http.ResponseWriter, r *http.Request) error {
	if err := a.checkService(r); err != nil {
		return err
	}
	return openstack.Conflict("Unable to delete compute service: it is this one, and it runs. Disable it instead.")
}

// zoneView is an availability zone. Hosts is null in the brief list.
type zoneView struct {
	Name  string                                `json:"zoneName"`
	State map[string]bool                       `json:"zoneState"`
	Hosts map[string]map[string]zoneServiceView `json:"hosts"`
}

type zoneServiceView struct {
	Available bool  `json:"available"`
	Active    bool  `json:"active"`
	Updated   stamp `json:"updated_at"`
}

// zoneOfServers is available while the compute service is.
func (a *API) zoneOfServers() zoneView {
	available := a.cfg.Compute.Service.State().Takes()
	return zoneView{Name: a.cfg.Compute.Zone(), State: map[string]bool{"available": available}}
}

func (a *API) listZones(w http.ResponseWriter, _ *http.Request) error {
	return writeOne(w, http.StatusOK, "availabilityZoneInfo", []zoneView{a.zoneOfServers()})
}

func (a *API) listZonesInDetail(w http.ResponseWriter, r *http.Request) error {
	servers := a.zoneOfServers()
	internal := zoneView{Name: internalZone, State: map[string]bool{"available": true}}
	for _, s := range a.viewServices(r) {
		zone := &internal
		if s.Binary == binary {
			zone = &servers
		}
		if !zone.State["available"] {
			continue
		}
		if zone.Hosts == nil {
			zone.Hosts = map[string]map[string]zoneServiceView{s.Host: {}}
		}
		zone.Hosts[s.Host][s.Binary] = zoneServiceView{Available: s.State == "up", Active: s.Status == "enabled", Updated: s.Updated}
	}
	return writeOne(w, http.StatusOK, "availabilityZoneInfo", []zoneView{internal, servers})
}
