package nova

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) serverGroupRoutes() []route {
	const policy = "os_compute_api:os-server-groups:"
	return []route{
		{method: "GET", path: "/os-server-groups", role: openstack.Reader, policy: policy + "index", serve: a.listServerGroups},
		{method: "POST", path: "/os-server-groups", role: openstack.Member, policy: policy + "create", serve: a.createServerGroup},
		{method: "GET", path: "/os-server-groups/{id}", role: openstack.Reader, policy: policy + "show", serve: a.showServerGroup},
		{method: "DELETE", path: "/os-server-groups/{id}", role: openstack.Member, policy: policy + "delete", serve: a.deleteServerGroup},
	}
}

// groupView is a server group: with policies and metadata before 2.64, with policy
// and rules since.
type groupView struct {
	ID       string             `json:"id"`
	Name     string             `json:"name"`
	Policies []string           `json:"policies,omitempty"`
	Metadata *map[string]string `json:"metadata,omitempty"`
	Policy   string             `json:"policy,omitempty"`
	Rules    *map[string]int    `json:"rules,omitempty"`
	Members  []string           `json:"members"`
	Project  string             `json:"project_id,omitempty"`
	UserID   string             `json:"user_id,omitempty"`
}

func viewGroup(r *http.Request, g compute.Group) groupView {
	version := openstack.MicroversionOf(r.Context())
	v := groupView{ID: g.ID, Name: g.Name, Members: g.Members}
	if v.Members == nil {
		v.Members = []string{}
	}
	if version >= 13 {
		v.Project, v.UserID = g.Project, g.UserID
	}
	if version < 64 {
		v.Policies, v.Metadata = []string{g.Policy}, &map[string]string{}
		return v
	}
	rules := map[string]int{}
	if g.PerHost > 0 {
		rules["max_server_per_host"] = g.PerHost
	}
	v.Policy, v.Rules = g.Policy, &rules
	return v
}

func (a *API) listServerGroups(w http.ResponseWriter, r *http.Request) error {
	q, err := checkQuery(r, "all_projects", "limit", "offset")
	if err != nil {
		return err
	}
	of := callersProject(r)
	if q.Has("all_projects") && isAdmin(r) {
		of = ""
	}
	part, err := window(a.cfg.Compute.Groups.All(of), q)
	if err != nil {
		return err
	}
	list := []groupView{}
	for _, g := range part {
		list = append(list, viewGroup(r, g))
	}
	return writeOne(w, http.StatusOK, "server_groups", list)
}

// serverGroup finds the group that a path names; those of other projects are for
// administrators.
func (a *API) serverGroup(r *http.Request) (compute.Group, error) {
	g, err := a.cfg.Compute.Groups.Find(r.PathValue("id"))
	if err == nil && g.Project != callersProject(r) && !isAdmin(r) {
		err = openstack.NotFound("Instance group %s could not be found.", r.PathValue("id"))
	}
	return g, err
}

func (a *API) showServerGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.serverGroup(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "server_group", viewGroup(r, g))
}

func groupPolicies(version openstack.Microversion) []any {
	if version < 15 {
		return []any{compute.AntiAffinity, compute.Affinity}
	}
	return []any{compute.AntiAffinity, compute.Affinity, compute.SoftAntiAffinity, compute.SoftAffinity}
}

func groupCreate(version openstack.Microversion) *schema {
	policy := &schema{kinds: []string{"string"}, enum: groupPolicies(version)}
	if version >= 64 {
		rules := object(map[string]*schema{"max_server_per_host": aCount})
		return one("server_group", object(map[string]*schema{"name": aName, "policy": policy, "rules": rules}, "name", "policy"))
	}
	policies := &schema{kinds: []string{"array"}, items: policy, minLen: 1, maxLen: 1}
	return one("server_group", object(map[string]*schema{"name": aName, "policies": policies}, "name", "policies"))
}

func (a *API) createServerGroup(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, groupCreate(openstack.MicroversionOf(r.Context())))
	if err != nil {
		return err
	}
	b = b.in("server_group")
	caller := openstack.CallerOf(r.Context())
	g := compute.Group{
		Name: b.text("name"), Policy: b.text("policy"), PerHost: b.in("rules").number("max_server_per_host"),
		Project: caller.ProjectID, UserID: caller.UserID,
	}
	if policies, ok := b["policies"].([]any); ok {
		g.Policy, _ = policies[0].(string)
	}
	if len(b.in("rules")) > 0 && g.Policy != compute.AntiAffinity {
		return openstack.BadRequest("Only anti-affinity policy supports rules.")
	}
	if g, err = a.cfg.Compute.Groups.Create(r.Context(), g); err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "server_group", viewGroup(r, g))
}

func (a *API) deleteServerGroup(w http.ResponseWriter, r *http.Request) error {
	g, err := a.serverGroup(r)
	if err != nil {
		return err
	}
	if err := a.cfg.Compute.Groups.Delete(r.Context(), g.ID); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// window is the part of a list that limit and offset name.
func window[T any](list []T, q url.Values) ([]T, error) {
	offset, limit := 0, maxPage
	for name, n := range map[string]*int{"offset": &offset, "limit": &limit} {
		if text := q.Get(name); text != "" {
			value, err := strconv.Atoi(text)
			if err != nil || value < 0 {
				return nil, openstack.BadRequest("Invalid input for query parameters %s. Value: %s. It must be a whole number, 0 or more.", name, text)
			}
			*n = value
		}
	}
	if limit = min(limit, maxPage); limit == 0 {
		limit = maxPage
	}
	list = list[min(offset, len(list)):]
	return list[:min(limit, len(list))], nil
}
