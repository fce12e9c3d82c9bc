package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Credential returns one application credential.
func (d *Directory) Credential(id string) (ApplicationCredential, error) {
	return show(d, &d.credentials, "application credential", id)
}

// Credentials lists the application credentials that pass, by name.
func (d *Directory) Credentials(pass func(ApplicationCredential) bool) []ApplicationCredential {
	return list(d, &d.credentials, pass, func(c ApplicationCredential) string { return c.Name })
}

// CreateCredential makes an application credential with a secret, which is made
// where it is empty, and returned. Its roles are those named, by id or name, or
// where none are all that the user has on the project. With rules it may make those
// requests alone.
func (d *Directory) CreateCredential(ctx context.Context, c ApplicationCredential, rules []AccessRule, secret string) (ApplicationCredential, string, error) {
	if err := checkName("application credential", c.Name); err != nil {
		return c, "", err
	}
	if !c.Expires.IsZero() && !c.Expires.After(d.cfg.Now()) {
		return c, "", invalid("The application credential's expires_at is in the past.")
	}
	if secret == "" {
		secret = newSecret(64)
	}
	var err error
	if c.Secret, err = d.hashes.hash(ctx, secret); err != nil {
		return c, "", err
	}
	c.ID = newID()
	err = d.change(ctx, func(tx *records.Tx) error {
		_, taken := d.credentials.Find(func(o ApplicationCredential) bool { return o.User == c.User && o.Name == c.Name })
		if taken {
			return duplicate("application credential", c.Name, d.users.Rows[c.User].DomainID)
		}
		if c.Roles, err = d.pick(d.rolesOn(c.User, c.Project), c.Roles); err != nil {
			return err
		}
		if c.Rules, err = d.keepRules(tx, c.User, rules); err != nil {
			return err
		}
		return records.Put(tx, &d.credentials, c.ID, c)
	})
	return c, secret, err
}

// pick returns the ids of those among roles that are named, of all where none is.
func (d *Directory) pick(roles []Role, named []string) ([]string, error) {
	var ids []string
	for _, name := range named {
		i := slices.IndexFunc(roles, func(r Role) bool { return r.ID == name || r.Name == name })
		if i < 0 {
			return nil, invalid("Could not find role assignment with role: %s, which the user must have on the project.", name)
		}
		ids = append(ids, roles[i].ID)
	}
	if len(named) == 0 {
		for _, r := range roles {
			ids = append(ids, r.ID)
		}
	}
	slices.SortFunc(ids, strings.Compare)
	return slices.Compact(ids), nil
}

// DeleteCredential removes an application credential; its tokens are worth nothing
// from then on.
func (d *Directory) DeleteCredential(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.credentials.Rows[id]; !ok {
			return notFound("application credential", id)
		}
		records.Drop(tx, &d.credentials, id)
		return nil
	})
}
