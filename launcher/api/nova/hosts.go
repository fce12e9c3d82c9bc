package nova

import (
	"net/http"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

// hostRoutes are those of hosts, which services and hypervisors have replaced: they
// were there until 2.42.
func (a *API) hostRoutes() []route {
	const policy = "os_compute_api:os-hosts:"
	routes := []route{
		{method: "GET", path: "/os-hosts", role: openstack.Admin, policy: policy + "list", max: 42, serve: a.listHosts},
		{method: "GET", path: "/os-hosts/{host}", role: openstack.Admin, policy: policy + "show", max: 42, serve: a.showHost},
		{method: "PUT", path: "/os-hosts/{host}", role: openstack.Admin, policy: policy + "update", max: 42, serve: a.updateHost},
	}
	for _, action := range []string{"startup", "shutdown", "reboot"} {
		routes = append(routes, route{
			method: "GET", path: "/os-hosts/{host}/" + action, role: openstack.Admin, policy: policy + action, max: 42, serve: a.powerHost,
		})
	}
	return routes
}

func (a *API) listHosts(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "zone")
	if err != nil {
		return err
	}
	list := []view{}
	for i, s := range a.viewServices(r) {
		if zone := q.Get("zone"); zone == "" || zone == s.Zone {
			list = append(list, view{"host_name": s.Host, "service": binaries[i][len("nova-"):], "zone": s.Zone})
		}
	}
	return writeOne(w, http.StatusOK, "hosts", list)
}

// checkHost refuses a host that is not this one.
func (a *API) checkHost(r *http.Request) error {
	if name := r.PathValue("host"); name != a.cfg.Compute.Service.Host {
		return openstack.NotFound("Compute host %s could not be found.", name)
	}
	return nil
}

// showHost tells how large the host is, what is used of it, and by whom.
func (a *API) showHost(w http.ResponseWriter, r *http.Request) error {
	if err := a.checkHost(r); err != nil {
		return err
	}
	all, err := a.cfg.Figures(r.Context())
	if err != nil {
		return err
	}
	servers := a.cfg.Manager.Servers()
	resource := func(project string, cpus int, memory, disk int64) view {
		return view{"resource": view{
			"host": a.cfg.Compute.Service.Host, "project": project, "cpu": cpus, "memory_mb": memory, "disk_gb": disk,
		}}
	}
	f := figures(all, servers)
	list := []view{
		resource("(total)", f.VCPUs, f.MemoryMB, f.LocalGB),
		resource("(used_now)", f.VCPUsUsed, f.MemoryMBUsed, f.LocalGBUsed),
	}
	of := map[string][]launcher.Server{}
	var projects []string
	for _, s := range servers {
		p := a.projectOf(&s)
		if of[p] == nil {
			projects = append(projects, p)
		}
		of[p] = append(of[p], s)
	}
	for _, p := range projects {
		theirs := figures(all, of[p])
		list = append(list, resource(p, theirs.VCPUsUsed, theirs.MemoryMBUsed, theirs.LocalGBUsed))
	}
	return writeOne(w, http.StatusOK, "host", list)
}

var hostUpdate = &schema{kinds: []string{"object"}, minProps: 1, props: map[string]*schema{
	"status":           {kinds: []string{"string"}, enum: []any{"enable", "disable"}},
	"maintenance_mode": {kinds: []string{"string"}, enum: []any{"enable", "disable"}},
}}

func (a *API) updateHost(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, hostUpdate)
	if err != nil {
		return err
	}
	if err := a.checkHost(r); err != nil {
		return err
	}
	if b.text("maintenance_mode") != "" {
		return openstack.Faultf(http.StatusNotImplemented, "Virt driver does not implement host maintenance mode.")
	}
	state, err := a.cfg.Compute.Service.Set(r.Context(), func(s *compute.ServiceState) {
		s.Disabled, s.DisabledReason = b.text("status") == "disable", nil
	})
	if err != nil {
		return err
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"host": a.cfg.Compute.Service.Host, "status": enabled(state)})
}

func (a *API) powerHost(_ http.ResponseWriter, r *http.Request) error {
	if err := a.checkHost(r); err != nil {
		return err
	}
	return openstack.Faultf(http.StatusNotImplemented, "Virt driver does not implement host power management.")
}
