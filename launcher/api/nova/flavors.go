package nova

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) flavorRoutes() []route {
	const policy = "os_compute_api:os-flavor-"
	return []route{
		{method: "GET", path: "/flavors", serve: a.listFlavors(false)},
		{method: "GET", path: "/flavors/detail", serve: a.listFlavors(true)},
		{method: "GET", path: "/flavors/{id}", serve: a.showFlavor},
		{method: "POST", path: "/flavors", role: openstack.Admin, policy: policy + "manage:create", serve: a.createFlavor},
		{method: "PUT", path: "/flavors/{id}", role: openstack.Admin, policy: policy + "manage:update", min: 55, serve: a.updateFlavor},
		{method: "DELETE", path: "/flavors/{id}", role: openstack.Admin, policy: policy + "manage:delete", serve: a.deleteFlavor},
		{method: "GET", path: "/flavors/{id}/os-flavor-access", role: openstack.Admin, policy: policy + "access", serve: a.listFlavorAccess},
		{method: "POST", path: "/flavors/{id}/action", role: openstack.Admin, policy: policy + "access:add_tenant_access", serve: a.actOnFlavor},
		{method: "GET", path: "/flavors/{id}/os-extra_specs", role: openstack.Reader, policy: policy + "extra-specs:index", serve: a.listExtraSpecs},
		{method: "POST", path: "/flavors/{id}/os-extra_specs", role: openstack.Admin, policy: policy + "extra-specs:create", serve: a.createExtraSpecs},
		{method: "GET", path: "/flavors/{id}/os-extra_specs/{key}", role: openstack.Reader, policy: policy + "extra-specs:show", serve: a.showExtraSpec},
		{method: "PUT", path: "/flavors/{id}/os-extra_specs/{key}", role: openstack.Admin, policy: policy + "extra-specs:update", serve: a.updateExtraSpec},
		{method: "DELETE", path: "/flavors/{id}/os-extra_specs/{key}", role: openstack.Admin, policy: policy + "extra-specs:delete", serve: a.deleteExtraSpec},
	}
}

// flavorView is a flavor as it is shown. Swap is a number or an empty string, as is
// the factor.
type flavorView struct {
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	RAM         *int               `json:"ram,omitempty"`
	Disk        *int               `json:"disk,omitempty"`
	Swap        any                `json:"swap,omitempty"`
	Ephemeral   *int               `json:"OS-FLV-EXT-DATA:ephemeral,omitempty"`
	Disabled    *bool              `json:"OS-FLV-DISABLED:disabled,omitempty"`
	VCPUs       *int               `json:"vcpus,omitempty"`
	Public      *bool              `json:"os-flavor-access:is_public,omitempty"`
	RXTXFactor  any                `json:"rxtx_factor,omitempty"`
	Links       []openstack.Link   `json:"links"`
	Description **string           `json:"description,omitempty"`
	ExtraSpecs  *map[string]string `json:"extra_specs,omitempty"`
}

func viewFlavor(r *http.Request, f compute.Flavor, detail bool) flavorView {
	version := openstack.MicroversionOf(r.Context())
	v := flavorView{ID: f.ID, Name: f.Name, Links: links(r, "/flavors/"+f.ID)}
	if version >= 55 {
		v.Description = &f.Description
	}
	if !detail {
		return v
	}
	public := !f.Private
	v.RAM, v.Disk, v.Ephemeral, v.VCPUs = &f.RAM, &f.Disk, &f.Ephemeral, &f.VCPUs
	v.Disabled, v.Public, v.RXTXFactor, v.Swap = &f.Disabled, &public, decimal(f.RXTXFactor), f.Swap
	if f.Swap == 0 && version < 75 {
		v.Swap = ""
	}
	if version >= 61 && openstack.CallerOf(r.Context()).Has(openstack.Reader) {
		specs := f.ExtraSpecs
		if specs == nil {
			specs = map[string]string{}
		}
		v.ExtraSpecs = &specs
	}
	return v
}

// decimal is a number that is always written with a point, as Python's floats are.
type decimal float64

// MarshalJSON writes 1 as 1.0.
func (d decimal) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(d), 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return []byte(text), nil
}

func isAdmin(r *http.Request) bool { return openstack.CallerOf(r.Context()).Has(openstack.Admin) }

