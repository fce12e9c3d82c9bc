package identity

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Ref names something by id, or by name and domain.
type Ref struct {
	ID, Name             string
	DomainID, DomainName string // of what is named; empty together with ID
}

// Login is what somebody shows to get a token: one or more of a user with a
// password, a token, and an application credential with its secret.
type Login struct {
	User     *Ref
	Password string

	Token string

	// Credential is named by ID, or by Name with its owner in CredentialUser.
	Credential     *Ref
	CredentialUser Ref
	Secret         string
}

// Scope is what a token is asked for. The zero Scope asks for the user's default
// project where there is one.
type Scope struct {
	Project, Domain *Ref
	System          bool
	Trust           string // ID
	None            bool
}

// asked reports whether a scope was asked for at all.
func (s Scope) asked() bool {
	return s.Project != nil || s.Domain != nil || s.System || s.Trust != "" || s.None
}

// Authenticate checks a login and makes a token. ErrUnauthorized says as little as
// Keystone does of why not; ErrForbidden refuses a change of scope.
func (d *Directory) Authenticate(ctx context.Context, login Login, scope Scope) (text string, t *Token, err error) {
	now := d.cfg.Now()
	c := claims{Audit: []string{newSecret(16)}, Issued: now.UnixNano(), Expires: now.Add(d.cfg.TokenLife).UnixNano()}
	if err := d.identify(ctx, &c, login, scope); err != nil {
		return "", nil, err
	}
	if scope.Trust != "" {
		if err := d.useTrust(ctx, &c, scope.Trust); err != nil {
			return "", nil, err
		}
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := d.scope(&c, scope); err != nil {
		return "", nil, err
	}
	if t, err = d.resolve(c); err != nil {
		return "", nil, err
	}
	plain, err := json.Marshal(c)
	if err != nil {
		return "", nil, err
	}
	text, err = d.cfg.Keys.seal(plain)
	return text, t, err
}

// identify finds the one user whom all of a login's methods prove.
func (d *Directory) identify(ctx context.Context, c *claims, login Login, scope Scope) error {
	methods := []struct {
		name  string
		used  bool
		check func(context.Context, *claims, Login, Scope) (user string, err error)
	}{
		{"password", login.User != nil, d.byPassword},
		{"token", login.Token != "", d.byToken},
		{"application_credential", login.Credential != nil, d.byCredential},
	}
	for _, m := range methods {
		if !m.used {
			continue
		}
		user, err := m.check(ctx, c, login, scope)
		if err != nil {
			return err
		}
		if c.User != "" && c.User != user {
			return ErrUnauthorized
		}
		c.User = user
		if !slices.Contains(c.Methods, m.name) {
			c.Methods = append(c.Methods, m.name)
		}
	}
	if c.User == "" {
		return ErrUnauthorized
	}
	return nil
}

func (d *Directory) byPassword(ctx context.Context, _ *claims, login Login, _ Scope) (string, error) {
	user := d.findUser(*login.User)
	if err := d.hashes.check(ctx, user.Password, login.Password); err != nil {
		return "", err
	}
	return user.ID, nil
}

func (d *Directory) byToken(ctx context.Context, c *claims, login Login, scope Scope) (string, error) {
	t, err := d.Validate(ctx, login.Token)
	if err != nil {
		return "", err
	}
	if t.Trust != nil {
		return "", forbidden("A token of a trust cannot be used to get another.")
	}
	if t.Credential != nil {
		if scope.asked() {
			return "", forbidden("A token of an application credential cannot change its scope.")
		}
		c.Credential, c.Project = t.Credential.ID, t.Project.ID
	}
	// No chain of tokens lives longer than its first.
	c.Expires = min(c.Expires, t.Expires.UnixNano())
	c.Audit = append(c.Audit, t.Audit[len(t.Audit)-1])
	c.Methods = slices.Clone(t.Methods)
	return t.User.ID, nil
}

func (d *Directory) byCredential(ctx context.Context, c *claims, login Login, scope Scope) (string, error) {
	found := d.findCredential(*login.Credential, login.CredentialUser)
	if err := d.hashes.check(ctx, found.Secret, login.Secret); err != nil {
		return "", err
	}
	if scope.asked() {
		return "", errorf(ErrUnauthorized, "Application credentials cannot request a scope.")
	}
	c.Credential, c.Project = found.ID, found.Project
	if !found.Expires.IsZero() {
		c.Expires = min(c.Expires, found.Expires.UnixNano())
	}
	return found.User, nil
}

// scope finds what a token is to be for.
func (d *Directory) scope(c *claims, s Scope) error {
	switch {
	case c.Credential != "" || c.Trust != "" || s.None:
	case s.System:
		c.System = true
	case s.Project != nil:
		p, ok := d.findProject(*s.Project, false)
		if !ok {
			return ErrUnauthorized
		}
		c.Project = p.ID
	case s.Domain != nil:
		p, ok := d.findProject(*s.Domain, true)
		if !ok {
			return ErrUnauthorized
		}
		c.Domain = p.ID
	default:
		with := *c
		with.Project = d.users.Rows[c.User].DefaultProject
		if _, err := d.resolve(with); with.Project != "" && err == nil {
			*c = with
		} else if err != nil && !errors.Is(err, ErrUnauthorized) {
			return err
		}
	}
	return nil
}

func (d *Directory) findProject(ref Ref, domain bool) (Project, bool) {
	if ref.ID != "" {
		p, ok := d.projects.Rows[ref.ID]
		return p, ok && p.IsDomain == domain
	}
	in := ""
	if !domain {
		in = d.domainID(ref)
	}
	return d.projects.Find(func(p Project) bool { return p.IsDomain == domain && p.Name == ref.Name && p.DomainID == in })
}

// domainID is the domain that a name is in.
func (d *Directory) domainID(ref Ref) string {
	if ref.DomainName == "" {
		return ref.DomainID
	}
	p, _ := d.projects.Find(func(p Project) bool { return p.IsDomain && p.Name == ref.DomainName })
	return p.ID
}

// findUser returns nobody where there is none.
func (d *Directory) findUser(ref Ref) User {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if ref.ID != "" {
		return d.users.Rows[ref.ID]
	}
	in := d.domainID(ref)
	u, _ := d.users.Find(func(u User) bool { return u.Name == ref.Name && u.DomainID == in })
	return u
}

func (d *Directory) findCredential(ref, owner Ref) ApplicationCredential {
	if ref.ID != "" {
		d.mu.RLock()
		defer d.mu.RUnlock()
		return d.credentials.Rows[ref.ID]
	}
	user := d.findUser(owner).ID
	d.mu.RLock()
	defer d.mu.RUnlock()
	c, _ := d.credentials.Find(func(c ApplicationCredential) bool { return c.Name == ref.Name && c.User == user && user != "" })
	return c
}

// Bootstrap sees to it that there are the default domain, the roles admin, member
// and reader, the project admin, and its user admin with this password and the role
// admin. What is there stays, but the user is enabled and gets the password.
func (d *Directory) Bootstrap(ctx context.Context, password string) error {
	hash, err := d.hashes.hash(ctx, password)
	if err != nil {
		return err
	}
	return d.change(ctx, func(tx *records.Tx) error {
		var errs []error
		if _, ok := d.projects.Rows[DefaultDomain]; !ok {
			errs = append(errs, records.Put(tx, &d.projects, DefaultDomain, Project{
				ID: DefaultDomain, Name: "Default", IsDomain: true, Enabled: true, Description: "The default domain",
			}))
		}
		var admin Role
		implied := []string(nil)
		for _, name := range []string{"reader", "member", "admin"} {
			role, ok := d.roles.Find(func(r Role) bool { return r.Name == name && r.DomainID == "" })
			if !ok {
				role = Role{ID: newID(), Name: name, Implies: implied}
				errs = append(errs, records.Put(tx, &d.roles, role.ID, role))
			}
			admin, implied = role, []string{role.ID}
		}
		project, ok := d.projects.Find(func(p Project) bool { return p.Name == "admin" && p.DomainID == DefaultDomain })
		if !ok {
			project = Project{
				ID: newID(), Name: "admin", DomainID: DefaultDomain, ParentID: DefaultDomain, Enabled: true,
				Description: "Bootstrap project for initializing the cloud.",
			}
			errs = append(errs, records.Put(tx, &d.projects, project.ID, project))
		}
		user, ok := d.users.Find(func(u User) bool { return u.Name == "admin" && u.DomainID == DefaultDomain })
		if !ok {
			user = User{ID: newID(), Name: "admin", DomainID: DefaultDomain}
		} else {
			user.ShutBefore = d.cfg.Now()
		}
		user.Enabled, user.Password = true, hash
		errs = append(errs, records.Put(tx, &d.users, user.ID, user))
		for _, target := range []string{project.ID, ""} {
			a := Assignment{Role: admin.ID, User: user.ID, Project: target}
			errs = append(errs, records.Put(tx, &d.assignments, a.key(), a))
		}
		return errors.Join(errs...)
	})
}

// Empty reports whether nobody is known yet.
func (d *Directory) Empty() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.users.Rows) == 0
}

// NewPassword makes a password that is easy to copy.
func NewPassword() string { return newSecret(15) }

// TokenLife is how long a token is valid.
func (d *Directory) TokenLife() time.Duration { return d.cfg.TokenLife }
