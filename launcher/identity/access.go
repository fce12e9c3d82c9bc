package identity

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/launcher/records"
)

// AccessRule is a request that application credentials with it may make. It is its
// user's, who may have several credentials with it.
type AccessRule struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Service string    `json:"service"` // type, as in the catalog
	Method  string    `json:"method"`
	Path    string    `json:"path"` // "*" and {name} are a segment, "**" any
	Created time.Time `json:"created"`
}

// Allows reports whether a request is one of the rule's.
func (a AccessRule) Allows(service, method, path string) bool {
	return a.Service == service && a.Method == method && matchPath(strings.Split(a.Path, "/"), strings.Split(path, "/"))
}

func matchPath(pattern, path []string) bool {
	for i, p := range pattern {
		switch {
		case p == "**":
			for n := i; n <= len(path); n++ {
				if matchPath(pattern[i+1:], path[n:]) {
					return true
				}
			}
			return false
		case i >= len(path):
			return false
		case p == "*" || strings.HasPrefix(p, "{") && strings.HasSuffix(p, "}"):
			if path[i] == "" {
				return false
			}
		case p != path[i]:
			return false
		}
	}
	return len(pattern) == len(path)
}

var accessMethods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// AccessRules lists a user's, oldest first.
func (d *Directory) AccessRules(user string) []AccessRule {
	return list(d, &d.access, func(a AccessRule) bool { return a.User == user }, func(a AccessRule) string {
		return a.Created.UTC().Format("2006-01-02T15:04:05.000000000")
	})
}

// AccessRule returns one by its ID.
func (d *Directory) AccessRule(id string) (AccessRule, error) {
	return show(d, &d.access, "access rule", id)
}

// DeleteAccessRule removes a rule that no application credential has.
func (d *Directory) DeleteAccessRule(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.access.Rows[id]; !ok {
			return notFound("access rule", id)
		}
		if _, used := d.credentials.Find(func(c ApplicationCredential) bool { return slices.Contains(c.Rules, id) }); used {
			return forbidden("The access rule %s is in use by an application credential.", id)
		}
		records.Drop(tx, &d.access, id)
		return nil
	})
}

// keepRules gives rules their IDs, those that the user has already the same; d.mu is
// held.
func (d *Directory) keepRules(tx *records.Tx, user string, rules []AccessRule) ([]string, error) {
	var ids []string
	now := d.cfg.Now()
	for i, a := range rules {
		if a.ID != "" {
			if kept, ok := d.access.Rows[a.ID]; !ok || kept.User != user {
				return nil, notFound("access rule", a.ID)
			}
			ids = append(ids, a.ID)
			continue
		}
		if a.Service == "" || !strings.HasPrefix(a.Path, "/") || !slices.Contains(accessMethods, a.Method) {
			return nil, invalid("Invalid input for field 'access_rules': a rule has service, path and method, which is one of %s.", strings.Join(accessMethods, ", "))
		}
		same, ok := d.access.Find(func(o AccessRule) bool {
			return o.User == user && o.Service == a.Service && o.Method == a.Method && o.Path == a.Path
		})
		if !ok {
			same = a
			same.ID, same.User, same.Created = newID(), user, now.Add(time.Duration(i))
			if err := records.Put(tx, &d.access, same.ID, same); err != nil {
				return nil, err
			}
		}
		ids = append(ids, same.ID)
	}
	return ids, nil
}

// RulesOf are an application credential's rules; nil: it may make every request.
func (d *Directory) RulesOf(c *ApplicationCredential) []AccessRule {
	if c == nil || len(c.Rules) == 0 {
		return nil
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	rules := []AccessRule{}
	for _, id := range c.Rules {
		if a, ok := d.access.Rows[id]; ok {
			rules = append(rules, a)
		}
	}
	return rules
}
