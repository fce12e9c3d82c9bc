package openstack

import (
	"context"
	"slices"
)

// The roles that policies speak of. Admin implies member, and member implies reader.
const (
	Admin  = "admin"
	Member = "member"
	Reader = "reader"
)

// Caller is who makes a request, and in whose name: what a valid token says.
type Caller struct {
	UserID, UserName, UserDomainID          string
	ProjectID, ProjectName, ProjectDomainID string // empty without a project scope

	DomainID string // of a token for a domain
	System   bool   // a token for the whole system
	Roles    []string
	// Allows says which requests of a service, by its type, a token with access rules
	// may make; nil: all.
	Allows func(service, method, path string) bool
	// RequestID is that of the request being answered, for records and logs.
	RequestID string
}

// Has reports whether the caller has a role, by itself or implied by a higher one.
func (c *Caller) Has(role string) bool {
	if c == nil {
		return false
	}
	for _, has := range c.Roles {
		if has == role {
			return true
		}
	}
	switch role {
	case Member:
		return slices.Contains(c.Roles, Admin)
	case Reader:
		return slices.Contains(c.Roles, Admin) || slices.Contains(c.Roles, Member)
	}
	return false
}

type callerKey struct{}

// WithCaller returns a context that carries who calls.
func WithCaller(ctx context.Context, c *Caller) context.Context {
	if x := ExchangeOf(ctx); x != nil {
		x.Caller = c
	}
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf is who calls; nil where nobody was authenticated.
func CallerOf(ctx context.Context) *Caller {
	c, _ := ctx.Value(callerKey{}).(*Caller)
	return c
}
