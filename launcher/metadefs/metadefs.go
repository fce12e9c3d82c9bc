package metadefs

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Caller is who asks.
type Caller struct {
	Project string
	Admin   bool
}

func (c Caller) sees(n *Namespace) bool { return c.Admin || n.Public || n.Owner == c.Project }

// Definitions holds namespaces. Its methods are safe for concurrent use.
type Definitions struct {
	store records.Store
	now   func() time.Time

	mu         sync.Mutex
	namespaces records.Table[Namespace] // by name
}

// Open reads the definitions.
func Open(ctx context.Context, store records.Store) (*Definitions, error) {
	d := &Definitions{store: store, now: func() time.Time { return time.Now().UTC() }}
	if err := d.namespaces.Load("metadata namespace")(ctx, store); err != nil {
		return nil, err
	}
	return d, nil
}

// All returns the namespaces that a caller may know of, the newest first.
func (d *Definitions) All(who Caller) []Namespace {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []Namespace
	for _, n := range d.namespaces.Rows {
		if who.sees(&n) {
			all = append(all, n.clone())
		}
	}
	slices.SortFunc(all, func(a, b Namespace) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all
}

// Find returns a namespace.
func (d *Definitions) Find(who Caller, name string) (Namespace, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.find(who, name)
}

func (d *Definitions) find(who Caller, name string) (Namespace, error) {
	n, ok := d.namespaces.Rows[name]
	if !ok || !who.sees(&n) {
		return Namespace{}, launcher.Errorf(launcher.ErrNotFound, "Metadata definition namespace=%s was not found.", name)
	}
	return n.clone(), nil
}

// Create adds a namespace, whose owner is the caller's project where it names none.
func (d *Definitions) Create(ctx context.Context, who Caller, n Namespace) (Namespace, error) {
	if n.Owner == "" {
		n.Owner = who.Project
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n.Created = d.now()
	n.Updated = n.Created
	for i := range n.Associations {
		n.Associations[i].Created, n.Associations[i].Updated = n.Created, n.Created
	}
	for i := range n.Objects {
		n.Objects[i].Created, n.Objects[i].Updated = n.Created, n.Created
	}
	for i := range n.Tags {
		n.Tags[i].Created, n.Tags[i].Updated = n.Created, n.Created
	}
	return n, d.put(ctx, "", n)
}

// put stores what was the namespace before; d.mu is held.
func (d *Definitions) put(ctx context.Context, before string, n Namespace) error {
	if err := n.Check(); err != nil {
		return err
	}
	var tx records.Tx
	if before != n.Name {
		if _, ok := d.namespaces.Rows[n.Name]; ok {
			return launcher.Errorf(launcher.ErrConflict, "The metadata definition namespace=%s already exists.", n.Name)
		}
		if before != "" {
			records.Drop(&tx, &d.namespaces, before)
		}
	}
	if err := records.Put(&tx, &d.namespaces, n.Name, n); err != nil {
		return err
	}
	return tx.Commit(ctx, d.store)
}

// Change changes a namespace, perhaps its name. The function is told the time, and
// must not call the definitions.
func (d *Definitions) Change(ctx context.Context, who Caller, name string, change func(n *Namespace, now time.Time) error) (Namespace, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(who, name)
	if err != nil {
		return Namespace{}, err
	}
	now := d.now()
	if err := change(&n, now); err != nil {
		return Namespace{}, err
	}
	n.Updated = now
	return n, d.put(ctx, name, n)
}

// Delete removes a namespace that is not protected.
func (d *Definitions) Delete(ctx context.Context, who Caller, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(who, name)
	if err != nil {
		return err
	}
	if err := n.Deletable(); err != nil {
		return err
	}
	var tx records.Tx
	records.Drop(&tx, &d.namespaces, name)
	return tx.Commit(ctx, d.store)
}

// Deletable is an error for a namespace that is protected.
func (n *Namespace) Deletable() error {
	if n.Protected {
		return launcher.Errorf(launcher.ErrForbidden, "Metadata definition namespace %s is protected and cannot be deleted.", n.Name)
	}
	return nil
}

// Resources are the types of resources whose properties mean something here.
var Resources = []string{"OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server"}

// ResourceTypes returns the names of those, and of what namespaces are associated with.
func (d *Definitions) ResourceTypes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Clone(Resources)
	for _, n := range d.namespaces.Rows {
		for _, a := range n.Associations {
			all = append(all, a.Type)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
