package identity

import (
	"context"
	"errors"
	"slices"

	"github.com/slipway-vm/slipway/launcher/records"
)

// User returns one user.
func (d *Directory) User(id string) (User, error) { return show(d, &d.users, "user", id) }

// Users lists the users that pass, by name.
func (d *Directory) Users(pass func(User) bool) []User {
	return list(d, &d.users, pass, func(u User) string { return u.Name })
}

// CreateUser makes a user, in the default domain where none is named. An empty
// password is none: nobody can log in by it.
func (d *Directory) CreateUser(ctx context.Context, u User, password string) (User, error) {
	if err := checkName("user", u.Name); err != nil {
		return User{}, err
	}
	if u.DomainID == "" {
		u.DomainID = DefaultDomain
	}
	if u.ID == "" {
		u.ID = newID()
	}
	if password != "" {
		var err error
		if u.Password, err = d.hashes.hash(ctx, password); err != nil {
			return User{}, err
		}
	}
	err := d.change(ctx, func(tx *records.Tx) error {
		if err := d.isDomain(u.DomainID); err != nil {
			return err
		}
		if err := d.uniqueUser(u); err != nil {
			return err
		}
		return records.Put(tx, &d.users, u.ID, u)
	})
	return u, err
}

func (d *Directory) uniqueUser(u User) error {
	_, taken := d.users.Find(func(o User) bool { return o.ID != u.ID && o.DomainID == u.DomainID && o.Name == u.Name })
	if taken {
		return duplicate("user", u.Name, u.DomainID)
	}
	return nil
}

// UpdateUser changes a user as edit says, which must replace what maps it changes,
// and where password is not nil the password. The tokens of before are worth
// nothing after a new password, and after the user was disabled.
func (d *Directory) UpdateUser(ctx context.Context, id string, password *string, edit func(*User) error) (u User, err error) {
	var hash string
	if password != nil && *password != "" {
		if hash, err = d.hashes.hash(ctx, *password); err != nil {
			return User{}, err
		}
	}
	err = d.change(ctx, func(tx *records.Tx) error {
		old, ok := d.users.Rows[id]
		if !ok {
			return notFound("user", id)
		}
		u = old
		if err := edit(&u); err != nil {
			return err
		}
		if u.ID != old.ID || u.DomainID != old.DomainID {
			return invalid("The id and the domain of a user stay as they are.")
		}
		if err := errors.Join(checkName("user", u.Name), d.uniqueUser(u)); err != nil {
			return err
		}
		if password != nil {
			u.Password = hash
		}
		if password != nil || old.Enabled && !u.Enabled {
			u.ShutBefore = d.cfg.Now()
		}
		return records.Put(tx, &d.users, id, u)
	})
	return u, err
}

// ChangePassword is UpdateUser for the user himself, who must know the old one.
func (d *Directory) ChangePassword(ctx context.Context, id, old, password string) error {
	u, err := d.User(id)
	if err != nil {
		return err
	}
	if err := d.hashes.check(ctx, u.Password, old); err != nil {
		return err
	}
	switch password {
	case "":
		return invalid("Invalid input for field 'password': it is empty.")
	case old:
		return invalid("The new password cannot be identical to the previous one.")
	}
	_, err = d.UpdateUser(ctx, id, &password, func(now *User) error {
		if now.Password != u.Password {
			return ErrUnauthorized // somebody was faster
		}
		return nil
	})
	return err
}

// DeleteUser removes a user and what was his.
func (d *Directory) DeleteUser(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.users.Rows[id]; !ok {
			return notFound("user", id)
		}
		records.Drop(tx, &d.users, id)
		for _, g := range d.groups.Rows {
			if slices.Contains(g.Members, id) {
				g.Members = without(g.Members, id)
				if err := records.Put(tx, &d.groups, g.ID, g); err != nil {
					return err
				}
			}
		}
		records.DropAll(tx, &d.assignments, func(a Assignment) bool { return a.User == id })
		records.DropAll(tx, &d.credentials, func(c ApplicationCredential) bool { return c.User == id })
		records.DropAll(tx, &d.stored, func(c StoredCredential) bool { return c.User == id })
		records.DropAll(tx, &d.access, func(a AccessRule) bool { return a.User == id })
		records.DropAll(tx, &d.trusts, func(t Trust) bool { return t.Trustor == id || t.Trustee == id })
		return nil
	})
}

// without returns a new list without v.
func without(list []string, v string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == v })
}

// Group returns one group.
func (d *Directory) Group(id string) (Group, error) { return show(d, &d.groups, "group", id) }

// Groups lists the groups that pass, by name.
func (d *Directory) Groups(pass func(Group) bool) []Group {
	return list(d, &d.groups, pass, func(g Group) string { return g.Name })
}

// CreateGroup makes a group, in the default domain where none is named.
func (d *Directory) CreateGroup(ctx context.Context, g Group) (Group, error) {
	if g.DomainID == "" {
		g.DomainID = DefaultDomain
	}
	g.ID = newID()
	err := d.change(ctx, func(tx *records.Tx) error {
		if err := errors.Join(d.isDomain(g.DomainID), d.checkGroup(g)); err != nil {
			return err
		}
		return records.Put(tx, &d.groups, g.ID, g)
	})
	return g, err
}

func (d *Directory) checkGroup(g Group) error {
	_, taken := d.groups.Find(func(o Group) bool { return o.ID != g.ID && o.DomainID == g.DomainID && o.Name == g.Name })
	if taken {
		return duplicate("group", g.Name, g.DomainID)
	}
	return checkName("group", g.Name)
}

// UpdateGroup changes a group as edit says, which must replace what maps and
// slices it changes.
func (d *Directory) UpdateGroup(ctx context.Context, id string, edit func(*Group) error) (g Group, err error) {
	err = d.change(ctx, func(tx *records.Tx) error {
		old, ok := d.groups.Rows[id]
		if !ok {
			return notFound("group", id)
		}
		g = old
		if err := edit(&g); err != nil {
			return err
		}
		if g.ID != old.ID || g.DomainID != old.DomainID {
			return invalid("The id and the domain of a group stay as they are.")
		}
		if err := d.checkGroup(g); err != nil {
			return err
		}
		return records.Put(tx, &d.groups, id, g)
	})
	return g, err
}

// AddMember puts a user into a group; one who is there already stays.
func (d *Directory) AddMember(ctx context.Context, group, user string) error {
	_, err := d.UpdateGroup(ctx, group, func(g *Group) error {
		if _, ok := d.users.Rows[user]; !ok {
			return notFound("user", user)
		}
		g.Members = append(without(g.Members, user), user)
		return nil
	})
	return err
}

// RemoveMember takes a user out of a group.
func (d *Directory) RemoveMember(ctx context.Context, group, user string) error {
	_, err := d.UpdateGroup(ctx, group, func(g *Group) error {
		if !slices.Contains(g.Members, user) {
			return notFound("user", user)
		}
		g.Members = without(g.Members, user)
		return nil
	})
	return err
}

// DeleteGroup removes a group, not its members.
func (d *Directory) DeleteGroup(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.groups.Rows[id]; !ok {
			return notFound("group", id)
		}
		records.Drop(tx, &d.groups, id)
		records.DropAll(tx, &d.assignments, func(a Assignment) bool { return a.Group == id })
		return nil
	})
}
