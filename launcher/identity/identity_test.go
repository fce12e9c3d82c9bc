package identity_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/identity"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// world is a directory after its first start, with a clock that can be moved.
type world struct {
	*identity.Directory
	t     *testing.T
	store *launchertest.Section
	dir   string
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: launchertest.NewSection(), dir: filepath.Join(t.TempDir(), "keys"), now: time.Now()}
	w.restart()
	if !w.Empty() {
		t.Error("a new directory is not empty")
	}
	w.must(w.Bootstrap(t.Context(), "secret"))
	return w
}

func (w *world) restart() {
	w.t.Helper()
	clock := func() time.Time { w.now = w.now.Add(time.Microsecond); return w.now }
	keys, err := identity.OpenKeys(identity.KeysConfig{Dir: w.dir, Now: clock})
	w.must(err)
	w.Directory, err = identity.Open(w.t.Context(), identity.Config{Store: w.store, Keys: keys, HashCost: bcrypt.MinCost, Now: clock})
	w.must(err)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) wantKind(err, kind error) {
	w.t.Helper()
	if !errors.Is(err, kind) {
		w.t.Errorf("the error is %v, want one that is %v", err, kind)
	}
}

func (w *world) login(name, password string, scope identity.Scope) (string, *identity.Token, error) {
	return w.Authenticate(w.t.Context(), identity.Login{User: &identity.Ref{Name: name, DomainID: identity.DefaultDomain}, Password: password}, scope)
}

func (w *world) role(name string) string {
	w.t.Helper()
	for _, r := range w.Roles(nil) {
		if r.Name == name {
			return r.ID
		}
	}
	w.t.Fatalf("there is no role %s", name)
	return ""
}

// member makes a user with a role on a project of its own.
func (w *world) member(name, role string) (identity.User, identity.Project) {
	w.t.Helper()
	p, err := w.CreateProject(w.t.Context(), identity.Project{Name: name, Enabled: true})
	w.must(err)
	u, err := w.CreateUser(w.t.Context(), identity.User{Name: name, Enabled: true, DefaultProject: p.ID}, "secret")
	w.must(err)
	w.must(w.Grant(w.t.Context(), identity.Assignment{Role: w.role(role), User: u.ID, Project: p.ID}))
	return u, p
}

func names(roles []identity.Role) string {
	var list []string
	for _, r := range roles {
		list = append(list, r.Name)
	}
	return strings.Join(list, " ")
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	onAdmin := identity.Scope{Project: &identity.Ref{Name: "admin", DomainName: "Default"}}
	_, _ = w.member("ann", "reader")
	tests := []struct {
		name, user, password string
		scope                identity.Scope
		roles                string
		err                  error
	}{
		{"project", "admin", "secret", onAdmin, "admin member reader", nil},
		{"system", "admin", "secret", identity.Scope{System: true}, "admin member reader", nil},
		{"no default project", "admin", "secret", identity.Scope{}, "", nil},
		{"default project", "ann", "secret", identity.Scope{}, "reader", nil},
		{"unscoped", "ann", "secret", identity.Scope{None: true}, "", nil},
		{"wrong password", "admin", "Secret", onAdmin, "", identity.ErrUnauthorized},
		{"no password", "admin", "", onAdmin, "", identity.ErrUnauthorized},
		{"nobody", "bob", "secret", onAdmin, "", identity.ErrUnauthorized},
		{"no role there", "ann", "secret", onAdmin, "", identity.ErrUnauthorized},
		{"no role on the system", "ann", "secret", identity.Scope{System: true}, "", identity.ErrUnauthorized},
		{"no such project", "ann", "secret", identity.Scope{Project: &identity.Ref{ID: "x"}}, "", identity.ErrUnauthorized},
		{"a domain is no project", "ann", "secret", identity.Scope{Project: &identity.Ref{ID: identity.DefaultDomain}}, "", identity.ErrUnauthorized},
		{"no role on the domain", "ann", "secret", identity.Scope{Domain: &identity.Ref{ID: identity.DefaultDomain}}, "", identity.ErrUnauthorized},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text, made, err := w.login(tt.user, tt.password, tt.scope)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			valid, err := w.Validate(t.Context(), text)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(valid.Roles); got != tt.roles || names(made.Roles) != tt.roles {
				t.Errorf("roles are %q, want %q", got, tt.roles)
			}
			if valid.Expires.Sub(valid.Issued) != time.Hour || valid.User.Name != tt.user || !slices.Equal(valid.Methods, []string{"password"}) {
				t.Errorf("the token is %+v", valid)
			}
		})
	}
	if _, _, err := w.Authenticate(t.Context(), identity.Login{}, identity.Scope{}); !errors.Is(err, identity.ErrUnauthorized) {
		t.Errorf("who shows nothing gets %v", err)
	}
}