func (a *API) listFlavors(detail bool) openstack.Func {
	return func(w http.ResponseWriter, r *http.Request) error {
		q, err := checkQuery(r, "limit", "marker", "is_public", "minRam", "minDisk", "sort_key", "sort_dir")
		if err != nil {
			return err
		}
		want, err := a.flavorFilter(r, q.Get("is_public"), q.Get("minRam"), q.Get("minDisk"))
		if err != nil {
			return err
		}
		page, err := openstack.ReadPage(r, maxPage)
		if err != nil {
			return err
		}
		if len(page.Sort) > 0 && !q.Has("sort_dir") {
			page.Sort[0].Desc = false // of flavors alone the lowest come first
		}
		keys := map[string]openstack.Compare[compute.Flavor]{}
		for key, less := range compute.SortKeys {
			keys[key] = less
		}
		part, more, err := openstack.Cut(a.cfg.Compute.Flavors.All(want), page, func(f compute.Flavor) string { return f.ID }, keys)
		if err != nil {
			return err
		}
		list := []flavorView{}
		for _, f := range part {
			list = append(list, viewFlavor(r, f, detail))
		}
		answer := map[string]any{"flavors": list}
		if more {
			answer["flavors_links"] = page.NextLinks(r, part[len(part)-1].ID)
		}
		return openstack.WriteJSON(w, http.StatusOK, answer)
	}
}

// maxPage is the most items of a list that one answer holds, as in Nova.
const maxPage = 1000

func (a *API) flavorFilter(r *http.Request, public, minRAM, minDisk string) (func(compute.Flavor) bool, error) {
	ram, err := strconv.Atoi("0" + minRAM)
	if err != nil {
		return nil, openstack.BadRequest("Invalid minRam filter [%s]", minRAM)
	}
	disk, err := strconv.Atoi("0" + minDisk)
	if err != nil {
		return nil, openstack.BadRequest("Invalid minDisk filter [%s]", minDisk)
	}
	admin, caller := isAdmin(r), openstack.CallerOf(r.Context())
	if admin && public != "" && !strings.EqualFold(public, "none") && !isTrue(public) && !isFalse(public) {
		return nil, openstack.BadRequest("Invalid is_public filter [%s]", public)
	}
	return func(f compute.Flavor) bool {
		switch {
		case f.RAM < ram || f.Disk < disk:
			return false
		case !admin:
			return f.Usable(caller.ProjectID) && !f.Disabled
		case strings.EqualFold(public, "none"):
			return true
		case public == "" || isTrue(public):
			return f.Usable(caller.ProjectID)
		}
		return f.Private
	}, nil
}

// flavor finds the flavor that a path names, for the caller.
func (a *API) flavor(r *http.Request) (compute.Flavor, error) {
	f, err := a.cfg.Compute.Flavors.Find(r.PathValue("id"))
	if err == nil && !isAdmin(r) && !f.Usable(callersProject(r)) {
		err = openstack.NotFound("Flavor %s could not be found.", r.PathValue("id"))
	}
	return f, err
}

func (a *API) showFlavor(w http.ResponseWriter, r *http.Request) error {
	f, err := a.flavor(r)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "flavor", viewFlavor(r, f, true))
}

// writeOne answers with a resource under its name.
func writeOne(w http.ResponseWriter, status int, name string, v any) error {
	return openstack.WriteJSON(w, status, map[string]any{name: v})
}

