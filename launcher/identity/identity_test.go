package identity

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/slipway-vm/slipway/launcher"
)

// memory is a Store; where broken is set it refuses changes.
type memory struct {
	records map[string]map[string][]byte
	broken  error
}

func (m *memory) Records(_ context.Context, kind string) (map[string][]byte, error) {
	return maps.Clone(m.records[kind]), nil
}

func (m *memory) Apply(_ context.Context, changes []Change) error {
	if m.broken != nil {
		return m.broken
	}
	for _, c := range changes {
		if m.records[c.Kind] == nil {
			m.records[c.Kind] = map[string][]byte{}
		}
		if c.Record == nil {
			delete(m.records[c.Kind], c.ID)
		} else {
			m.records[c.Kind][c.ID] = bytes.Clone(c.Record)
		}
	}
	return nil
}

// world is a directory after its first start, with a clock that can be moved.
type world struct {
	*Directory
	t     *testing.T
	store *memory
	dir   string
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: &memory{records: map[string]map[string][]byte{}}, dir: filepath.Join(t.TempDir(), "keys"), now: time.Now()}
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
	keys, err := OpenKeys(KeysConfig{Dir: w.dir, Now: clock})
	w.must(err)
	w.Directory, err = Open(w.t.Context(), Config{Store: w.store, Keys: keys, HashCost: bcrypt.MinCost, Now: clock})
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

