package nova

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
)

func (a *API) usageRoutes() []route {
	const policy = "os_compute_api:os-simple-tenant-usage:"
	return []route{
		{method: "GET", path: "/os-simple-tenant-usage", role: openstack.Admin, policy: policy + "list", serve: a.listUsage},
		{method: "GET", path: "/os-simple-tenant-usage/{$}", role: openstack.Reader, policy: policy + "show", serve: nameless},
		{method: "GET", path: "/os-simple-tenant-usage/{id}", role: openstack.Reader, policy: policy + "show", serve: a.showUsage},
	}
}

// nameless answers for a project without an ID, which Nova does not take for the list.
func nameless(http.ResponseWriter, *http.Request) error {
	return openstack.NotFound("The resource could not be found.")
}

// usageOfProject is what the servers of a project took in a period. The sums are
// of hours, and of hours times GiB, MiB and processors.
type usageOfProject struct {
	Project string  `json:"tenant_id"`
	Hours   decimal `json:"total_hours"`
	GBHours decimal `json:"total_local_gb_usage"`
	MBHours decimal `json:"total_memory_mb_usage"`
	CPUTime decimal `json:"total_vcpus_usage"`
	Start   stamp   `json:"start"`
	Stop    stamp   `json:"stop"`
	// Servers is nil where no detail is asked for.
	Servers *[]usageOfServer `json:"server_usages,omitempty"`
}

type usageOfServer struct {
	ID       string  `json:"instance_id"`
	Name     string  `json:"name"`
	Project  string  `json:"tenant_id"`
	Hours    decimal `json:"hours"`
	Flavor   string  `json:"flavor"`
	MemoryMB int64   `json:"memory_mb"`
	LocalGB  int64   `json:"local_gb"`
	VCPUs    int     `json:"vcpus"`
	Started  stamp   `json:"started_at"`
	Ended    *stamp  `json:"ended_at"`
	State    string  `json:"state"`
	Uptime   int64   `json:"uptime"` // seconds
}

// period is from when to when usage is counted.
type period struct{ start, stop time.Time }

func readPeriod(q url.Values) (period, error) {
	now := time.Now().UTC()
	start, err := readTime(q.Get("start"), now)
	if err != nil {
		return period{}, err
	}
	stop, err := readTime(q.Get("end"), now)
	if err != nil {
		return period{}, err
	}
	// Of two times that are both now, the start is the earlier by its nature.
	if !start.Before(stop) && (q.Has("start") || q.Has("end")) {
		return period{}, openstack.BadRequest("Invalid start time. The start time cannot occur after the end time.")
	}
	if stop.After(now) {
		stop = now
	}
	return period{start, stop}, nil
}

// readTime reads the forms that Nova knows; empty is now.
func readTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return now, nil
	}
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999"} {
		if t, err := time.ParseInLocation(form, s, time.UTC); err == nil {
			return t, nil
		}
	}
	return time.Time{}, openstack.BadRequest("Invalid datetime string: Datetime is in invalid format")
}

// of counts what a server took in the period.
func (p period) of(s launcher.Server) usageOfServer {
	u := usageOfServer{
		ID: s.ID, Name: s.Name, Project: s.Project, Flavor: s.Flavor.Name, VCPUs: s.Flavor.VCPUs,
		MemoryMB: s.Flavor.Memory >> 20, LocalGB: (s.Flavor.Disk + s.Flavor.Ephemeral) >> 30,
		State: string(s.VMState), Started: stamp(s.Created), Uptime: int64(time.Since(s.Created).Seconds()),
	}
	stop := p.stop
	if s.VMState == launcher.VMDeleted {
		ended := stamp(s.Terminated)
		u.Ended, u.State, u.Uptime = &ended, "terminated", int64(s.Terminated.Sub(s.Created).Seconds())
		if s.Terminated.Before(stop) {
			stop = s.Terminated
		}
	}
	if start := later(s.Created, p.start); start.Before(stop) {
		u.Hours = decimal(stop.Sub(start).Hours())
	}
	return u
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// usedServers are those that a period is about: of a project, or of all where that
// is empty. From 2.40 on they come in pages, which end with the last server of the
// one before; next are the links to the page that follows.
func (a *API) usedServers(r *http.Request, p period, project string) (servers []launcher.Server, next []openstack.Link, err error) {
	for _, s := range append(a.cfg.Manager.Servers(), a.cfg.Manager.Deleted()...) {
		gone := s.VMState == launcher.VMDeleted && s.Terminated.Before(p.start)
		if s.Project != "" && (project == "" || s.Project == project) && !s.Created.After(p.stop) && !gone {
			servers = append(servers, s)
		}
	}
	if openstack.MicroversionOf(r.Context()) < 40 {
		return servers, nil, nil
	}
	page, err := openstack.ReadPage(r, maxPage)
	if err != nil {
		return nil, nil, err
	}
	page.Sort = nil
	servers, more, err := openstack.Cut(servers, page, func(s launcher.Server) string { return s.ID }, nil)
	if more {
		next = page.NextLinks(r, servers[len(servers)-1].ID)
	}
	return servers, next, err
}

// usageOf adds up what servers took, by project.
func usageOf(p period, servers []launcher.Server, detailed bool) []usageOfProject {
	sums := map[string]*usageOfProject{}
	for _, s := range servers {
		sum := sums[s.Project]
		if sum == nil {
			sum = &usageOfProject{Project: s.Project, Start: stamp(p.start), Stop: stamp(p.stop)}
			if detailed {
				sum.Servers = &[]usageOfServer{}
			}
			sums[s.Project] = sum
		}
		u := p.of(s)
		sum.Hours += u.Hours
		sum.GBHours += u.Hours * decimal(u.LocalGB)
		sum.MBHours += u.Hours * decimal(u.MemoryMB)
		sum.CPUTime += u.Hours * decimal(u.VCPUs)
		if detailed {
			*sum.Servers = append(*sum.Servers, u)
		}
	}
	list := []usageOfProject{}
	for _, sum := range sums {
		list = append(list, *sum)
	}
	slices.SortFunc(list, func(x, y usageOfProject) int { return strings.Compare(x.Project, y.Project) })
	return list
}

func (a *API) listUsage(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "start", "end", "detailed", "limit", "marker")
	if err != nil {
		return err
	}
	p, err := readPeriod(q)
	if err != nil {
		return err
	}
	servers, next, err := a.usedServers(r, p, "")
	if err != nil {
		return err
	}
	answer := map[string]any{"tenant_usages": usageOf(p, servers, q.Get("detailed") == "1")}
	if next != nil {
		answer["tenant_usages_links"] = next
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}

func (a *API) showUsage(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "start", "end", "limit", "marker")
	if err != nil {
		return err
	}
	project := r.PathValue("id")
	if project != callersProject(r) && !isAdmin(r) {
		return refused("os_compute_api:os-simple-tenant-usage:show")
	}
	p, err := readPeriod(q)
	if err != nil {
		return err
	}
	servers, next, err := a.usedServers(r, p, project)
	if err != nil {
		return err
	}
	answer := map[string]any{"tenant_usage": struct{}{}}
	if sums := usageOf(p, servers, true); len(sums) > 0 {
		answer["tenant_usage"] = sums[0]
	}
	if next != nil {
		answer["tenant_usage_links"] = next
	}
	return openstack.WriteJSON(w, http.StatusOK, answer)
}