var (
	flavorSize = &schema{kinds: []string{"integer", "string"}, pattern: regexp.MustCompile(`^[0-9]+$`), min: bound(1), max: bound(maxInt)}
	flavorRest = &schema{kinds: flavorSize.kinds, pattern: flavorSize.pattern, min: bound(0), max: bound(maxInt)}
	flavorText = &schema{kinds: []string{"string", "null"}, maxLen: 65535, form: checkDescription}

	flavorCreate = one("flavor", object(map[string]*schema{
		"name": aName,
		"id": {
			kinds: []string{"string", "number", "null"}, minLen: 1, maxLen: 255,
			pattern: regexp.MustCompile(`^[a-zA-Z0-9._-]([a-zA-Z0-9. _-]*[a-zA-Z0-9._-])?$`),
		},
		"ram": flavorSize, "vcpus": flavorSize, "disk": flavorRest,
		"OS-FLV-EXT-DATA:ephemeral": flavorRest, "swap": flavorRest,
		"rxtx_factor": {
			kinds: []string{"number", "string"}, pattern: regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`),
			min: bound(0), above: true, max: bound(3.40282e+38),
		},
		"os-flavor-access:is_public": aBoolean,
	}, "name", "ram", "vcpus", "disk"))
	flavorCreate55 = with(flavorCreate, "flavor", "description", flavorText)
	flavorUpdate   = one("flavor", object(map[string]*schema{"description": flavorText}, "description"))
)

// with is a schema of [one] whose object has another member.
func with(s *schema, name, member string, inner *schema) *schema {
	was := s.props[name]
	props := map[string]*schema{member: inner}
	for k, v := range was.props {
		props[k] = v
	}
	changed := *was
	changed.props = props
	return one(name, &changed)
}

func checkDescription(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return !printable(r) }) {
		return openstack.BadRequest("Invalid input for field/attribute description. Value: %s. It has characters that cannot be printed", s)
	}
	return nil
}

func (a *API) createFlavor(w http.ResponseWriter, r *http.Request) error {
	form := flavorCreate
	if openstack.MicroversionOf(r.Context()) >= 55 {
		form = flavorCreate55
	}
	b, err := readBody(r, form)
	if err != nil {
		return err
	}
	b = b.in("flavor")
	f := compute.Flavor{
		ID: b.text("id"), Name: b.text("name"), RAM: b.number("ram"), VCPUs: b.number("vcpus"), Disk: b.number("disk"),
		Ephemeral: b.number("OS-FLV-EXT-DATA:ephemeral"), Swap: b.number("swap"), RXTXFactor: 1,
		Private: !b.truth("os-flavor-access:is_public", true), Description: optional(b, "description"),
	}
	if factor, err := strconv.ParseFloat(b.text("rxtx_factor"), 64); err == nil {
		f.RXTXFactor = factor
	}
	if f, err = a.cfg.Compute.Flavors.Create(r.Context(), f); err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "flavor", viewFlavor(r, f, true))
}

// optional is a string that may be null.
func optional(b body, name string) *string {
	if s, ok := b[name].(string); ok {
		return &s
	}
	return nil
}

func (a *API) updateFlavor(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, flavorUpdate)
	if err != nil {
		return err
	}
	f, err := a.cfg.Compute.Flavors.Update(r.Context(), r.PathValue("id"), func(f *compute.Flavor) error {
		f.Description = optional(b.in("flavor"), "description")
		return nil
	})
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "flavor", viewFlavor(r, f, true))
}

func (a *API) deleteFlavor(w http.ResponseWriter, r *http.Request) error {
	if err := a.cfg.Compute.Flavors.Delete(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// accessView says that a project may use a private flavor.
type accessView struct {
	Flavor  string `json:"flavor_id"`
	Project string `json:"tenant_id"`
}

func writeAccess(w http.ResponseWriter, f compute.Flavor) error {
	list := []accessView{}
	for _, p := range f.Projects {
		list = append(list, accessView{f.ID, p})
	}
	return writeOne(w, http.StatusOK, "flavor_access", list)
}

func (a *API) listFlavorAccess(w http.ResponseWriter, r *http.Request) error {
	f, err := a.flavor(r)
	if err != nil {
		return err
	}
	if !f.Private {
		return openstack.NotFound("Access list not available for public flavors.")
	}
	return writeAccess(w, f)
}

var (
	tenantOnly   = object(map[string]*schema{"tenant": aWord}, "tenant")
	flavorAction = &schema{kinds: []string{"object"}, minProps: 1, maxPro: 1, props: map[string]*schema{
		"addTenantAccess": tenantOnly, "removeTenantAccess": tenantOnly,
	}}
)

func (a *API) actOnFlavor(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, flavorAction)
	if err != nil {
		return err
	}
	_, add := b["addTenantAccess"]
	project := b.in("addTenantAccess").text("tenant") + b.in("removeTenantAccess").text("tenant")
	f, err := a.cfg.Compute.Flavors.Update(r.Context(), r.PathValue("id"), func(f *compute.Flavor) error {
		i := slices.Index(f.Projects, project)
		switch {
		case add && !f.Private && openstack.MicroversionOf(r.Context()) >= 7:
			return openstack.Conflict("Can not add access to a public flavor.")
		case add && i >= 0:
			return openstack.Conflict("Flavor access already exists for flavor %s and project %s combination.", f.ID, project)
		case add:
			f.Projects = append(f.Projects, project)
		case i < 0:
			return openstack.NotFound("Flavor access not found for %s / %s combination.", f.ID, project)
		default:
			f.Projects = slices.Delete(f.Projects, i, i+1)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeAccess(w, f)
}
