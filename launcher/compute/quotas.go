package compute

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/slipway-vm/slipway/launcher"
)

// Resource is something that a quota limits.
type Resource string

// The resources, in Nova's words. Those of networks are not limited here.
const (
	Instances          Resource = "instances"
	Cores              Resource = "cores"
	RAM                Resource = "ram" // MiB
	MetadataItems      Resource = "metadata_items"
	InjectedFiles      Resource = "injected_files"
	InjectedFileBytes  Resource = "injected_file_content_bytes"
	InjectedPathBytes  Resource = "injected_file_path_bytes"
	KeyPairs           Resource = "key_pairs"
	ServerGroups       Resource = "server_groups"
	ServerGroupMembers Resource = "server_group_members"
	FixedIPs           Resource = "fixed_ips"
	FloatingIPs        Resource = "floating_ips"
	SecurityGroups     Resource = "security_groups"
	SecurityGroupRules Resource = "security_group_rules"
)

// Unlimited is the limit that is none.
const Unlimited = -1

// Limits are the most that there may be of resources.
type Limits map[Resource]int

// defaults are Nova's.
var defaults = Limits{
	Instances: 10, Cores: 20, RAM: 50 << 10, MetadataItems: 128,
	InjectedFiles: 5, InjectedFileBytes: 10 << 10, InjectedPathBytes: 255,
	KeyPairs: 100, ServerGroups: 10, ServerGroupMembers: 10,
	FixedIPs: Unlimited, FloatingIPs: Unlimited, SecurityGroups: Unlimited, SecurityGroupRules: Unlimited,
}

// DefaultClass is the class whose limits hold where a project has none of its own.
const DefaultClass = "default"

// Quotas are the limits of all projects, and what they use.
type Quotas struct {
	classes *table[Limits] // by class
	limits  *table[Limits] // by project, or project/user
	servers iter.Seq[*launcher.Server]
	groups  func(project, user string) int // set when all is open

	admitting sync.Mutex // held from the check of a limit to the creation of what it is for
}

func openQuotas(ctx context.Context, cfg Config) (*Quotas, error) {
	classes, err := openTable[Limits](ctx, cfg.Store, "quota class")
	if err != nil {
		return nil, err
	}
	limits, err := openTable[Limits](ctx, cfg.Store, "quota")
	return &Quotas{classes: classes, limits: limits, servers: cfg.Servers}, err
}

// Class returns the limits of a class.
func (q *Quotas) Class(class string) Limits {
	all := maps.Clone(defaults)
	set, _ := q.classes.get(class)
	maps.Copy(all, set)
	return all
}

// SetClass changes limits of a class. Only those of [DefaultClass] have an effect.
func (q *Quotas) SetClass(ctx context.Context, class string, l Limits) error {
	return setLimits(ctx, q.classes, class, l)
}

// Limits returns those of a project, or, where user is not empty, of a user in it.
func (q *Quotas) Limits(project, user string) Limits {
	all := q.Class(DefaultClass)
	set, _ := q.limits.get(project)
	maps.Copy(all, set)
	if user != "" {
		set, _ = q.limits.get(keyOf(project, user))
		maps.Copy(all, set)
	}
	return all
}

// Limit is the most that a user may have of a resource.
func (q *Quotas) Limit(project, user string, r Resource) int { return q.Limits(project, user)[r] }

// SetLimits changes limits of a project, or of a user in it.
func (q *Quotas) SetLimits(ctx context.Context, project, user string, l Limits) error {
	key := project
	if user != "" {
		key = keyOf(project, user)
	}
	return setLimits(ctx, q.limits, key, l)
}

func setLimits(ctx context.Context, t *table[Limits], key string, l Limits) error {
	_, err := t.change(ctx, key, func(old Limits, exists bool) (Limits, error) {
		if !exists {
			return l, nil
		}
		old = maps.Clone(old)
		maps.Copy(old, l)
		return old, nil
	})
	return err
}

// Reset forgets what was set for a project, its users included, or for one user.
func (q *Quotas) Reset(ctx context.Context, project, user string) error {
	_, err := q.limits.remove(ctx, func(key string, _ Limits) bool {
		if user != "" {
			return key == keyOf(project, user)
		}
		return key == project || strings.HasPrefix(key, project+"/")
	})
	return err
}

// Used is how much there is of each resource in a project, or of a user in it.
// What is counted for each server, user or group by itself is 0, as in Nova.
func (q *Quotas) Used(project, user string) Limits {
	used := Limits{ServerGroups: q.groups(project, user)}
	for r := range defaults {
		used[r] += 0
	}
	for s := range q.servers {
		if s.Project != project || user != "" && s.User != user {
			continue
		}
		used[Instances]++
		used[Cores] += s.Flavor.VCPUs
		used[RAM] += int(ceil(s.Flavor.Memory, 1<<20))
	}
	return used
}

// check refuses what is more than a project's limits, or its user's, allow.
func (q *Quotas) check(project, user string, more Limits) error {
	for _, u := range slices.Compact([]string{"", user}) {
		limits, used := q.Limits(project, u), q.Used(project, u)
		var over []string
		for r, n := range more {
			if limits[r] != Unlimited && n > 0 && used[r]+n > limits[r] {
				over = append(over, string(r))
			}
		}
		if len(over) == 0 {
			continue
		}
		slices.Sort(over)
		list := func(of Limits) string {
			var words []string
			for _, r := range over {
				words = append(words, fmt.Sprint(of[Resource(r)]))
			}
			return strings.Join(words, ", ")
		}
		names := strings.Join(over, ", ")
		return launcher.Errorf(launcher.ErrForbidden, "Quota exceeded for %s: Requested %s, but already used %s of %s %s",
			names, list(more), list(used), list(limits), names)
	}
	return nil
}

// Metadata refuses more items than a server may have.
func (q *Quotas) Metadata(project, user string, items int) error {
	if limit := q.Limit(project, user, MetadataItems); limit != Unlimited && items > limit {
		return launcher.Errorf(launcher.ErrForbidden, "Maximum number of metadata items exceeds %d", limit)
	}
	return nil
}
