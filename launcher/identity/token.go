package identity

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Token is what a valid token stands for, with the records as they are now.
type Token struct {
	User       User
	UserDomain Project
	Methods    []string // how its owner logged in
	Audit      []string // the token's own audit id, then that of the first of its chain
	Issued     time.Time
	Expires    time.Time

	// The scope: a project, or a domain, or the system, or none of them.
	Project       Project // its ID is empty where the scope is no project
	ProjectDomain Project
	Domain        Project
	System        bool
	Roles         []Role // in this scope, by name
	// Credential is set where the token was got by an application credential.
	Credential *ApplicationCredential
	// Trust is set where it was got by a trust; User is the trustor if it impersonates.
	Trust *Trust
}

// claims is what a token's text carries.
type claims struct {
	User       string   `json:"u"`
	Methods    []string `json:"m"`
	Audit      []string `json:"a"`
	Issued     int64    `json:"i"` // nanoseconds
	Expires    int64    `json:"e"` // nanoseconds
	Project    string   `json:"p,omitempty"`
	Domain     string   `json:"d,omitempty"`
	System     bool     `json:"s,omitempty"`
	Credential string   `json:"c,omitempty"`
	Trust      string   `json:"t,omitempty"`
}

// Validate returns what a token stands for. An error that matches ErrUnauthorized
// says that it is not valid (any more).
func (d *Directory) Validate(_ context.Context, text string) (*Token, error) {
	c, err := d.unseal(text)
	if err != nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if _, revoked := d.revocations.Rows[c.Audit[0]]; revoked {
		return nil, ErrUnauthorized
	}
	return d.resolve(c)
}

func (d *Directory) unseal(text string) (claims, error) {
	var c claims
	plain, err := d.cfg.Keys.open(text)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(plain, &c); err != nil || len(c.Audit) == 0 {
		return c, ErrUnauthorized
	}
	return c, nil
}

// resolve looks up what a token's claims come to.
func (d *Directory) resolve(c claims) (*Token, error) {
	t := &Token{
		Methods: c.Methods, Audit: c.Audit, System: c.System,
		Issued: time.Unix(0, c.Issued).UTC(), Expires: time.Unix(0, c.Expires).UTC(),
	}
	now := d.cfg.Now()
	if !now.Before(t.Expires) {
		return nil, ErrUnauthorized
	}
	if !d.active(c.User, t.Issued) {
		return nil, ErrUnauthorized
	}
	user := d.users.Rows[c.User]
	owner := user.ID // of the roles
	if c.Trust != "" {
		trust, ok := d.trusts.Rows[c.Trust]
		if !ok || trust.Trustee != user.ID || trust.expired(now) || !d.active(trust.Trustor, t.Issued) {
			return nil, ErrUnauthorized
		}
		t.Trust, owner = &trust, trust.Trustor
		if trust.Impersonation {
			user = d.users.Rows[trust.Trustor]
		}
	}
	t.User, t.UserDomain = user, d.projects.Rows[user.DomainID]
	scope := c.Project
	if scope == "" {
		scope = c.Domain
	}
	if scope != "" && !d.open(scope, t.Issued) {
		return nil, ErrUnauthorized
	}
	if p := d.projects.Rows[scope]; p.IsDomain {
		t.Domain = p
	} else {
		t.Project, t.ProjectDomain = p, d.projects.Rows[p.DomainID]
	}
	if scope != "" || c.System {
		t.Roles = d.rolesOn(owner, scope)
	}
	if c.Credential != "" {
		credential, ok := d.credentials.Rows[c.Credential]
		if !ok || !credential.Expires.IsZero() && !now.Before(credential.Expires) {
			return nil, ErrUnauthorized
		}
		t.Credential = &credential
		t.Roles = d.among(t.Roles, credential.Roles)
	}
	if t.Trust != nil {
		t.Roles = d.among(t.Roles, t.Trust.Roles)
		for _, id := range t.Trust.Roles {
			if !slices.ContainsFunc(t.Roles, func(r Role) bool { return r.ID == id }) {
				return nil, ErrUnauthorized // the trustor has it no more
			}
		}
	}
	if (scope != "" || c.System) && len(t.Roles) == 0 {
		return nil, ErrUnauthorized
	}
	return t, nil
}

// active reports whether a user may have tokens, and could since one was issued.
func (d *Directory) active(id string, issued time.Time) bool {
	u, ok := d.users.Rows[id]
	return ok && u.Enabled && issued.After(u.ShutBefore) && d.open(u.DomainID, issued)
}

// among leaves of roles those that others, by their IDs, are or imply.
func (d *Directory) among(roles []Role, others []string) []Role {
	allowed := d.withImplied(others)
	return slices.DeleteFunc(roles, func(r Role) bool {
		return !slices.ContainsFunc(allowed, func(a Role) bool { return a.ID == r.ID })
	})
}

// open reports whether a project or domain, and what it is in, is enabled and has
// been since a token was issued.
func (d *Directory) open(id string, issued time.Time) bool {
	for _, one := range append([]string{id}, d.above(id)...) {
		if p, ok := d.projects.Rows[one]; !ok || !p.Enabled || !issued.After(p.ShutBefore) {
			return false
		}
	}
	return true
}

// Discard makes one token invalid.
func (d *Directory) Discard(ctx context.Context, text string) error {
	if _, err := d.Validate(ctx, text); err != nil {
		return err
	}
	c, err := d.unseal(text)
	if err != nil {
		return err
	}
	return d.change(ctx, func(tx *records.Tx) error {
		now := d.cfg.Now()
		records.DropAll(tx, &d.revocations, func(r revocation) bool { return now.After(r.Expires) })
		return records.Put(tx, &d.revocations, c.Audit[0], revocation{c.Audit[0], time.Unix(0, c.Expires)})
	})
}