func (w *world) login(name, password string, scope Scope) (string, *Token, error) {
	return w.Authenticate(w.t.Context(), Login{User: &Ref{Name: name, DomainID: DefaultDomain}, Password: password}, scope)
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
func (w *world) member(name, role string) (User, Project) {
	w.t.Helper()
	p, err := w.CreateProject(w.t.Context(), Project{Name: name, Enabled: true})
	w.must(err)
	u, err := w.CreateUser(w.t.Context(), User{Name: name, Enabled: true, DefaultProject: p.ID}, "secret")
	w.must(err)
	w.must(w.Grant(w.t.Context(), Assignment{Role: w.role(role), User: u.ID, Project: p.ID}))
	return u, p
}

func names(roles []Role) string {
	var list []string
	for _, r := range roles {
		list = append(list, r.Name)
	}
	return strings.Join(list, " ")
}

func TestLogin(t *testing.T) {
	w := newWorld(t)
	onAdmin := Scope{Project: &Ref{Name: "admin", DomainName: "Default"}}
	_, _ = w.member("ann", "reader")
	tests := []struct {
		name, user, password string
		scope                Scope
		roles                string
		err                  error
	}{
		{"project", "admin", "secret", onAdmin, "admin member reader", nil},
		{"system", "admin", "secret", Scope{System: true}, "admin member reader", nil},
		{"no default project", "admin", "secret", Scope{}, "", nil},
		{"default project", "ann", "secret", Scope{}, "reader", nil},
		{"unscoped", "ann", "secret", Scope{None: true}, "", nil},
		{"wrong password", "admin", "Secret", onAdmin, "", ErrUnauthorized},
		{"no password", "admin", "", onAdmin, "", ErrUnauthorized},
		{"nobody", "bob", "secret", onAdmin, "", ErrUnauthorized},
		{"no role there", "ann", "secret", onAdmin, "", ErrUnauthorized},
		{"no role on the system", "ann", "secret", Scope{System: true}, "", ErrUnauthorized},
		{"no such project", "ann", "secret", Scope{Project: &Ref{ID: "x"}}, "", ErrUnauthorized},
		{"a domain is no project", "ann", "secret", Scope{Project: &Ref{ID: DefaultDomain}}, "", ErrUnauthorized},
		{"no role on the domain", "ann", "secret", Scope{Domain: &Ref{ID: DefaultDomain}}, "", ErrUnauthorized},
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
	if _, _, err := w.Authenticate(t.Context(), Login{}, Scope{}); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("who shows nothing gets %v", err)
	}
}

// What makes a token invalid does so at once, and for good.
func TestInvalidation(t *testing.T) {
	ctx := context.Background()
	set := func(u bool) func(*User) error { return func(user *User) error { user.Enabled = u; return nil } }
	enable := func(on bool) func(*Project) error { return func(p *Project) error { p.Enabled = on; return nil } }
	tests := []struct {
		name string
		do   func(w *world, u User, p Project, token string) error
	}{
		{"discarded", func(w *world, _ User, _ Project, token string) error { return w.Discard(ctx, token) }},
		{"user disabled", func(w *world, u User, _ Project, _ string) error {
			_, err := w.UpdateUser(ctx, u.ID, nil, set(false))
			return err
		}},
		{"user disabled and enabled", func(w *world, u User, _ Project, _ string) error {
			_, err := w.UpdateUser(ctx, u.ID, nil, set(false))
			_, err2 := w.UpdateUser(ctx, u.ID, nil, set(true))
			return errors.Join(err, err2)
		}},
		{"user deleted", func(w *world, u User, _ Project, _ string) error { return w.DeleteUser(ctx, u.ID) }},
		{"own new password", func(w *world, u User, _ Project, _ string) error {
			return w.ChangePassword(ctx, u.ID, "secret", "other")
		}},
		{"new password", func(w *world, u User, _ Project, _ string) error {
			password := "other"
			_, err := w.UpdateUser(ctx, u.ID, &password, set(true))
			return err
		}},
		{"project disabled and enabled", func(w *world, _ User, p Project, _ string) error {
			_, err := w.UpdateProject(ctx, p.ID, enable(false))
			_, err2 := w.UpdateProject(ctx, p.ID, enable(true))
			return errors.Join(err, err2)
		}},
		{"project deleted", func(w *world, _ User, p Project, _ string) error { return w.DeleteProject(ctx, p.ID) }},
		{"role taken away", func(w *world, u User, p Project, _ string) error {
			return w.Revoke(ctx, Assignment{Role: w.role("member"), User: u.ID, Project: p.ID})
		}},
		{"role deleted", func(w *world, _ User, _ Project, _ string) error { return w.DeleteRole(ctx, w.role("member")) }},
		{"expired", func(w *world, _ User, _ Project, _ string) error { w.now = w.now.Add(time.Hour); return nil }},
		{"keys lost", func(w *world, _ User, _ Project, _ string) error { return os.RemoveAll(w.dir) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			u, p := w.member("ann", "member")
			token, _, err := w.login("ann", "secret", Scope{})
			w.must(err)
			other, _, err := w.login("admin", "secret", Scope{})
			w.must(err)
			w.restart()
			_, err = w.Validate(ctx, token)
			w.must(err)
			w.must(tt.do(w, u, p, token))
			for range 2 { // also after a restart
				if tt.name != "keys lost" {
					_, err = w.Validate(ctx, token)
					w.wantKind(err, ErrUnauthorized)
				}
				w.restart()
			}
			_, err = w.Validate(ctx, token)
			w.wantKind(err, ErrUnauthorized)
			if _, err = w.Validate(ctx, other); (err != nil) != (tt.name == "expired" || tt.name == "keys lost") {
				t.Errorf("the token of another user: %v", err)
			}
		})
	}
}

func TestForgedTokens(t *testing.T) {
	w := newWorld(t)
	token, _, err := w.login("admin", "secret", Scope{})
	w.must(err)
	for i := range token {
		forged := []byte(token)
		forged[i] ^= 1
		if _, err := w.Validate(t.Context(), string(forged)); !errors.Is(err, ErrUnauthorized) {
			t.Fatalf("with byte %d changed: %v", i, err)
		}
	}
	for _, text := range []string{"", "x", token + "A", token[:20], "gAAAAABk"} {
		if _, err := w.Validate(t.Context(), text); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestRescoping(t *testing.T) {
	w := newWorld(t)
	_, p := w.member("ann", "member")
	first, one, err := w.login("ann", "secret", Scope{None: true})
	w.must(err)
	w.now = w.now.Add(time.Minute)
	second, two, err := w.Authenticate(t.Context(), Login{Token: first}, Scope{Project: &Ref{ID: p.ID}})
	w.must(err)
	if !two.Expires.Equal(one.Expires) || two.Audit[1] != one.Audit[0] || !slices.Equal(two.Methods, []string{"password", "token"}) || two.Project.ID != p.ID {
		t.Errorf("from %+v came %+v", one, two)
	}
	w.must(w.Discard(t.Context(), first))
	if _, err = w.Validate(t.Context(), second); err != nil {
		t.Errorf("the token made of a discarded one: %v", err)
	}
	_, _, err = w.Authenticate(t.Context(), Login{Token: first}, Scope{})
	w.wantKind(err, ErrUnauthorized)
}

func TestApplicationCredentials(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, p := w.member("ann", "member")
	_, _, err := w.CreateCredential(ctx, ApplicationCredential{Name: "ci", User: u.ID, Project: p.ID, Roles: []string{"admin"}}, "")
	w.wantKind(err, launcher.ErrInvalid)
	c, secret, err := w.CreateCredential(ctx, ApplicationCredential{
		Name: "ci", User: u.ID, Project: p.ID, Roles: []string{"reader"}, Expires: w.now.Add(30 * time.Minute),
	}, "")
	w.must(err)
	_, _, err = w.CreateCredential(ctx, ApplicationCredential{Name: "ci", User: u.ID, Project: p.ID}, "")
	w.wantKind(err, launcher.ErrConflict)

	token, made, err := w.Authenticate(ctx, Login{Credential: &Ref{Name: "ci"}, CredentialUser: Ref{Name: "ann", DomainID: DefaultDomain}, Secret: secret}, Scope{})
	w.must(err)
	if names(made.Roles) != "reader" || made.Project.ID != p.ID || made.Expires.After(c.Expires) || made.Credential.ID != c.ID {
		t.Errorf("the token is %+v", made)
	}
	for name, login := range map[string]Login{
		"wrong secret": {Credential: &Ref{ID: c.ID}, Secret: "x"},
		"no secret":    {Credential: &Ref{ID: c.ID}},
		"unknown":      {Credential: &Ref{ID: "x"}, Secret: secret},
		"other owner":  {Credential: &Ref{Name: "ci"}, CredentialUser: Ref{Name: "admin", DomainID: DefaultDomain}, Secret: secret},
	} {
		if _, _, err := w.Authenticate(ctx, login, Scope{}); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, _, err = w.Authenticate(ctx, Login{Credential: &Ref{ID: c.ID}, Secret: secret}, Scope{None: true})
	w.wantKind(err, ErrUnauthorized)
	_, _, err = w.Authenticate(ctx, Login{Token: token}, Scope{None: true})
	w.wantKind(err, ErrForbidden)
	_, again, err := w.Authenticate(ctx, Login{Token: token}, Scope{})
	w.must(err)
	if names(again.Roles) != "reader" || again.Credential == nil {
		t.Errorf("a token of that token is %+v", again)
	}
	w.must(w.DeleteCredential(ctx, c.ID))
	_, err = w.Validate(ctx, token)
	w.wantKind(err, ErrUnauthorized)
}

func TestInheritedAndGroupRoles(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	u, _ := w.member("ann", "reader")
	child, err := w.CreateProject(ctx, Project{Name: "child", Enabled: true})
	w.must(err)
	grandchild, err := w.CreateProject(ctx, Project{Name: "grandchild", ParentID: child.ID, Enabled: true})
	w.must(err)
	g, err := w.CreateGroup(ctx, Group{Name: "crew"})
	w.must(err)
	w.must(w.Grant(ctx, Assignment{Role: w.role("member"), Group: g.ID, Project: child.ID, Inherited: true}))
	on := func(p Project) error {
		_, _, err := w.login("ann", "secret", Scope{Project: &Ref{ID: p.ID}})
		return err
	}
	w.wantKind(on(grandchild), ErrUnauthorized)
	w.must(w.AddMember(ctx, g.ID, u.ID))
	w.must(on(grandchild))
	w.wantKind(on(child), ErrUnauthorized)
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
	w.wantKind(on(grandchild), ErrUnauthorized)
	w.wantKind(w.RemoveMember(ctx, g.ID, u.ID), launcher.ErrNotFound)
}

func TestNamesAreUnique(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other, err := w.CreateProject(ctx, Project{Name: "other", IsDomain: true, Enabled: true})
	w.must(err)
	for _, domain := range []string{DefaultDomain, other.ID} {
		_, err := w.CreateProject(ctx, Project{Name: "p", DomainID: domain})
		w.must(err)
		_, err = w.CreateProject(ctx, Project{Name: "p", DomainID: domain})
		w.wantKind(err, launcher.ErrConflict)
		_, err = w.CreateUser(ctx, User{Name: "u", DomainID: domain}, "")
		w.must(err)
		_, err = w.CreateUser(ctx, User{Name: "u", DomainID: domain}, "")
		w.wantKind(err, launcher.ErrConflict)
	}
	_, err = w.CreateProject(ctx, Project{Name: "other", IsDomain: true})
	w.wantKind(err, launcher.ErrConflict)
	_, err = w.CreateRole(ctx, Role{Name: "admin"})
	w.wantKind(err, launcher.ErrConflict)
	_, err = w.CreateUser(ctx, User{}, "")
	w.wantKind(err, launcher.ErrInvalid)
	_, err = w.CreateUser(ctx, User{Name: "u", DomainID: "nowhere"}, "")
	w.wantKind(err, launcher.ErrNotFound)
}

func TestDomainDeletion(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	domain, err := w.CreateProject(ctx, Project{Name: "other", IsDomain: true, Enabled: true})
	w.must(err)
	p, err := w.CreateProject(ctx, Project{Name: "p", DomainID: domain.ID, Enabled: true})
	w.must(err)
	u, err := w.CreateUser(ctx, User{Name: "u", DomainID: domain.ID, Enabled: true}, "secret")
	w.must(err)
	w.must(w.Grant(ctx, Assignment{Role: w.role("member"), User: u.ID, Project: p.ID}))
	w.wantKind(w.DeleteProject(ctx, domain.ID), ErrForbidden)
	w.wantKind(w.DeleteProject(ctx, DefaultDomain), ErrForbidden)
	_, err = w.UpdateProject(ctx, domain.ID, func(d *Project) error { d.Enabled = false; return nil })
	w.must(err)
	w.must(w.DeleteProject(ctx, domain.ID))
	w.restart()
	_, err = w.User(u.ID)
	w.wantKind(err, launcher.ErrNotFound)
	_, err = w.Project(p.ID)
	w.wantKind(err, launcher.ErrNotFound)
	if left := w.Assignments(func(a Assignment) bool { return a.User == u.ID }); len(left) > 0 {
		t.Errorf("assignments left: %v", left)
	}
}

// A change that cannot be stored is not seen.
func TestStoreFails(t *testing.T) {
	w := newWorld(t)
	u, p := w.member("ann", "member")
	w.store.broken = errors.New("disk full")
	_, err := w.CreateProject(t.Context(), Project{Name: "more"})
	w.wantKind(err, w.store.broken)
	w.wantKind(w.DeleteUser(t.Context(), u.ID), w.store.broken)
	w.wantKind(w.DeleteProject(t.Context(), p.ID), w.store.broken)
	if _, _, err := w.login("ann", "secret", Scope{}); err != nil {
		t.Errorf("after failed changes: %v", err)
	}
	if len(w.Projects(func(p Project) bool { return p.Name == "more" })) > 0 {
		t.Error("a project that was not stored is there")
	}
}

func TestKeysRotate(t *testing.T) {
	now := time.Now()
	dir := filepath.Join(t.TempDir(), "keys")
	cfg := KeysConfig{Dir: dir, Rotate: time.Hour, Keep: 2 * time.Hour, Now: func() time.Time { return now }}
	open := func() *Keys {
		k, err := OpenKeys(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first, err := open().seal([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	k := open()
	second, err := k.seal([]byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute)
	if err := os.WriteFile(filepath.Join(dir, ".key-half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{first, second} {
		if got, err := open().open(text); err != nil || string(got) != "hello" {
			t.Errorf("opened %q, %v", got, err)
		}
	}
	now = now.Add(time.Hour) // the first is out of use for more than two hours
	k = open()
	if _, err := k.open(first); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("a key that should be gone opens: %v", err)
	}
	if _, err := k.open(second); err != nil {
		t.Errorf("the second key: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 || strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
}

// A forgotten password is set anew, and nothing else changes.
func TestBootstrapAgain(t *testing.T) {
	w := newWorld(t)
	token, _, err := w.login("admin", "secret", Scope{})
	w.must(err)
	before := len(w.Roles(nil)) + len(w.Projects(nil)) + len(w.Users(nil))
	w.must(w.Bootstrap(t.Context(), "new"))
	if after := len(w.Roles(nil)) + len(w.Projects(nil)) + len(w.Users(nil)); after != before {
		t.Errorf("there were %d records, now %d", before, after)
	}
	_, _, err = w.login("admin", "secret", Scope{})
	w.wantKind(err, ErrUnauthorized)
	_, _, err = w.login("admin", "new", Scope{System: true})
	w.must(err)
	_, err = w.Validate(t.Context(), token)
	w.wantKind(err, ErrUnauthorized)
}
