package nova

import (
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

// maxServers is the most servers on one page.
const maxServers = 1000

// filter picks servers by a parameter of the query. Users may use it from a
// microversion on; 0: administrators alone.
type filter struct {
	since openstack.Microversion
	keeps func(a *API, srv *launcher.Server, value string) bool
}

// exact compares a fact of a server with the parameter.
func exact(since openstack.Microversion, of func(*launcher.Server) string) filter {
	return filter{since, func(_ *API, srv *launcher.Server, value string) bool { return of(srv) == value }}
}

// none is for what no server has.
func none(since openstack.Microversion) filter {
	return filter{since, func(*API, *launcher.Server, string) bool { return false }}
}

// serverFilters are those that need nothing but a server and a value.
var serverFilters = map[string]filter{
	"uuid":           exact(1, func(s *launcher.Server) string { return s.ID }),
	"reservation_id": exact(1, func(s *launcher.Server) string { return s.Reservation }),
	"image": {1, func(_ *API, s *launcher.Server, v string) bool {
		return v == s.ImageRef || v == s.Spec.Image
	}},
	"flavor":            exact(1, func(s *launcher.Server) string { return flavorID(&s.Flavor) }),
	"availability_zone": {83, func(a *API, s *launcher.Server, v string) bool { return a.placed(s) && v == a.cfg.Compute.Zone() }},
	"config_drive":      {83, func(_ *API, s *launcher.Server, v string) bool { return isTrue(v) == s.ConfigDrive }},
	"key_name":          exact(83, func(s *launcher.Server) string { return s.KeyName }),
	"created_at":        exact(83, func(s *launcher.Server) string { return second(s.Created) }),
	"launched_at":       exact(83, func(s *launcher.Server) string { return second(s.FirstLaunched) }),
	"terminated_at":     exact(83, func(s *launcher.Server) string { return second(s.Terminated) }),
	"power_state":       exact(83, func(s *launcher.Server) string { return strconv.Itoa(int(s.Power)) }),
	"task_state":        exact(83, func(s *launcher.Server) string { return string(s.TaskState) }),
	"vm_state":          exact(83, func(s *launcher.Server) string { return string(s.VMState) }),
	"user_id":           exact(83, func(s *launcher.Server) string { return s.User }),
	"progress":          exact(83, func(*launcher.Server) string { return "0" }),
	"host":              {0, func(a *API, s *launcher.Server, v string) bool { return a.placed(s) && v == a.cfg.Host }},
	"node":              {0, func(a *API, s *launcher.Server, v string) bool { return a.placed(s) && v == a.cfg.Host }},
	"hostname":          exact(0, hostnameOf),
	"launch_index":      exact(0, func(s *launcher.Server) string { return strconv.Itoa(s.Index) }),
	"locked":            {1, func(_ *API, s *launcher.Server, v string) bool { return isTrue(v) == s.Locked }},
	"description": {0, func(_ *API, s *launcher.Server, v string) bool {
		return s.Description != nil && strings.Contains(*s.Description, v)
	}},
	"tags":         {1, func(_ *API, s *launcher.Server, v string) bool { return tagged(s, v) == len(strings.Split(v, ",")) }},
	"tags-any":     {1, func(_ *API, s *launcher.Server, v string) bool { return tagged(s, v) > 0 }},
	"not-tags":     {1, func(_ *API, s *launcher.Server, v string) bool { return tagged(s, v) < len(strings.Split(v, ",")) }},
	"not-tags-any": {1, func(_ *API, s *launcher.Server, v string) bool { return tagged(s, v) == 0 }},
	"kernel_id":    none(0), "ramdisk_id": none(0),
	"root_device_name": exact(0, func(*launcher.Server) string { return rootDevice }),
}

// filterVersions are the microversions that brought filters.
var filterVersions = map[string]openstack.Microversion{
	"tags": 26, "tags-any": 26, "not-tags": 26, "not-tags-any": 26, "locked": 73, "changes-before": 66,
}

// tagged counts the tags of a list that a server has.
func tagged(s *launcher.Server, list string) int {
	n := 0
	for tag := range strings.SplitSeq(list, ",") {
		if slices.Contains(s.Tags, tag) {
			n++
		}
	}
	return n
}

// listParameters are the parameters that are no filters of serverFilters.
var listParameters = []string{
	"limit", "marker", "sort_key", "sort_dir", "all_tenants", "tenant_id", "project_id", "status", "name",
	"changes-since", "changes-before", "ip", "ip6", "deleted", "auto_disk_config", "cell_name", "instance_type_id",
	"access_ip_v4", "access_ip_v6", "display_name", "display_description", "soft_deleted",
}

var allStatuses = []string{
	"ACTIVE", "BUILD", "REBOOT", "HARD_REBOOT", "PAUSED", "SHUTOFF", "REBUILD", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE",
	"ERROR", "DELETED", "SUSPENDED", "PASSWORD", "MIGRATING", "RESCUE", "SHELVED", "SHELVED_OFFLOADED", "SOFT_DELETED",
}

var sortKeys = map[string]openstack.Compare[launcher.Server]{
	"created_at":   func(a, b launcher.Server) int { return a.Created.Compare(b.Created) },
	"updated_at":   func(a, b launcher.Server) int { return a.Updated.Compare(b.Updated) },
	"launched_at":  func(a, b launcher.Server) int { return a.FirstLaunched.Compare(b.FirstLaunched) },
	"display_name": openstack.By(func(s launcher.Server) string { return s.Name }),
	"uuid":         openstack.By(func(s launcher.Server) string { return s.ID }),
	"vm_state":     openstack.By(func(s launcher.Server) string { return string(s.VMState) }),
	"task_state":   openstack.By(func(s launcher.Server) string { return string(s.TaskState) }),
	"power_state":  openstack.By(func(s launcher.Server) int { return int(s.Power) }),
	"image_ref":    openstack.By(func(s launcher.Server) string { return s.ImageRef }),
	"key_name":     openstack.By(func(s launcher.Server) string { return s.KeyName }),
	"project_id":   openstack.By(func(s launcher.Server) string { return s.Project }),
	"user_id":      openstack.By(func(s launcher.Server) string { return s.User }),
	"hostname":     openstack.By(func(s launcher.Server) string { return hostnameOf(&s) }),
	"locked":       openstack.By(func(s launcher.Server) string { return strconv.FormatBool(s.Locked) }),
	"host":         func(_, _ launcher.Server) int { return 0 },
	"node":         func(_, _ launcher.Server) int { return 0 },
}

func (a *API) listServers(detail bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := checkQuery(r, slices.Concat(listParameters, slices.Collect(maps.Keys(serverFilters)))...)
		if err != nil {
			return err
		}
		page, err := openstack.ReadPage(r, maxServers)
		if err != nil {
			return err
		}
		servers, err := a.pick(r, q, detail)
		if err != nil {
			return err
		}
		part, more, err := openstack.Cut(servers, page, func(s launcher.Server) string { return s.ID }, sortKeys)
		if err != nil {
			return err
		}
		views := make([]view, 0, len(part))
		for i := range part {
			if detail {
				views = append(views, a.viewServer(r, &part[i], true))
			} else {
				views = append(views, viewServerBriefly(r, &part[i]))
			}
		}
		answer := view{"servers": views}
		if more {
			answer["servers_links"] = page.NextLinks(r, part[len(part)-1].ID)
		}
		return openstack.WriteJSON(w, http.StatusOK, answer)
	}
}

