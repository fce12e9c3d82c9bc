package identity

import (
	"maps"
	"slices"
	"time"
)

// DefaultDomain is the id of the domain that is always there.
const DefaultDomain = "default"

// Project owns servers. One that IsDomain is a domain: it owns users, groups and
// projects.
type Project struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"` // unique in its domain
	DomainID    string         `json:"domain_id,omitempty"`
	ParentID    string         `json:"parent_id,omitempty"` // the domain, or another project of it
	IsDomain    bool           `json:"is_domain,omitempty"`
	Description string         `json:"description"`
	Enabled     bool           `json:"enabled"`
	Tags        []string       `json:"tags,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"` // what clients set besides
	// ShutBefore makes the tokens of before invalid.
	ShutBefore time.Time `json:"shut_before,omitzero"`
}

// User is a person or a program.
type User struct {
	ID             string         `json:"id"`
	Name           string         `json:"name"` // unique in its domain
	DomainID       string         `json:"domain_id"`
	DefaultProject string         `json:"default_project_id,omitempty"`
	Enabled        bool           `json:"enabled"`
	Options        map[string]any `json:"options,omitempty"`
	Extra          map[string]any `json:"extra,omitempty"` // description, email and what else clients set
	// Password is the hash of the password, empty where there is none.
	Password   string    `json:"password,omitempty"`
	ShutBefore time.Time `json:"shut_before,omitzero"`
}

// Group is a set of users of a domain.
type Group struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"` // unique in its domain
	DomainID    string         `json:"domain_id"`
	Description string         `json:"description"`
	Members     []string       `json:"members,omitempty"` // users' ids
	Extra       map[string]any `json:"extra,omitempty"`
}

// Role is a word that policies know.
type Role struct {
	ID          string         `json:"id"`
	Name        string         `json:"name"` // unique in its domain, or among those of none
	DomainID    string         `json:"domain_id,omitempty"`
	Description string         `json:"description,omitempty"`
	Implies     []string       `json:"implies,omitempty"` // roles' ids
	Options     map[string]any `json:"options,omitempty"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Assignment gives a user or a group a role on one target: a project, a domain
// (Project is its id then) or, where Project is empty, the system.
type Assignment struct {
	Role      string `json:"role"`
	User      string `json:"user,omitempty"`
	Group     string `json:"group,omitempty"`
	Project   string `json:"project,omitempty"`
	Inherited bool   `json:"inherited,omitempty"` // it holds below the target, not on it
}

func (a Assignment) key() string {
	key := a.Role + "/" + a.User + "/" + a.Group + "/" + a.Project
	if a.Inherited {
		key += "/inherited"
	}
	return key
}

// ApplicationCredential lets a program act for a user in one project, with a secret
// of its own.
type ApplicationCredential struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"` // unique among the user's
	Description  string    `json:"description,omitempty"`
	User         string    `json:"user"`
	Project      string    `json:"project"`
	Roles        []string  `json:"roles"` // ids
	Expires      time.Time `json:"expires,omitzero"`
	Unrestricted bool      `json:"unrestricted,omitempty"` // may make others like it
	Secret       string    `json:"secret"`                 // its hash
	Rules        []string  `json:"rules,omitempty"`        // ids of access rules; none: it may do all
}

// revocation makes one token invalid; it is kept until the token would expire.
type revocation struct {
	Audit   string    `json:"audit"`
	Expires time.Time `json:"expires"`
}

// Service is a service of the catalog that somebody has added to Slipway's own.
type Service struct {
	ID          string         `json:"id"`
	Type        string         `json:"type"`
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Enabled     bool           `json:"enabled"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Endpoint is where such a service is reached.
type Endpoint struct {
	ID          string         `json:"id"`
	Service     string         `json:"service_id"`
	Interface   string         `json:"interface"` // public, internal or admin
	Region      string         `json:"region_id,omitempty"`
	URL         string         `json:"url"`
	Name        string         `json:"name,omitempty"`
	Description string         `json:"description,omitempty"`
	Enabled     bool           `json:"enabled"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Region groups endpoints.
type Region struct {
	ID          string         `json:"id"`
	Parent      string         `json:"parent_region_id,omitempty"`
	Description string         `json:"description"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// Immutable reports whether options forbid to change or delete what they belong to.
func Immutable(options map[string]any) bool { return options["immutable"] == true }

// sorted returns the rows that pass, in the order of a text.
func sorted[T any](rows map[string]T, pass func(T) bool, by func(T) string) []T {
	list := []T{}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if v := rows[key]; pass == nil || pass(v) {
			list = append(list, v)
		}
	}
	slices.SortStableFunc(list, func(a, b T) int {
		switch x, y := by(a), by(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return list
}
