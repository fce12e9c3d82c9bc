package compute

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
)

// Flavor is a size of server as the API shows it.
type Flavor struct {
	ID          string            `json:"id"`
	Number      int               `json:"number"` // in the order of creation; those of the configuration come first
	Name        string            `json:"name"`
	VCPUs       int               `json:"vcpus"`
	RAM         int               `json:"ram"`       // MiB
	Disk        int               `json:"disk"`      // GiB; 0: the default flavor's
	Ephemeral   int               `json:"ephemeral"` // GiB
	Swap        int               `json:"swap"`      // MiB
	RXTXFactor  float64           `json:"rxtx_factor"`
	Private     bool              `json:"private,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	Description *string           `json:"description,omitempty"`
	ExtraSpecs  map[string]string `json:"extra_specs,omitempty"`
	Projects    []string          `json:"projects,omitempty"` // that may use a private flavor
	Created     time.Time         `json:"created"`
	Updated     time.Time         `json:"updated,omitzero"`
	// Configured is the size of a flavor that stands in the configuration; such a
	// flavor's record holds what the API has added to it.
	Configured *launcher.Flavor `json:"-"`
}

// Usable reports whether a project may use the flavor.
func (f Flavor) Usable(project string) bool {
	return !f.Private || slices.Contains(f.Projects, project)
}

// Flavors are the sizes that servers may have.
type Flavors struct {
	configured  map[string]Flavor // by ID, without what the API has added
	table       *table[Flavor]
	defaultDisk int64 // bytes
	now         func() time.Time
}

func openFlavors(ctx context.Context, cfg Config) (*Flavors, error) {
	t, err := openTable[Flavor](ctx, cfg.Store, "flavor")
	if err != nil {
		return nil, err
	}
	f := &Flavors{configured: map[string]Flavor{}, table: t, defaultDisk: 1 << 30, now: cfg.Now}
	for n, size := range cfg.Flavors {
		// The name is as good an ID as any, and lasts as long as the flavor.
		f.configured[size.Name] = Flavor{
			ID: size.Name, Number: n - len(cfg.Flavors), Name: size.Name, VCPUs: size.VCPUs,
			RAM: int(ceil(size.Memory, 1<<20)), Disk: int(ceil(size.Disk, 1<<30)), RXTXFactor: 1, Configured: &size,
		}
		if size.Name == cfg.DefaultFlavor {
			f.defaultDisk = size.Disk
		}
	}
	for _, stored := range t.all(nil) {
		if f.shadowed(stored) {
			cfg.Log.Warn("flavor left out: the configuration has one of its name", slog.String("flavor", stored.ID))
		}
	}
	return f, nil
}

// shadowed reports whether a created flavor has the name of a configured one.
func (f *Flavors) shadowed(stored Flavor) bool {
	_, ok := f.configured[stored.Name]
	return ok && stored.ID != stored.Name
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// seen is a flavor as it is shown: size from the configuration, where that has it,
// and the rest from the record.
func (f *Flavors) seen(id string, stored Flavor, exists bool) (Flavor, bool) {
	base, configured := f.configured[id]
	switch {
	case !exists:
		stored = base
	case configured:
		base.Private, base.Description, base.Projects = stored.Private, stored.Description, stored.Projects
		base.ExtraSpecs, base.Updated = stored.ExtraSpecs, stored.Updated
		stored = base
	case f.shadowed(stored) || stored.VCPUs == 0: // or of a configuration that is no more
		return Flavor{}, false
	}
	stored.ExtraSpecs = maps.Clone(stored.ExtraSpecs)
	stored.Projects = slices.Clone(stored.Projects)
	return stored, exists || configured
}

// All returns the flavors that want holds of, by ID; nil wants all.
func (f *Flavors) All(want func(Flavor) bool) []Flavor {
	f.table.mu.RLock()
	defer f.table.mu.RUnlock()
	return f.some(want)
}

// some is All under the table's lock.
func (f *Flavors) some(want func(Flavor) bool) []Flavor {
	ids := slices.Collect(maps.Keys(f.configured))
	for id := range f.table.rows {
		if _, ok := f.configured[id]; !ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	var list []Flavor
	for _, id := range ids {
		stored, exists := f.table.rows[id]
		if flavor, ok := f.seen(id, stored, exists); ok && (want == nil || want(flavor)) {
			list = append(list, flavor)
		}
	}
	return list
}

// Find returns the flavor with an ID, whoever may use it.
func (f *Flavors) Find(id string) (Flavor, error) {
	stored, exists := f.table.get(id)
	flavor, ok := f.seen(id, stored, exists)
	if !ok {
		return Flavor{}, noFlavor(id)
	}
	return flavor, nil
}

func noFlavor(id string) error {
	return launcher.Errorf(launcher.ErrNotFound, "Flavor %s could not be found.", id)
}

// Flavor returns the size of the flavor with an ID for a server of a project.
// Administrators may use those of all projects.
func (f *Flavors) Flavor(project, id string, admin bool) (launcher.Flavor, error) {
	flavor, err := f.Find(id)
	if err != nil || !admin && !flavor.Usable(project) || flavor.Disabled {
		return launcher.Flavor{}, noFlavor(id)
	}
	return f.Size(flavor), nil
}

// Size is a flavor as servers keep it.
func (f *Flavors) Size(flavor Flavor) launcher.Flavor {
	size := launcher.Flavor{
		Name: flavor.Name, VCPUs: flavor.VCPUs, Memory: int64(flavor.RAM) << 20, Disk: int64(flavor.Disk) << 30,
	}
	if flavor.Configured != nil {
		size = *flavor.Configured
	}
	if size.Disk == 0 {
		size.Disk = f.defaultDisk
	}
	size.ID, size.ExtraSpecs = flavor.ID, flavor.ExtraSpecs
	size.Ephemeral, size.Swap = int64(flavor.Ephemeral)<<30, int64(flavor.Swap)<<20
	return size
}

// Create adds a flavor. Without an ID it gets a UUID.
func (f *Flavors) Create(ctx context.Context, flavor Flavor) (Flavor, error) {
	if flavor.ID == "" {
		flavor.ID = uuid.NewString()
	}
	flavor.Created = f.now()
	flavor.Number = 1
	flavor, err := f.table.change(ctx, flavor.ID, func(_ Flavor, _ bool) (Flavor, error) {
		for _, other := range f.some(nil) {
			switch {
			case other.Name == flavor.Name:
				return Flavor{}, launcher.Errorf(launcher.ErrConflict, "Flavor with name %s already exists.", flavor.Name)
			case other.ID == flavor.ID:
				return Flavor{}, launcher.Errorf(launcher.ErrConflict, "Flavor with ID %s already exists.", flavor.ID)
			}
			flavor.Number = max(flavor.Number, other.Number+1)
		}
		return flavor, nil
	})
	return flavor, err
}

// Update changes what f makes of a flavor: description, extra specs and projects;
// not its size, which servers were made by.
func (f *Flavors) Update(ctx context.Context, id string, change func(*Flavor) error) (Flavor, error) {
	var changed Flavor
	_, err := f.table.change(ctx, id, func(stored Flavor, exists bool) (Flavor, error) {
		flavor, ok := f.seen(id, stored, exists)
		if !ok {
			return Flavor{}, noFlavor(id)
		}
		if err := change(&flavor); err != nil {
			return Flavor{}, err
		}
		flavor.Updated = f.now()
		changed = flavor
		if flavor.Configured != nil {
			flavor.VCPUs = 0 // the configuration's to say
		}
		return flavor, nil
	})
	return changed, err
}

// Delete removes a flavor that was created. Servers keep their size.
func (f *Flavors) Delete(ctx context.Context, id string) error {
	if _, ok := f.configured[id]; ok {
		return launcher.Errorf(launcher.ErrConflict, "Flavor %s is one of the configuration's: take it out there.", id)
	}
	if existed, err := f.table.drop(ctx, id); err != nil || existed {
		return err
	}
	return noFlavor(id)
}

// byNumber orders flavors as they were created.
func byNumber(a, b Flavor) int { return cmp.Compare(a.Number, b.Number) }

// SortKeys are the keys that flavors can be ordered by.
var SortKeys = map[string]func(a, b Flavor) int{
	"flavorid":     func(a, b Flavor) int { return cmp.Compare(a.ID, b.ID) },
	"id":           byNumber,
	"created_at":   byNumber,
	"updated_at":   func(a, b Flavor) int { return a.Updated.Compare(b.Updated) },
	"name":         func(a, b Flavor) int { return cmp.Compare(a.Name, b.Name) },
	"memory_mb":    func(a, b Flavor) int { return cmp.Compare(a.RAM, b.RAM) },
	"vcpus":        func(a, b Flavor) int { return cmp.Compare(a.VCPUs, b.VCPUs) },
	"root_gb":      func(a, b Flavor) int { return cmp.Compare(a.Disk, b.Disk) },
	"ephemeral_gb": func(a, b Flavor) int { return cmp.Compare(a.Ephemeral, b.Ephemeral) },
	"swap":         func(a, b Flavor) int { return cmp.Compare(a.Swap, b.Swap) },
	"rxtx_factor":  func(a, b Flavor) int { return cmp.Compare(a.RXTXFactor, b.RXTXFactor) },
	"vcpu_weight":  func(Flavor, Flavor) int { return 0 },
	"description":  func(a, b Flavor) int { return cmp.Compare(text(a.Description), text(b.Description)) },
	"disabled":     func(a, b Flavor) int { return falseFirst(a.Disabled, b.Disabled) },
	"is_public":    func(a, b Flavor) int { return falseFirst(!a.Private, !b.Private) },
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
