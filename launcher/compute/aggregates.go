package compute

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
)

// zoneKey is the metadata of an aggregate that puts its hosts into a zone.
const zoneKey = "availability_zone"

// Aggregate is a set of hosts.
type Aggregate struct {
	ID       int               `json:"id"`
	UUID     string            `json:"uuid"`
	Name     string            `json:"name"`
	Hosts    []string          `json:"hosts"`
	Metadata map[string]string `json:"metadata"`
	Created  time.Time         `json:"created"`
	Updated  time.Time         `json:"updated,omitzero"`
}

// Zone is the availability zone of the aggregate's hosts, or empty.
func (a Aggregate) Zone() string { return a.Metadata[zoneKey] }

// Aggregates are all of them.
type Aggregates struct {
	table *table[Aggregate]
	host  string
	now   func() time.Time
}

func openAggregates(ctx context.Context, cfg Config) (*Aggregates, error) {
	t, err := openTable[Aggregate](ctx, cfg.Store, "aggregate")
	return &Aggregates{table: t, host: cfg.Host, now: cfg.Now}, err
}

// All returns the aggregates, oldest first.
func (g *Aggregates) All() []Aggregate {
	list := g.table.all(nil)
	slices.SortFunc(list, func(a, b Aggregate) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Find returns an aggregate.
func (g *Aggregates) Find(id int) (Aggregate, error) {
	a, ok := g.table.get(strconv.Itoa(id))
	if !ok {
		return a, noAggregate(id)
	}
	return a, nil
}

func noAggregate(id int) error {
	return launcher.Errorf(launcher.ErrNotFound, "Aggregate %d could not be found.", id)
}

// Create adds an aggregate, with a zone unless that is empty.
func (g *Aggregates) Create(ctx context.Context, name, zone string) (Aggregate, error) {
	a := Aggregate{UUID: uuid.NewString(), Name: name, Hosts: []string{}, Metadata: map[string]string{}, Created: g.now()}
	if zone != "" {
		a.Metadata[zoneKey] = zone
	}
	return g.table.add(ctx, func() (string, Aggregate, error) {
		a.ID = 1
		for _, other := range g.table.rows {
			a.ID = max(a.ID, other.ID+1)
		}
		return strconv.Itoa(a.ID), a, g.nameFree(a)
	})
}

// nameFree refuses the name of another aggregate, under the table's lock.
func (g *Aggregates) nameFree(a Aggregate) error {
	for _, other := range g.table.rows {
		if other.Name == a.Name && other.ID != a.ID {
			return launcher.Errorf(launcher.ErrConflict, "Aggregate %s already exists.", a.Name)
		}
	}
	return nil
}

// Update changes an aggregate.
func (g *Aggregates) Update(ctx context.Context, id int, change func(*Aggregate) error) (Aggregate, error) {
	return g.table.change(ctx, strconv.Itoa(id), func(a Aggregate, exists bool) (Aggregate, error) {
		if !exists {
			return a, noAggregate(id)
		}
		a.Hosts, a.Metadata = slices.Clone(a.Hosts), maps.Clone(a.Metadata)
		if err := change(&a); err != nil {
			return a, err
		}
		a.Updated = g.now()
		return a, g.nameFree(a)
	})
}

// SetMetadata changes an aggregate's metadata; nil takes an item out.
func (g *Aggregates) SetMetadata(ctx context.Context, id int, items map[string]*string) (Aggregate, error) {
	return g.Update(ctx, id, func(a *Aggregate) error {
		for k, v := range items {
			switch {
			case v != nil:
				a.Metadata[k] = *v
			case k == zoneKey:
				return launcher.Errorf(launcher.ErrInvalid,
					"Cannot update metadata of aggregate %d. Reason: Aggregate %s does not support empty named availability zone", id, a.Name)
			default:
				delete(a.Metadata, k)
			}
		}
		return nil
	})
}

// AddHost puts this host into an aggregate: there is no other.
func (g *Aggregates) AddHost(ctx context.Context, id int, host string) (Aggregate, error) {
	if host != g.host {
		return Aggregate{}, launcher.Errorf(launcher.ErrNotFound, "Compute host %s could not be found.", host)
	}
	zones := map[string]bool{}
	for _, other := range g.All() {
		if other.ID != id && slices.Contains(other.Hosts, host) && other.Zone() != "" {
			zones[other.Zone()] = true
		}
	}
	return g.Update(ctx, id, func(a *Aggregate) error {
		if slices.Contains(a.Hosts, host) {
			return launcher.Errorf(launcher.ErrConflict, "Aggregate %d already has host %s.", id, host)
		}
		if zone := a.Zone(); zone != "" && len(zones) > 0 && !zones[zone] {
			return launcher.Errorf(launcher.ErrConflict,
				"Cannot add host to aggregate %d. Reason: One or more hosts already in availability zone(s) %v", id, slices.Sorted(maps.Keys(zones)))
		}
		a.Hosts = append(a.Hosts, host)
		return nil
	})
}

// RemoveHost takes a host out of an aggregate.
func (g *Aggregates) RemoveHost(ctx context.Context, id int, host string) (Aggregate, error) {
	return g.Update(ctx, id, func(a *Aggregate) error {
		i := slices.Index(a.Hosts, host)
		if i < 0 {
			return launcher.Errorf(launcher.ErrNotFound, "Cannot remove host %s in aggregate %d", host, id)
		}
		a.Hosts = slices.Delete(a.Hosts, i, i+1)
		return nil
	})
}

// Delete forgets an aggregate that has no hosts.
func (g *Aggregates) Delete(ctx context.Context, id int) error {
	a, err := g.Find(id)
	if err != nil {
		return err
	}
	if len(a.Hosts) > 0 {
		return launcher.Errorf(launcher.ErrInvalid, "Cannot delete aggregate %d. Reason: Host aggregate is not empty", id)
	}
	_, err = g.table.drop(ctx, strconv.Itoa(id))
	return err
}
