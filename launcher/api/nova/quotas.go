package nova

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) quotaRoutes() []route {
	const sets, classes = "os_compute_api:os-quota-sets:", "os_compute_api:os-quota-class-sets:"
	return []route{
		{method: "GET", path: "/os-quota-sets/{id}", role: openstack.Reader, policy: sets + "show", serve: a.showQuotas},
		{method: "GET", path: "/os-quota-sets/{id}/detail", role: openstack.Reader, policy: sets + "detail", serve: a.showQuotaDetail},
		{method: "GET", path: "/os-quota-sets/{id}/defaults", serve: a.showQuotaDefaults},
		{method: "PUT", path: "/os-quota-sets/{id}", role: openstack.Admin, policy: sets + "update", serve: a.updateQuotas},
		{method: "DELETE", path: "/os-quota-sets/{id}", role: openstack.Admin, policy: sets + "delete", serve: a.deleteQuotas},
		{method: "GET", path: "/os-quota-class-sets/{id}", role: openstack.Admin, policy: classes + "show", serve: a.showQuotaClass},
		{method: "PUT", path: "/os-quota-class-sets/{id}", role: openstack.Admin, policy: classes + "update", serve: a.updateQuotaClass},
		{method: "GET", path: "/limits", serve: a.showLimits},
	}
}

var (
	networkQuotas = []compute.Resource{compute.FixedIPs, compute.FloatingIPs, compute.SecurityGroups, compute.SecurityGroupRules}
	fileQuotas    = []compute.Resource{compute.InjectedFiles, compute.InjectedFileBytes, compute.InjectedPathBytes}
	groupQuotas   = []compute.Resource{compute.ServerGroups, compute.ServerGroupMembers}
)

// hiddenQuotas are those that a microversion does not know in quota sets.
func hiddenQuotas(version openstack.Microversion) []compute.Resource {
	var hidden []compute.Resource
	if version >= 36 {
		hidden = append(hidden, networkQuotas...)
	}
	if version >= 57 {
		hidden = append(hidden, fileQuotas...)
	}
	return hidden
}

// hiddenClassQuotas are those that a microversion does not know in classes.
func hiddenClassQuotas(version openstack.Microversion) []compute.Resource {
	switch {
	case version < 50:
		return groupQuotas
	case version < 57:
		return networkQuotas
	}
	return slices.Concat(networkQuotas, fileQuotas)
}

// quotaView shows what value gives of each resource, with an id unless it is empty.
func quotaView(id string, limits compute.Limits, hidden []compute.Resource, value func(compute.Resource) any) map[string]any {
	v := map[string]any{}
	if id != "" {
		v["id"] = id
	}
	for r := range limits {
		if !slices.Contains(hidden, r) {
			v[string(r)] = value(r)
		}
	}
	return v
}

// quotaOf reads what a request is about: a project, which must be the caller's own
// unless he is an administrator, and perhaps one of its users.
func (a *API) quotaOf(r *http.Request, policy string) (project, user string, err error) {
	q, err := checkQuery(r, "user_id", "usage") // openstacksdk sends "usage=False"
	if err != nil {
		return "", "", err
	}
	project = r.PathValue("id")
	if project != callersProject(r) && !isAdmin(r) {
		return "", "", refused("os_compute_api:os-quota-sets:" + policy)
	}
	return project, q.Get("user_id"), a.checkProject(r, project)
}

// checkProject refuses a project that does not exist.
func (a *API) checkProject(r *http.Request, project string) error {
	if a.cfg.ProjectExists == nil || project == callersProject(r) {
		return nil
	}
	exists, err := a.cfg.ProjectExists(r.Context(), project)
	if err == nil && !exists {
		err = openstack.BadRequest("Project ID %s is not a valid project.", project)
	}
	return err
}

func (a *API) showQuotas(w http.ResponseWriter, r *http.Request) error {
	project, user, err := a.quotaOf(r, "show")
	if err != nil {
		return err
	}
	return a.writeQuotas(w, r, project, project, user)
}

func (a *API) writeQuotas(w http.ResponseWriter, r *http.Request, id, project, user string) error {
	limits := a.cfg.Compute.Quotas.Limits(project, user)
	hidden := hiddenQuotas(openstack.MicroversionOf(r.Context()))
	return writeOne(w, http.StatusOK, "quota_set", quotaView(id, limits, hidden, func(x compute.Resource) any { return limits[x] }))
}

// usageView is a limit with what is used of it.
type usageView struct {
	Limit    int `json:"limit"`
	InUse    int `json:"in_use"`
	Reserved int `json:"reserved"`
}

func (a *API) showQuotaDetail(w http.ResponseWriter, r *http.Request) error {
	project, user, err := a.quotaOf(r, "detail")
	if err != nil {
		return err
	}
	limits, used := a.cfg.Compute.Quotas.Limits(project, user), a.cfg.Compute.Quotas.Used(project, user)
	hidden := hiddenQuotas(openstack.MicroversionOf(r.Context()))
	return writeOne(w, http.StatusOK, "quota_set", quotaView(project, limits, hidden, func(x compute.Resource) any {
		return usageView{Limit: limits[x], InUse: used[x]}
	}))
}

