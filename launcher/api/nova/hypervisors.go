package nova

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/host"
)

func (a *API) hypervisorRoutes() []route {
	const policy = "os_compute_api:os-hypervisors:"
	return []route{
		{method: "GET", path: "/os-hypervisors", role: openstack.Admin, policy: policy + "list", serve: a.listHypervisors(false)},
		{method: "GET", path: "/os-hypervisors/detail", role: openstack.Admin, policy: policy + "list-detail", serve: a.listHypervisors(true)},
		{method: "GET", path: "/os-hypervisors/statistics", role: openstack.Admin, policy: policy + "statistics", max: 87, serve: a.hypervisorStatistics},
		{method: "GET", path: "/os-hypervisors/{id}", role: openstack.Admin, policy: policy + "show", serve: a.showHypervisor},
		{method: "GET", path: "/os-hypervisors/{id}/uptime", role: openstack.Admin, policy: policy + "uptime", max: 87, serve: a.hypervisorUptime},
		{method: "GET", path: "/os-hypervisors/{id}/search", role: openstack.Admin, policy: policy + "search", max: 52, serve: a.searchHypervisors(false)},
		{method: "GET", path: "/os-hypervisors/{id}/servers", role: openstack.Admin, policy: policy + "servers", max: 52, serve: a.searchHypervisors(true)},
	}
}

// Figures says how large the host is, and what runs servers on it.
type Figures struct {
	host.Figures
	Address string // of the host
	Version int    // of the hypervisor, QEMU: 7002000 is 7.2.0
}

// hypervisorView is the host as it is shown; what is nil is not. The figures, and
// what stands with them, are of the detailed view before 2.88.
type hypervisorView struct {
	ID       any    `json:"id"` // a number before 2.53
	Hostname string `json:"hypervisor_hostname"`
	State    string `json:"state"`
	Status   string `json:"status"`

	Type    string                 `json:"hypervisor_type,omitempty"`
	Version *int                   `json:"hypervisor_version,omitempty"`
	Address string                 `json:"host_ip,omitempty"`
	Service *hypervisorServiceView `json:"service,omitempty"`
	*hypervisorFigures
	CPU     any                     `json:"cpu_info,omitempty"`
	Uptime  *string                 `json:"uptime,omitempty"`
	Servers *[]hypervisorServerView `json:"servers,omitempty"`
}

type hypervisorServiceView struct {
	ID     any     `json:"id"`
	Host   string  `json:"host"`
	Reason *string `json:"disabled_reason"`
}

type hypervisorServerView struct {
	Name string `json:"name"`
	ID   string `json:"uuid"`
}

// hypervisorFigures are in MiB (mb) and GiB (gb). Used is what the servers' flavors
// add up to.
type hypervisorFigures struct {
	VCPUs         int   `json:"vcpus"`
	MemoryMB      int64 `json:"memory_mb"`
	LocalGB       int64 `json:"local_gb"`
	VCPUsUsed     int   `json:"vcpus_used"`
	MemoryMBUsed  int64 `json:"memory_mb_used"`
	LocalGBUsed   int64 `json:"local_gb_used"`
	FreeRAMMB     int64 `json:"free_ram_mb"`
	FreeDiskGB    int64 `json:"free_disk_gb"`
	Workload      int   `json:"current_workload"`
	Running       int   `json:"running_vms"`
	DiskAvailable int64 `json:"disk_available_least"`
}

// figures counts what the servers of a host take of it.
func figures(f Figures, servers []launcher.Server) *hypervisorFigures {
	v := &hypervisorFigures{VCPUs: f.CPUs, MemoryMB: f.Memory >> 20, LocalGB: f.Disk >> 30, DiskAvailable: f.DiskFree >> 30}
	var disk int64
	for _, s := range servers {
		disk += s.Flavor.Disk
		if s.TaskState != launcher.TaskNone {
			v.Workload++
		}
		if s.VMState == launcher.VMStopped || s.VMState == launcher.VMError {
			continue // has its disk and nothing else
		}
		v.Running++
		v.VCPUsUsed += s.Flavor.VCPUs
		v.MemoryMBUsed += s.Flavor.Memory >> 20
	}
	v.LocalGBUsed = disk >> 30
	v.FreeRAMMB, v.FreeDiskGB = v.MemoryMB-v.MemoryMBUsed, v.LocalGB-v.LocalGBUsed
	return v
}