// pick returns the servers that a query asks for, the newest first.
func (a *API) pick(r *http.Request, q url.Values, detail bool) ([]launcher.Server, error) {
	keeps, deleted, err := a.predicate(r, q, detail)
	if err != nil {
		return nil, err
	}
	var servers []launcher.Server
	if deleted != onlyDeleted {
		for _, s := range a.cfg.Manager.Servers() {
			servers = append(servers, shown(s))
		}
	}
	if deleted != noDeleted {
		servers = append(servers, a.cfg.Manager.Deleted()...)
	}
	servers = slices.DeleteFunc(servers, func(s launcher.Server) bool { return !keeps(&s) })
	slices.Reverse(servers) // the manager's order is the opposite, which is slow to sort
	slices.SortStableFunc(servers, func(a, b launcher.Server) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	return servers, nil
}

// Whether a list has deleted servers.
const (
	noDeleted = iota
	onlyDeleted
	alsoDeleted
)

type predicate func(*launcher.Server) bool

// predicate understands a query. Filters that the caller may not use, or that his
// microversion has not, are ignored, as Nova does.
func (a *API) predicate(r *http.Request, q url.Values, detail bool) (predicate, int, error) {
	v := openstack.MicroversionOf(r.Context())
	scope, err := a.scope(r, q, detail)
	if err != nil {
		return nil, 0, err
	}
	all := []predicate{scope}
	deleted := noDeleted
	if isAdmin(r) && isTrue(q.Get("deleted")) {
		deleted = onlyDeleted
	}
	for name := range q {
		value := q.Get(name)
		f, ok := serverFilters[name]
		if !ok || v < filterVersions[name] || !isAdmin(r) && (f.since == 0 || v < f.since) {
			continue
		}
		all = append(all, func(s *launcher.Server) bool { return f.keeps(a, s, value) })
	}
	if name := q.Get("name"); name != "" {
		form, err := regexp.Compile("(?i)" + name)
		if err != nil {
			return nil, 0, openstack.BadRequest("Invalid input for query parameters name. Value: %s. It is no regular expression.", name)
		}
		all = append(all, func(s *launcher.Server) bool { return form.MatchString(s.Name) })
	}
	for name, is4 := range map[string]bool{"ip": true, "ip6": false} {
		if q.Get(name) == "" || !is4 && v < 5 && !isAdmin(r) {
			continue
		}
		form, err := regexp.Compile("^(?:" + q.Get(name) + ")")
		if err != nil {
			return nil, 0, openstack.BadRequest("Invalid input for query parameters %s. Value: %s. It is no regular expression.", name, q.Get(name))
		}
		all = append(all, func(s *launcher.Server) bool { return a.addressed(s, is4, form) })
	}
	if q.Has("status") {
		byStatus, gone, err := statuses(r, q["status"])
		if err != nil {
			return nil, 0, err
		}
		if gone {
			deleted = onlyDeleted
		}
		all = append(all, byStatus)
	}
	changed, err := changes(q, v)
	if err != nil {
		return nil, 0, err
	}
	if changed != nil {
		all = append(all, changed)
		if !q.Has("deleted") && deleted == noDeleted {
			deleted = alsoDeleted
		}
	}
	return func(s *launcher.Server) bool {
		return !slices.ContainsFunc(all, func(keeps predicate) bool { return !keeps(s) })
	}, deleted, nil
}

// addressed says whether a server has an address of the form.
func (a *API) addressed(srv *launcher.Server, is4 bool, form *regexp.Regexp) bool {
	return slices.ContainsFunc(a.ports(srv), func(p network.Port) bool {
		return slices.ContainsFunc(p.FixedIPs, func(f network.FixedIP) bool { return f.IP.Is4() == is4 && form.MatchString(f.IP.String()) })
	})
}

// scope is the caller's project, or all of them.
func (a *API) scope(r *http.Request, q url.Values, detail bool) (predicate, error) {
	value := q.Get("all_tenants")
	everywhere := q.Has("all_tenants") && (value == "" || isTrue(value))
	if q.Has("all_tenants") && value != "" && !isTrue(value) && !isFalse(value) {
		return nil, openstack.BadRequest("Invalid input for query parameters all_tenants. Value: %s. It is a boolean.", value)
	}
	project := callersProject(r)
	if everywhere {
		if !isAdmin(r) {
			if detail {
				return nil, refused("os_compute_api:servers:detail:get_all_tenants")
			}
			return nil, refused("os_compute_api:servers:index:get_all_tenants")
		}
		if project = q.Get("project_id"); project == "" {
			project = q.Get("tenant_id")
		}
	}
	return func(s *launcher.Server) bool {
		return everywhere && project == "" || a.projectOf(s) == project
	}, nil
}

// statuses is the filter of some of Nova's statuses.
func statuses(r *http.Request, asked []string) (keeps predicate, deleted bool, err error) {
	known := map[string]bool{}
	for _, s := range asked {
		if s = strings.ToUpper(s); slices.Contains(allStatuses, s) {
			known[s] = true
		}
	}
	if len(known) == 0 && openstack.MicroversionOf(r.Context()) >= 38 {
		return nil, false, openstack.BadRequest("Invalid status value")
	}
	if known["DELETED"] && len(known) == 1 {
		if !isAdmin(r) {
			return nil, false, openstack.Forbidden("Only administrators may list deleted instances")
		}
		deleted = true
	}
	return func(s *launcher.Server) bool { return known[s.Status()] }, deleted, nil
}

// changes is the filter by the time of the last change; nil where none is asked for.
func changes(q url.Values, v openstack.Microversion) (predicate, error) {
	since, before, err := changedBetween(q, v)
	if err != nil || since.IsZero() && before.IsZero() {
		return nil, err // no filter
	}
	return func(s *launcher.Server) bool {
		return !s.Updated.Before(since) && (before.IsZero() || !s.Updated.After(before))
	}, nil
}

// changedBetween is the time between changes-since and changes-before, each of which may be
// zero.
func changedBetween(q url.Values, v openstack.Microversion) (since, before time.Time, err error) {
	for name, to := range map[string]*time.Time{"changes-since": &since, "changes-before": &before} {
		text := q.Get(name)
		if text == "" || v < filterVersions[name] {
			continue
		}
		if *to, err = parseTime(text); err != nil {
			return since, before, openstack.BadRequest("Invalid input for query parameters %s. Value: %s. '%s' is not a 'date-time'", name, text, text)
		}
	}
	if !before.IsZero() && before.Before(since) {
		return since, before, openstack.BadRequest("The value of changes-since must be less than or equal to changes-before.")
	}
	return since, before, nil
}

// parseTime reads a time in ISO 8601, which is in UTC where it does not say.
func parseTime(text string) (t time.Time, err error) {
	// A plus sign that was not escaped has become a space.
	text = strings.Replace(text, " ", "+", 1)
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02+15:04:05.999999", "2006-01-02"} {
		if t, err = time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	return t, err
}