func (a *API) showQuotaDefaults(w http.ResponseWriter, r *http.Request) error {
	project := r.PathValue("id")
	if err := a.checkProject(r, project); err != nil {
		return err
	}
	limits := a.cfg.Compute.Quotas.Class(compute.DefaultClass)
	hidden := hiddenQuotas(openstack.MicroversionOf(r.Context()))
	return writeOne(w, http.StatusOK, "quota_set", quotaView(project, limits, hidden, func(x compute.Resource) any { return limits[x] }))
}

var aLimit = &schema{
	kinds: []string{"integer", "string"}, pattern: regexp.MustCompile(`^-?[0-9]+$`), min: bound(compute.Unlimited), max: bound(maxInt),
}

// quotaSchema is a body that sets limits that are not hidden.
func quotaSchema(name string, known compute.Limits, hidden []compute.Resource, more map[string]*schema) *schema {
	props := maps.Clone(more)
	if props == nil {
		props = map[string]*schema{}
	}
	for r := range known {
		if !slices.Contains(hidden, r) {
			props[string(r)] = aLimit
		}
	}
	if !slices.Contains(hidden, compute.FixedIPs) {
		props["networks"] = aLimit // known only to be refused
	}
	return one(name, object(props))
}

func (a *API) updateQuotas(w http.ResponseWriter, r *http.Request) error {
	project, user, err := a.quotaOf(r, "update")
	if err != nil {
		return err
	}
	quotas := a.cfg.Compute.Quotas
	hidden := hiddenQuotas(openstack.MicroversionOf(r.Context()))
	b, err := readBody(r, quotaSchema("quota_set", quotas.Class(compute.DefaultClass), hidden, map[string]*schema{"force": aBoolean}))
	if err != nil {
		return err
	}
	b = b.in("quota_set")
	if _, ok := b["networks"]; ok {
		return openstack.BadRequest("The networks quota has been removed")
	}
	limits, err := a.readLimits(b, project, user)
	if err != nil {
		return err
	}
	if err := quotas.SetLimits(r.Context(), project, user, limits); err != nil {
		return err
	}
	return a.writeQuotas(w, r, "", project, user)
}

// readLimits reads new limits, which must be no less than what is used, and for a
// user no more than the project's, unless they are forced.
func (a *API) readLimits(b body, project, user string) (compute.Limits, error) {
	limits := compute.Limits{}
	used, most := a.cfg.Compute.Quotas.Used(project, user), a.cfg.Compute.Quotas.Limits(project, "")
	force := b.truth("force", false)
	for _, name := range slices.Sorted(maps.Keys(b)) {
		n, err := strconv.Atoi(b.text(name))
		if err != nil || name == "force" {
			continue
		}
		resource := compute.Resource(name)
		limits[resource] = n
		switch {
		case force:
		case n != compute.Unlimited && n < used[resource]:
			return nil, openstack.BadRequest("Quota limit %d for %s must be greater than or equal to already used and reserved %d.", n, name, used[resource])
		case user != "" && most[resource] != compute.Unlimited && (n == compute.Unlimited || n > most[resource]):
			return nil, openstack.BadRequest("Quota limit %d for %s must be less than or equal to %d.", n, name, most[resource])
		}
	}
	return limits, nil
}

func (a *API) deleteQuotas(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "user_id")
	if err != nil {
		return err
	}
	if err := a.cfg.Compute.Quotas.Reset(r.Context(), r.PathValue("id"), q.Get("user_id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (a *API) showQuotaClass(w http.ResponseWriter, r *http.Request) error {
	class := r.PathValue("id")
	return a.writeClass(w, r, class, class)
}

func (a *API) writeClass(w http.ResponseWriter, r *http.Request, id, class string) error {
	limits := a.cfg.Compute.Quotas.Class(class)
	hidden := hiddenClassQuotas(openstack.MicroversionOf(r.Context()))
	return writeOne(w, http.StatusOK, "quota_class_set", quotaView(id, limits, hidden, func(x compute.Resource) any { return limits[x] }))
}

func (a *API) updateQuotaClass(w http.ResponseWriter, r *http.Request) error {
	class := r.PathValue("id")
	if len(class) > 255 {
		return openstack.BadRequest("quota_class_name has %d characters, more than 255.", len(class))
	}
	version := openstack.MicroversionOf(r.Context())
	var hidden []compute.Resource
	if version >= 50 {
		hidden = hiddenClassQuotas(version)
	}
	quotas := a.cfg.Compute.Quotas
	b, err := readBody(r, quotaSchema("quota_class_set", quotas.Class(class), hidden, nil))
	if err != nil {
		return err
	}
	b = b.in("quota_class_set")
	limits := compute.Limits{}
	for name := range b {
		if n, err := strconv.Atoi(b.text(name)); err == nil && name != "networks" {
			limits[compute.Resource(name)] = n
		}
	}
	if err := quotas.SetClass(r.Context(), class, limits); err != nil {
		return err
	}
	return a.writeClass(w, r, "", class)
}
