package compute

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
)

// The policies of server groups. On one host, affinity always holds, and the soft
// ones are content with anything.
const (
	Affinity         = "affinity"
	AntiAffinity     = "anti-affinity"
	SoftAffinity     = "soft-affinity"
	SoftAntiAffinity = "soft-anti-affinity"
)

// Group is a server group.
type Group struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Policy  string    `json:"policy"`
	PerHost int       `json:"max_server_per_host,omitempty"` // with AntiAffinity; 0: not set, 1
	Project string    `json:"project_id"`
	UserID  string    `json:"user_id"`
	Created time.Time `json:"created"`
	// Members are the IDs of the servers that say they are in it, oldest first.
	Members []string `json:"-"`
}

// Groups are the server groups of all projects.
type Groups struct {
	table   *table[Group]
	quotas  *Quotas
	servers iter.Seq[*launcher.Server]
	now     func() time.Time
}

func openGroups(ctx context.Context, cfg Config, q *Quotas) (*Groups, error) {
	t, err := openTable[Group](ctx, cfg.Store, "server group")
	return &Groups{table: t, quotas: q, servers: cfg.Servers, now: cfg.Now}, err
}

// All returns the groups of a project, oldest first; of all projects where it is
// empty.
func (g *Groups) All(project string) []Group {
	list := g.table.all(func(x Group) bool { return project == "" || x.Project == project })
	slices.SortFunc(list, func(a, b Group) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	members := g.members()
	for i := range list {
		list[i].Members = members[list[i].ID]
	}
	return list
}

// Find returns a group.
func (g *Groups) Find(id string) (Group, error) {
	x, ok := g.table.get(id)
	if !ok {
		return Group{}, noGroup(id)
	}
	x.Members = g.members()[id]
	return x, nil
}

func noGroup(id string) error {
	return launcher.Errorf(launcher.ErrNotFound, "Instance group %s could not be found.", id)
}

// members are the IDs of servers by group, oldest first.
func (g *Groups) members() map[string][]string {
	type member struct {
		group, id string
		created   time.Time
	}
	var all []member
	for s := range g.servers {
		if s.Group != "" {
			all = append(all, member{s.Group, s.ID, s.Created})
		}
	}
	slices.SortFunc(all, func(a, b member) int { return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.id, b.id)) })
	members := map[string][]string{}
	for _, m := range all {
		members[m.group] = append(members[m.group], m.id)
	}
	return members
}

// Create adds a group.
func (g *Groups) Create(ctx context.Context, x Group) (Group, error) {
	x.ID, x.Created = uuid.NewString(), g.now()
	return g.table.change(ctx, x.ID, func(Group, bool) (Group, error) {
		theirs := len(g.table.some(func(o Group) bool { return o.Project == x.Project }))
		if limit := g.quotas.Limit(x.Project, x.UserID, ServerGroups); limit >= 0 && theirs >= limit {
			return x, launcher.Errorf(launcher.ErrForbidden, "Quota exceeded, too many server groups.")
		}
		return x, nil
	})
}

// count is how many groups a project has, or a user in it.
func (g *Groups) count(project, user string) int {
	return len(g.table.all(func(x Group) bool { return x.Project == project && (user == "" || x.UserID == user) }))
}

// Delete forgets a group. Its members are not touched.
func (g *Groups) Delete(ctx context.Context, id string) error {
	if existed, err := g.table.drop(ctx, id); err != nil || existed {
		return err
	}
	return noGroup(id)
}

// full reports whether another server would break the group's policy on this one
// host.
func (x Group) full() bool {
	return x.Policy == AntiAffinity && len(x.Members) >= max(1, x.PerHost)
}
