package identity

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Trust lets one user, the trustee, act with roles of another, the trustor, in one
// project.
type Trust struct {
	ID      string   `json:"id"`
	Trustor string   `json:"trustor"` // ID
	Trustee string   `json:"trustee"` // ID
	Project string   `json:"project,omitempty"`
	Roles   []string `json:"roles,omitempty"` // ids
	// Impersonation makes the trustee's tokens those of the trustor.
	Impersonation bool      `json:"impersonation,omitempty"`
	Expires       time.Time `json:"expires,omitzero"`
	// Uses is how many tokens may still be had; nil: any number.
	Uses *int `json:"uses,omitempty"`
}

// expired reports whether no token is to be had by the trust any more.
func (t Trust) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// Trust returns one that is still good.
func (d *Directory) Trust(id string) (Trust, error) {
	t, err := show(d, &d.trusts, "trust", id)
	if err == nil && (t.expired(d.cfg.Now()) || t.Uses != nil && *t.Uses == 0) {
		return t, notFound("trust", id)
	}
	return t, err
}

// Trusts lists those that pass and are still good, by their IDs.
func (d *Directory) Trusts(pass func(Trust) bool) []Trust {
	now := d.cfg.Now()
	return list(d, &d.trusts, func(t Trust) bool {
		return !t.expired(now) && (t.Uses == nil || *t.Uses > 0) && pass(t)
	}, func(t Trust) string { return t.ID })
}

// CreateTrust keeps a trust, and gives it an ID. Its roles are named by id or name; the
// trustor must have them on the project.
func (d *Directory) CreateTrust(ctx context.Context, t Trust) (Trust, error) {
	switch {
	case t.expired(d.cfg.Now()):
		return t, invalid("Invalid input for field 'expires_at': it is in the past.")
	case t.Uses != nil && *t.Uses < 1:
		return t, invalid("Invalid input for field 'remaining_uses': it is at least 1, or null.")
	case t.Project != "" && len(t.Roles) == 0:
		return t, forbidden("At least one role should be specified.")
	}
	t.ID = newID()
	return t, d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.users.Rows[t.Trustee]; !ok {
			return notFound("user", t.Trustee)
		}
		if _, ok := d.projects.Rows[t.Project]; t.Project != "" && !ok {
			return notFound("project", t.Project)
		}
		has := d.rolesOn(t.Trustor, t.Project)
		for i, name := range t.Roles {
			at := slices.IndexFunc(has, func(r Role) bool { return r.ID == name || r.Name == name })
			if at < 0 || t.Project == "" {
				return notFound("role", name)
			}
			t.Roles[i] = has[at].ID
		}
		now := d.cfg.Now()
		records.DropAll(tx, &d.trusts, func(o Trust) bool { return o.expired(now) })
		return records.Put(tx, &d.trusts, t.ID, t)
	})
}

// DeleteTrust removes a trust; its tokens are worth nothing from then on.
func (d *Directory) DeleteTrust(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.trusts.Rows[id]; !ok {
			return notFound("trust", id)
		}
		records.Drop(tx, &d.trusts, id)
		return nil
	})
}

// useTrust takes one use of a trust, and makes a token's claims those of its trustee.
func (d *Directory) useTrust(ctx context.Context, c *claims, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		t, ok := d.trusts.Rows[id]
		switch {
		case !ok || t.expired(d.cfg.Now()) || t.Uses != nil && *t.Uses == 0:
			return ErrUnauthorized
		case t.Trustee != c.User:
			return forbidden("User is not a trustee.")
		case c.Credential != "":
			return forbidden("Application credentials cannot request a scope.")
		}
		c.Trust, c.Project = t.ID, t.Project
		if !t.Expires.IsZero() {
			c.Expires = min(c.Expires, t.Expires.UnixNano())
		}
		if t.Uses == nil {
			return nil
		}
		left := *t.Uses - 1
		t.Uses = &left
		return records.Put(tx, &d.trusts, t.ID, t)
	})
}
