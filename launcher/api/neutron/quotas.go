package neutron

import (
	"maps"
	"net/http"
	"slices"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/network"
)

func (a *api) quotaRoutes() []openstack.Route {
	one := root + "/quotas/{project}"
	return []openstack.Route{
		{Method: "GET", Path: root + "/quotas", Serve: a.may(openstack.Admin, "get_quota", a.listQuotas)},
		{Method: "GET", Path: root + "/quotas/tenant", Serve: a.may(openstack.Reader, "get_quota", a.tenant)},
		{Method: "GET", Path: root + "/quotas/project", Serve: a.may(openstack.Reader, "get_quota", a.tenant)},
		{Method: "GET", Path: one, Serve: a.ofProject(func(w http.ResponseWriter, r *http.Request, project string) error {
			return openstack.WriteJSON(w, http.StatusOK, view{"quota": a.net.Limits(project)})
		})},
		{Method: "GET", Path: one + "/default", Serve: a.ofProject(func(w http.ResponseWriter, _ *http.Request, _ string) error {
			return openstack.WriteJSON(w, http.StatusOK, view{"quota": network.DefaultLimits()})
		})},
		{Method: "GET", Path: one + "/details", Serve: a.ofProject(a.showUse)},
		{Method: "GET", Path: one + "/details.json", Serve: a.ofProject(a.showUse)},
		{Method: "PUT", Path: one, Serve: a.may(openstack.Admin, "update_quota", a.setQuota)},
		{Method: "DELETE", Path: one, Serve: a.may(openstack.Admin, "delete_quota", func(w http.ResponseWriter, r *http.Request) error {
			if err := a.net.ResetLimits(r.Context(), r.PathValue("project")); err != nil {
				return err
			}
			w.WriteHeader(http.StatusNoContent)
			return nil
		})},
	}
}

// ofProject serves what is about one project, the caller's own or to an administrator
// any.
func (a *api) ofProject(serve func(http.ResponseWriter, *http.Request, string) error) openstack.Func {
	return a.may(openstack.Reader, "get_quota", func(w http.ResponseWriter, r *http.Request) error {
		project, c := r.PathValue("project"), openstack.CallerOf(r.Context())
		if project != c.ProjectID && !isAdmin(c) {
			return disallowed("get_quota")
		}
		return serve(w, r, project)
	})
}

// tenant tells a caller which project its quotas are.
func (a *api) tenant(w http.ResponseWriter, r *http.Request) error {
	id := openstack.CallerOf(r.Context()).ProjectID
	return openstack.WriteJSON(w, http.StatusOK, view{"tenant": view{"tenant_id": id, "project_id": id}})
}

func (a *api) listQuotas(w http.ResponseWriter, _ *http.Request) error {
	all := []view{}
	set := a.net.Limited()
	for _, project := range slices.Sorted(maps.Keys(set)) {
		v := view{"tenant_id": project, "project_id": project}
		for name, n := range a.net.Limits(project) {
			v[name] = n
		}
		all = append(all, v)
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"quotas": all})
}

func (a *api) showUse(w http.ResponseWriter, _ *http.Request, project string) error {
	used, detail := a.net.Used(project), view{}
	for name, n := range a.net.Limits(project) {
		detail[name] = view{"limit": n, "used": used[name], "reserved": 0}
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"quota": detail})
}

func (a *api) setQuota(w http.ResponseWriter, r *http.Request) error {
	var b struct {
		Quota map[string]any `json:"quota"`
	}
	if err := openstack.ReadJSON(r, &b); err != nil {
		return err
	}
	if b.Quota == nil {
		return openstack.BadRequest("Unable to find 'quota' in request body")
	}
	limits := network.Limits{}
	for name, v := range b.Quota {
		switch name {
		case "tenant_id", "project_id":
			continue
		case "force", "check_limit": // both are what is done anyway: limits below what is used are taken
			continue
		}
		n, err := integer(v)
		if err != nil {
			return openstack.BadRequest("Invalid input for %s. Reason: %s.", name, err)
		}
		limits[name] = n
	}
	project := r.PathValue("project")
	if on, _ := boolean(b.Quota["check_limit"]); on {
		for name, n := range limits {
			if used := a.net.Used(project)[name]; n != network.Unlimited && n < used {
				return &openstack.Fault{Code: http.StatusBadRequest, Type: "InvalidQuotaValue", Message: "Change would make usage less than 0 for the following resources: ['" + name + "']."}
			}
		}
	}
	if err := a.net.SetLimits(r.Context(), project, limits); err != nil {
		return faultOf(err)
	}
	return openstack.WriteJSON(w, http.StatusOK, view{"quota": a.net.Limits(project)})
}