// What makes a token invalid does so at once, and for good.
func TestInvalidation(t *testing.T) {
	ctx := context.Background()
	set := func(u bool) func(*identity.User) error {
		return func(user *identity.User) error { user.Enabled = u; return nil }
	}
	enable := func(on bool) func(*identity.Project) error {
		return func(p *identity.Project) error { p.Enabled = on; return nil }
	}
	tests := []struct {
		name string
		do   func(w *world, u identity.User, p identity.Project, token string) error
	}{
		{"discarded", func(w *world, _ identity.User, _ identity.Project, token string) error { return w.Discard(ctx, token) }},
		{"user disabled", func(w *world, u identity.User, _ identity.Project, _ string) error {
			_, err := w.UpdateUser(ctx, u.ID, nil, set(false))
			return err
		}},
		{"user disabled and enabled", func(w *world, u identity.User, _ identity.Project, _ string) error {
			_, err := w.UpdateUser(ctx, u.ID, nil, set(false))
			_, err2 := w.UpdateUser(ctx, u.ID, nil, set(true))
			return errors.Join(err, err2)
		}},
		{"user deleted", func(w *world, u identity.User, _ identity.Project, _ string) error { return w.DeleteUser(ctx, u.ID) }},
		{"own new password", func(w *world, u identity.User, _ identity.Project, _ string) error {
			return w.ChangePassword(ctx, u.ID, "secret", "other")
		}},
		{"new password", func(w *world, u identity.User, _ identity.Project, _ string) error {
			password := "other"
			_, err := w.UpdateUser(ctx, u.ID, &password, set(true))
			return err
		}},
		{"project disabled and enabled", func(w *world, _ identity.User, p identity.Project, _ string) error {
			_, err := w.UpdateProject(ctx, p.ID, enable(false))
			_, err2 := w.UpdateProject(ctx, p.ID, enable(true))
			return errors.Join(err, err2)
		}},
		{"project deleted", func(w *world, _ identity.User, p identity.Project, _ string) error { return w.DeleteProject(ctx, p.ID) }},
		{"role taken away", func(w *world, u identity.User, p identity.Project, _ string) error {
			return w.Revoke(ctx, identity.Assignment{Role: w.role("member"), User: u.ID, Project: p.ID})
		}},
		{"role deleted", func(w *world, _ identity.User, _ identity.Project, _ string) error {
			return w.DeleteRole(ctx, w.role("member"))
		}},
		{"expired", func(w *world, _ identity.User, _ identity.Project, _ string) error {
			w.now = w.now.Add(time.Hour)
			return nil
		}},
		{"keys lost", func(w *world, _ identity.User, _ identity.Project, _ string) error { return os.RemoveAll(w.dir) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			u, p := w.member("ann", "member")
			token, _, err := w.login("ann", "secret", identity.Scope{})
			w.must(err)
			other, _, err := w.login("admin", "secret", identity.Scope{})
			w.must(err)
			w.restart()
			_, err = w.Validate(ctx, token)
			w.must(err)
			w.must(tt.do(w, u, p, token))
			for range 2 { // also after a restart
				if tt.name != "keys lost" {
					_, err = w.Validate(ctx, token)
					w.wantKind(err, identity.ErrUnauthorized)
				}
				w.restart()
			}
			_, err = w.Validate(ctx, token)
			w.wantKind(err, identity.ErrUnauthorized)
			if _, err = w.Validate(ctx, other); (err != nil) != (tt.name == "expired" || tt.name == "keys lost") {
				t.Errorf("the token of another user: %v", err)
			}
		})
	}
}

