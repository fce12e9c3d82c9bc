package nova

import (
	"net/http"
	"regexp"
	"time"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

// remnantRoutes are of what Nova has taken out over time, which answers 410, and of
// what a single host has none of.
func (a *API) remnantRoutes() []route {
	routes := []route{
		{method: "GET", path: "/os-migrations", role: openstack.Admin, policy: "os_compute_api:os-migrations:index", serve: a.listMigrations},
		{method: "POST", path: "/os-server-external-events", role: openstack.Admin, policy: "os_compute_api:os-server-external-events:create", serve: a.takeEvents},
		{method: "GET", path: "/os-instance_usage_audit_log", role: openstack.Admin, policy: "os_compute_api:os-instance-usage-audit-log:list", serve: a.showAuditLog},
		{method: "GET", path: "/os-instance_usage_audit_log/{before}", role: openstack.Admin, policy: "os_compute_api:os-instance-usage-audit-log:show", serve: a.showAuditLogBefore},
	}
	for _, path := range []string{
		"/os-agents", "/os-cells", "/os-cells/{id}", "/os-certificates", "/os-certificates/{id}", "/os-cloudpipe",
		"/os-fixed-ips/{id}", "/os-floating-ip-dns", "/os-floating-ips-bulk", "/os-fping", "/os-fping/{id}", "/os-security-group-default-rules",
	} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
			routes = append(routes, route{method: method, path: path, serve: gone})
		}
	}
	return routes
}

func gone(http.ResponseWriter, *http.Request) error {
	return openstack.Faultf(http.StatusGone, "This resource is no longer available. No forwarding address is given.")
}

var externalEvents = object(map[string]*schema{"events": {kinds: []string{"array"}, minLen: 1, items: object(map[string]*schema{
	"server_uuid": {kinds: []string{"string"}, pattern: regexp.MustCompile(`^[0-9a-fA-F-]{32,36}$`)},
	"name": {kinds: []string{"string"}, enum: []any{
		"network-changed", "network-vif-unplugged", "network-vif-plugged", "network-vif-deleted", "volume-extended", "power-update", "accelerator-request-bound",
	}},
	"status": {kinds: []string{"string"}, enum: []any{"failed", "completed", "in-progress"}}, "tag": aWord,
}, "server_uuid", "name")}}, "events")

// takeEvents takes note of what other services say of servers. Nothing waits for
// it here, so all that it tells them is which servers are known.
func (a *API) takeEvents(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, externalEvents)
	if err != nil {
		return err
	}
	status := http.StatusOK
	events, _ := b["events"].([]any)
	for _, e := range events {
		event, _ := e.(map[string]any)
		event["status"], event["code"] = "completed", http.StatusOK
		if _, err := a.cfg.Manager.Server(body(event).text("server_uuid")); err != nil {
			event["status"], event["code"] = "failed", http.StatusNotFound
			status = http.StatusMultiStatus
		}
	}
	return writeOne(w, status, "events", events)
}

func (a *API) showAuditLogBefore(w http.ResponseWriter, r *http.Request) error {
	before, err := time.ParseInLocation("2006-01-02 15:04:05.999999", r.PathValue("before"), time.UTC)
	if err != nil {
		return openstack.BadRequest("Invalid timestamp for date %s", r.PathValue("before"))
	}
	return writeOne(w, http.StatusOK, "instance_usage_audit_log", a.auditLog(before))
}

func (a *API) showAuditLog(w http.ResponseWriter, _ *http.Request) error {
	return writeOne(w, http.StatusOK, "instance_usage_audit_logs", a.auditLog(time.Now().UTC()))
}

// auditLog is what Nova tells of the month before a time where hosts make no
// audits, as is its default.
func (a *API) auditLog(before time.Time) map[string]any {
	end := time.Date(before.Year(), before.Month(), 1, 0, 0, 0, 0, time.UTC)
	const form = "2006-01-02 15:04:05"
	return map[string]any{
		"period_beginning": end.AddDate(0, -1, 0).Format(form), "period_ending": end.Format(form),
		"num_hosts": 1, "num_hosts_done": 0, "num_hosts_running": 0, "num_hosts_not_run": 1, "hosts_not_run": []string{a.cfg.Compute.Service.Host},
		"total_instances": 0, "total_errors": 0, "overall_status": "0 of 1 hosts done. 0 errors.", "log": map[string]any{},
	}
}