func (a *API) viewHypervisor(r *http.Request, detail, withServers bool) (hypervisorView, error) {
	version, s := openstack.MicroversionOf(r.Context()), a.cfg.Compute.Service.State()
	v := hypervisorView{ID: 1, Hostname: a.cfg.Compute.Service.Host, State: upOrDown(s), Status: enabled(s)}
	service := hypervisorServiceView{ID: 1, Host: v.Hostname, Reason: s.DisabledReason}
	if version >= 53 {
		v.ID, service.ID = s.NodeID, s.ID
	}
	servers := a.cfg.Manager.Servers()
	if withServers && (len(servers) > 0 || version >= 75) {
		list := []hypervisorServerView{}
		for _, s := range servers {
			list = append(list, hypervisorServerView{s.Name, s.ID})
		}
		v.Servers = &list
	}
	if !detail {
		return v, nil
	}
	f, err := a.cfg.Figures(r.Context())
	if err != nil {
		return v, err
	}
	v.Type, v.Version, v.Address, v.Service = "QEMU", &f.Version, f.Address, &service
	if version >= 88 {
		v.Uptime = &f.Uptime
		return v, nil
	}
	v.hypervisorFigures, v.CPU = figures(f, servers), f.CPU
	if version < 28 {
		text, err := json.Marshal(f.CPU)
		if err != nil {
			return v, err
		}
		v.CPU = string(text)
	}
	return v, nil
}

func (a *API) listHypervisors(detail bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		version := openstack.MicroversionOf(r.Context())
		q, err := checkQuery(r, "limit", "marker", "hypervisor_hostname_pattern", "with_servers")
		if err != nil {
			return err
		}
		pattern, withServers := "", false
		if version >= 53 {
			pattern, withServers = q.Get("hypervisor_hostname_pattern"), isTrue(q.Get("with_servers"))
		}
		v, err := a.viewHypervisor(r, detail, withServers)
		if err != nil {
			return err
		}
		list := []hypervisorView{v}
		switch {
		case pattern != "" && (q.Has("limit") || q.Has("marker")):
			return openstack.BadRequest("Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported.")
		case pattern != "" && !strings.Contains(v.Hostname, pattern):
			return noSuchHypervisor(pattern)
		case version >= 33:
			page, err := openstack.ReadPage(r, maxPage)
			if err != nil {
				return err
			}
			page.Sort = nil
			list, _, err = openstack.Cut(list, page, func(hypervisorView) string { return a.hypervisorID(version) }, nil)
			if err != nil {
				return err
			}
		}
		return writeOne(w, http.StatusOK, "hypervisors", list)
	}
}

func noSuchHypervisor(pattern string) error {
	return openstack.NotFound("No hypervisor matching '%s' could be found.", pattern)
}

func (a *API) hypervisorID(version openstack.Microversion) string {
	if version >= 53 {
		return a.cfg.Compute.Service.State().NodeID
	}
	return "1"
}

// checkHypervisor refuses an id that is not this host's.
func (a *API) checkHypervisor(r *http.Request) error {
	id, version := r.PathValue("id"), openstack.MicroversionOf(r.Context())
	if version >= 53 && uuid.Validate(id) != nil {
		return openstack.BadRequest("Invalid uuid %s", id)
	}
	if id != a.hypervisorID(version) {
		return openstack.NotFound("Hypervisor with ID '%s' could not be found.", id)
	}
	return nil
}

func (a *API) showHypervisor(w http.ResponseWriter, r *http.Request) error {
	if err := a.checkHypervisor(r); err != nil {
		return err
	}
	withServers, _ := strconv.ParseBool(r.URL.Query().Get("with_servers"))
	v, err := a.viewHypervisor(r, true, withServers && openstack.MicroversionOf(r.Context()) >= 53)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "hypervisor", v)
}

func (a *API) hypervisorUptime(w http.ResponseWriter, r *http.Request) error {
	if err := a.checkHypervisor(r); err != nil {
		return err
	}
	v, err := a.viewHypervisor(r, false, false)
	if err != nil {
		return err
	}
	f, err := a.cfg.Figures(r.Context())
	if err != nil {
		return err
	}
	v.Uptime = &f.Uptime
	return writeOne(w, http.StatusOK, "hypervisor", v)
}

// searchHypervisors answers with the host if its name has what the path names.
func (a *API) searchHypervisors(withServers bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		v, err := a.viewHypervisor(r, false, withServers)
		if err != nil {
			return err
		}
		if !strings.Contains(v.Hostname, r.PathValue("id")) {
			return noSuchHypervisor(r.PathValue("id"))
		}
		return writeOne(w, http.StatusOK, "hypervisors", []hypervisorView{v})
	}
}

func (a *API) hypervisorStatistics(w http.ResponseWriter, r *http.Request) error {
	f, err := a.cfg.Figures(r.Context())
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "hypervisor_statistics", struct {
		Count int `json:"count"`
		*hypervisorFigures
	}{1, figures(f, a.cfg.Manager.Servers())})
}
