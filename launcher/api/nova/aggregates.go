package nova

import (
	"maps"
	"net/http"
	"strconv"

	"github.com/slipway-vm/slipway/launcher/api/openstack"
	"github.com/slipway-vm/slipway/launcher/compute"
)

func (a *API) aggregateRoutes() []route {
	const policy = "os_compute_api:os-aggregates:"
	return []route{
		{method: "GET", path: "/os-aggregates", role: openstack.Admin, policy: policy + "index", serve: a.listAggregates},
		{method: "POST", path: "/os-aggregates", role: openstack.Admin, policy: policy + "create", serve: a.createAggregate},
		{method: "GET", path: "/os-aggregates/{id}", role: openstack.Admin, policy: policy + "show", serve: a.showAggregate},
		{method: "PUT", path: "/os-aggregates/{id}", role: openstack.Admin, policy: policy + "update", serve: a.updateAggregate},
		{method: "DELETE", path: "/os-aggregates/{id}", role: openstack.Admin, policy: policy + "delete", serve: a.deleteAggregate},
		{method: "POST", path: "/os-aggregates/{id}/action", role: openstack.Admin, policy: policy + "add_host", serve: a.actOnAggregate},
	}
}

// aggregateView is an aggregate. Hosts and metadata are not in the answer to its
// creation; the UUID is shown since 2.41.
type aggregateView struct {
	ID        int                `json:"id"`
	UUID      string             `json:"uuid,omitempty"`
	Name      string             `json:"name"`
	Zone      *string            `json:"availability_zone"`
	Hosts     *[]string          `json:"hosts,omitempty"`
	Metadata  *map[string]string `json:"metadata,omitempty"`
	Created   stamp              `json:"created_at"`
	Updated   stamp              `json:"updated_at"`
	Deleted   bool               `json:"deleted"`
	DeletedAt *stamp             `json:"deleted_at"`
}

func viewAggregate(r *http.Request, g compute.Aggregate) aggregateView {
	v := aggregateView{ID: g.ID, Name: g.Name, Hosts: &g.Hosts, Metadata: &g.Metadata, Created: stamp(g.Created), Updated: stamp(g.Updated)}
	if zone := g.Zone(); zone != "" {
		v.Zone = &zone
	}
	if openstack.MicroversionOf(r.Context()) >= 41 {
		v.UUID = g.UUID
	}
	return v
}

func (a *API) listAggregates(w http.ResponseWriter, r *http.Request) error {
	list := []aggregateView{}
	for _, g := range a.cfg.Compute.Aggregates.All() {
		list = append(list, viewAggregate(r, g))
	}
	return writeOne(w, http.StatusOK, "aggregates", list)
}

func aggregateID(r *http.Request) (int, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return 0, openstack.BadRequest("id must be an integer, not %s.", r.PathValue("id"))
	}
	return id, nil
}

// writeAggregate answers with what was made of the aggregate that a path names.
func writeAggregate(w http.ResponseWriter, r *http.Request, do func(id int) (compute.Aggregate, error)) error {
	id, err := aggregateID(r)
	if err != nil {
		return err
	}
	g, err := do(id)
	if err != nil {
		return err
	}
	return writeOne(w, http.StatusOK, "aggregate", viewAggregate(r, g))
}

func (a *API) showAggregate(w http.ResponseWriter, r *http.Request) error {
	return writeAggregate(w, r, a.cfg.Compute.Aggregates.Find)
}

var (
	zoneName        = &schema{kinds: []string{"string", "null"}, minLen: 1, maxLen: 255, form: checkZoneName}
	aggregateCreate = one("aggregate", object(map[string]*schema{"name": aName, "availability_zone": zoneName}, "name"))
	aggregateUpdate = one("aggregate", &schema{kinds: []string{"object"}, minProps: 1, props: aggregateCreate.props["aggregate"].props})
	aggregateHost   = object(map[string]*schema{"host": aHost}, "host")
	aggregateAction = &schema{kinds: []string{"object"}, minProps: 1, maxPro: 1, props: map[string]*schema{
		"add_host": aggregateHost, "remove_host": aggregateHost,
		"set_metadata": object(map[string]*schema{"metadata": {
			kinds: []string{"object"}, names: metadataName, rest: &schema{kinds: []string{"string", "null"}, maxLen: 255},
		}}, "metadata"),
	}}
)

func (a *API) createAggregate(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, aggregateCreate)
	if err != nil {
		return err
	}
	b = b.in("aggregate")
	g, err := a.cfg.Compute.Aggregates.Create(r.Context(), b.text("name"), b.text("availability_zone"))
	if err != nil {
		return err
	}
	v := viewAggregate(r, g)
	v.Hosts, v.Metadata = nil, nil
	return writeOne(w, http.StatusOK, "aggregate", v)
}

func (a *API) updateAggregate(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, aggregateUpdate)
	if err != nil {
		return err
	}
	b = b.in("aggregate")
	return writeAggregate(w, r, func(id int) (compute.Aggregate, error) {
		if _, ok := b["availability_zone"]; ok {
			zone := map[string]*string{"availability_zone": optional(b, "availability_zone")}
			if g, err := a.cfg.Compute.Aggregates.SetMetadata(r.Context(), id, zone); err != nil {
				return g, err
			}
		}
		return a.cfg.Compute.Aggregates.Update(r.Context(), id, func(g *compute.Aggregate) error {
			if name := b.text("name"); name != "" {
				g.Name = name
			}
			return nil
		})
	})
}

func (a *API) deleteAggregate(w http.ResponseWriter, r *http.Request) error {
	id, err := aggregateID(r)
	if err != nil {
		return err
	}
	if err := a.cfg.Compute.Aggregates.Delete(r.Context(), id); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (a *API) actOnAggregate(w http.ResponseWriter, r *http.Request) error {
	b, err := readBody(r, aggregateAction)
	if err != nil {
		return err
	}
	return writeAggregate(w, r, func(id int) (compute.Aggregate, error) {
		aggregates := a.cfg.Compute.Aggregates
		for action := range maps.Keys(b) {
			inner := b.in(action)
			switch action {
			case "add_host":
				return aggregates.AddHost(r.Context(), id, inner.text("host"))
			case "remove_host":
				return aggregates.RemoveHost(r.Context(), id, inner.text("host"))
			}
			items := map[string]*string{}
			for k := range inner.in("metadata") {
				items[k] = optional(inner.in("metadata"), k)
			}
			return aggregates.SetMetadata(r.Context(), id, items)
		}
		return aggregates.Find(id)
	})
}