func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	token, _, err := w.login("admin", "secret", identity.Scope{})
	w.must(err)
	for i := range token {
		forged := []byte(token)
		forged[i] ^= 1
		if _, err := w.Validate(t.Context(), string(forged)); !errors.Is(err, identity.ErrUnauthorized) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	}
	for _, text := range []string{"", "x", token + "A", token[:20], "gAAAAABk"} {
		if _, err := w.Validate(t.Context(), text); !errors.Is(err, identity.ErrUnauthorized) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRescoping(t *testing.T) {
	w := newWorld(t)
	_, p := w.member("ann", "member")
	first, one, err := w.login("ann", "secret", identity.Scope{None: true})
	w.must(err)
	w.now = w.now.Add(time.Minute)
	second, two, err := w.Authenticate(t.Context(), identity.Login{Token: first}, identity.Scope{Project: &identity.Ref{ID: p.ID}})
	w.must(err)
	if !two.Expires.Equal(one.Expires) || two.Audit[1] != one.Audit[0] || !slices.Equal(two.Methods, []string{"password", "token"}) || two.Project.ID != p.ID {
		t.Errorf("from %+v came %+v", one, two)
	}
	w.must(w.Discard(t.Context(), first))
	if _, err = w.Validate(t.Context(), second); err != nil {
		t.Errorf("the token made of a discarded one: %v", err)
	}
	_, _, err = w.Authenticate(t.Context(), identity.Login{Token: first}, identity.Scope{})
	w.wantKind(err, identity.ErrUnauthorized)
}

func TestApplicationCredentials(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, p := w.member("ann", "member")
	_, _, err := w.CreateCredential(ctx, identity.ApplicationCredential{Name: "ci", User: u.ID, Project: p.ID, Roles: []string{"admin"}}, nil, "")
	w.wantKind(err, launcher.ErrInvalid)
	c, secret, err := w.CreateCredential(ctx, identity.ApplicationCredential{
		Name: "ci", User: u.ID, Project: p.ID, Roles: []string{"reader"}, Expires: w.now.Add(30 * time.Minute),
	}, nil, "")
	w.must(err)
	_, _, err = w.CreateCredential(ctx, identity.ApplicationCredential{Name: "ci", User: u.ID, Project: p.ID}, nil, "")
	w.wantKind(err, launcher.ErrConflict)

	token, made, err := w.Authenticate(ctx, identity.Login{Credential: &identity.Ref{Name: "ci"}, CredentialUser: identity.Ref{Name: "ann", DomainID: identity.DefaultDomain}, Secret: secret}, identity.Scope{})
	w.must(err)
	if names(made.Roles) != "reader" || made.Project.ID != p.ID || made.Expires.After(c.Expires) || made.Credential.ID != c.ID {
		t.Errorf("the token is %+v", made)
	}
	for name, login := range map[string]identity.Login{
		"wrong secret": {Credential: &identity.Ref{ID: c.ID}, Secret: "x"},
		"no secret":    {Credential: &identity.Ref{ID: c.ID}},
		"unknown":      {Credential: &identity.Ref{ID: "x"}, Secret: secret},
		"other owner":  {Credential: &identity.Ref{Name: "ci"}, CredentialUser: identity.Ref{Name: "admin", DomainID: identity.DefaultDomain}, Secret: secret},
	} {
		if _, _, err := w.Authenticate(ctx, login, identity.Scope{}); !errors.Is(err, identity.ErrUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err = w.Authenticate(ctx, identity.Login{Credential: &identity.Ref{ID: c.ID}, Secret: secret}, identity.Scope{None: true})
	w.wantKind(err, identity.ErrUnauthorized)
	_, _, err = w.Authenticate(ctx, identity.Login{Token: token}, identity.Scope{None: true})
	w.wantKind(err, identity.ErrForbidden)
	_, again, err := w.Authenticate(ctx, identity.Login{Token: token}, identity.Scope{})
	w.must(err)
	if names(again.Roles) != "reader" || again.Credential == nil {
		t.Errorf("a token of that token is %+v", again)
	}
	w.must(w.DeleteCredential(ctx, c.ID))
	_, err = w.Validate(ctx, token)
	w.wantKind(err, identity.ErrUnauthorized)
}

func TestInheritedAndGroupRoles(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, _ := w.member("ann", "reader")
	child, err := w.CreateProject(ctx, identity.Project{Name: "child", Enabled: true})
	w.must(err)
	grandchild, err := w.CreateProject(ctx, identity.Project{Name: "grandchild", ParentID: child.ID, Enabled: true})
	w.must(err)
	g, err := w.CreateGroup(ctx, identity.Group{Name: "crew"})
	w.must(err)
	w.must(w.Grant(ctx, identity.Assignment{Role: w.role("member"), Group: g.ID, Project: child.ID, Inherited: true}))
	on := func(p identity.Project) error {
		_, _, err := w.login("ann", "secret", identity.Scope{Project: &identity.Ref{ID: p.ID}})
		return err
	}
	w.wantKind(on(grandchild), identity.ErrUnauthorized)
	w.must(w.AddMember(ctx, g.ID, u.ID))
	w.must(on(grandchild))
	w.wantKind(on(child), identity.ErrUnauthorized)
	var reached []string
	for _, a := range w.Effective() {
		if a.User == u.ID {
			p, err := w.Project(a.Project)
			w.must(err)
			r, err := w.Role(a.Role)
			w.must(err)
			reached = append(reached, p.Name+":"+r.Name)
		}
	}
	slices.Sort(reached)
	if got := strings.Join(reached, " "); got != "ann:reader grandchild:member grandchild:reader" {
		t.Errorf("what assignments come to is %s", got)
	}
	w.must(w.RemoveMember(ctx, g.ID, u.ID))
	w.wantKind(on(grandchild), identity.ErrUnauthorized)
	w.wantKind(w.RemoveMember(ctx, g.ID, u.ID), launcher.ErrNotFound)
}

func TestNamesAreUnique(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other, err := w.CreateProject(ctx, identity.Project{Name: "other", IsDomain: true, Enabled: true})
	w.must(err)
	for _, domain := range []string{identity.DefaultDomain, other.ID} {
		_, err := w.CreateProject(ctx, identity.Project{Name: "p", DomainID: domain})
		w.must(err)
		_, err = w.CreateProject(ctx, identity.Project{Name: "p", DomainID: domain})
		w.wantKind(err, launcher.ErrConflict)
		_, err = w.CreateUser(ctx, identity.User{Name: "u", DomainID: domain}, "")
		w.must(err)
		_, err = w.CreateUser(ctx, identity.User{Name: "u", DomainID: domain}, "")
		w.wantKind(err, launcher.ErrConflict)
	}
	_, err = w.CreateProject(ctx, identity.Project{Name: "other", IsDomain: true})
	w.wantKind(err, launcher.ErrConflict)
	_, err = w.CreateRole(ctx, identity.Role{Name: "admin"})
	w.wantKind(err, launcher.ErrConflict)
	_, err = w.CreateUser(ctx, identity.User{}, "")
	w.wantKind(err, launcher.ErrInvalid)
	_, err = w.CreateUser(ctx, identity.User{Name: "u", DomainID: "nowhere"}, "")
	w.wantKind(err, launcher.ErrNotFound)
}

func TestDomainDeletion(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	domain, err := w.CreateProject(ctx, identity.Project{Name: "other", IsDomain: true, Enabled: true})
	w.must(err)
	p, err := w.CreateProject(ctx, identity.Project{Name: "p", DomainID: domain.ID, Enabled: true})
	w.must(err)
	u, err := w.CreateUser(ctx, identity.User{Name: "u", DomainID: domain.ID, Enabled: true}, "secret")
	w.must(err)
	w.must(w.Grant(ctx, identity.Assignment{Role: w.role("member"), User: u.ID, Project: p.ID}))
	w.wantKind(w.DeleteProject(ctx, domain.ID), identity.ErrForbidden)
	w.wantKind(w.DeleteProject(ctx, identity.DefaultDomain), identity.ErrForbidden)
	_, err = w.UpdateProject(ctx, domain.ID, func(d *identity.Project) error { d.Enabled = false; return nil })
	w.must(err)
	w.must(w.DeleteProject(ctx, domain.ID))
	w.restart()
	_, err = w.User(u.ID)
	w.wantKind(err, launcher.ErrNotFound)
	_, err = w.Project(p.ID)
	w.wantKind(err, launcher.ErrNotFound)
	if left := w.Assignments(func(a identity.Assignment) bool { return a.User == u.ID }); len(left) > 0 {
		t.Errorf("assignments left: %v", left)
	}
}

// A change that cannot be stored is not seen.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	u, p := w.member("ann", "member")
	w.store.Broken = errors.New("disk full")
	_, err := w.CreateProject(t.Context(), identity.Project{Name: "more"})
	w.wantKind(err, w.store.Broken)
	w.wantKind(w.DeleteUser(t.Context(), u.ID), w.store.Broken)
	w.wantKind(w.DeleteProject(t.Context(), p.ID), w.store.Broken)
	if _, _, err := w.login("ann", "secret", identity.Scope{}); err != nil {
		t.Errorf("after failed changes: %v", err)
	}
	if len(w.Projects(func(p identity.Project) bool { return p.Name == "more" })) > 0 {
		t.Error("a project that was not stored is there")
	}
}

// A forgotten password is set anew, and nothing else changes.
func TestBootstrapAgain(t *testing.T) {
	w := newWorld(t)
	token, _, err := w.login("admin", "secret", identity.Scope{})
	w.must(err)
	before := len(w.Roles(nil)) + len(w.Projects(nil)) + len(w.Users(nil))
	w.must(w.Bootstrap(t.Context(), "new"))
	if after := len(w.Roles(nil)) + len(w.Projects(nil)) + len(w.Users(nil)); after != before {
		t.Errorf("there were %d records, now %d", before, after)
	}
	_, _, err = w.login("admin", "secret", identity.Scope{})
	w.wantKind(err, identity.ErrUnauthorized)
	_, _, err = w.login("admin", "new", identity.Scope{System: true})
	w.must(err)
	_, err = w.Validate(t.Context(), token)
	w.wantKind(err, identity.ErrUnauthorized)
}

func TestAccessRulePaths(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"/v2.1/servers", "/v2.1/servers", true}, {"/v2.1/servers", "/v2.1/servers/1", false}, {"/v2.1/servers/1", "/v2.1/servers", false},
		{"/v2.1/servers/*/ips", "/v2.1/servers/1/ips", true}, {"/v2.1/servers/*/ips", "/v2.1/servers//ips", false}, {"/v2.1/servers/*", "/v2.1/servers/1/ips", false},
		{"/v2.1/servers/{server}", "/v2.1/servers/1", true}, {"/v2.1/**", "/v2.1/servers/1/ips", true}, {"/**/ips", "/v2.1/servers/1/ips", true}, {"/**/ips", "/v2.1/ports", false},
	} {
		rule := identity.AccessRule{Service: "compute", Method: "GET", Path: tt.pattern}
		if got := rule.Allows("compute", "GET", tt.path); got != tt.want {
			t.Errorf("%s of %s: %v", tt.path, tt.pattern, got)
		}
		if rule.Allows("image", "GET", tt.path) || rule.Allows("compute", "POST", tt.path) {
			t.Errorf("%s allows another service or method", tt.pattern)
		}
	}
}
