package cloudinit

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// User is an account to make. Fields that are empty take useradd(8)'s defaults.
type User struct {
	Name         string
	UID          string // a number, or empty
	Gecos        string
	Home         string
	Shell        string
	PrimaryGroup string
	Groups       []string
	System       bool
	NoCreateHome bool
	NoUserGroup  bool
	// PasswordHash is a hash as in shadow(5); PlainPassword is to be hashed.
	PasswordHash   string
	PlainPassword  Secret
	LockPassword   bool
	ExpireDate     string // YYYY-MM-DD
	Sudo           []string
	AuthorizedKeys []string
}

// Secret is a text that is not printed.
type Secret string

// String implements fmt.Stringer.
func (Secret) String() string { return "(secret)" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "(secret)" }

// Group is a group to make, and who belongs to it.
type Group struct {
	Name    string
	Members []string
}

// Password is the password that a user's is to become.
type Password struct {
	User   string // empty: the default user's
	Value  Secret
	Hashed bool // Value is a hash as in shadow(5)
	Random bool // one is to be made up, and shown on the console
}

// userName is what useradd accepts.
var userName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,30}\$?$`)

func (c *Config) decodeGroups(v any) error {
	var bad []error
	add := func(name string, members []string) {
		if !userName.MatchString(name) {
			bad = append(bad, fmt.Errorf("%q is no group name", name))
			return
		}
		c.Groups = append(c.Groups, Group{name, members})
	}
	list, isList := v.([]any)
	if m, ok := v.(map[string]any); ok {
		list = []any{m}
	} else if !isList {
		list = anys(commaTexts(v))
	}
	for _, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			add(text(v), nil)
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(m)) {
			add(name, commaTexts(m[name]))
		}
	}
	return errors.Join(bad...)
}

func (c *Config) decodeUsers(v any) error {
	var list []any
	switch v := v.(type) {
	case []any:
		list = v
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			m, ok := v[name].(map[string]any)
			if !ok {
				m = map[string]any{}
			}
			m = maps.Clone(m)
			m["name"] = name
			list = append(list, m)
		}
	default:
		list = anys(commaTexts(v))
	}
	var bad []error
	for i, v := range list {
		if text(v) != "" {
			for _, name := range commaTexts(v) {
				if name != "default" { // the distribution's, of which there is none
					bad = append(bad, c.addUser(map[string]any{"name": name}))
				}
			}
			continue
		}
		m, err := mapOf(v)
		if err == nil {
			err = c.addUser(m)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("entry %d: %w", i+1, err))
		}
	}
	return errors.Join(bad...)
}

// userKeys are the keys of a user that are honoured. The last ones mean nothing
// here, and are no reason to say so either.
var userKeys = []string{"name", "uid", "gecos", "homedir", "shell", "primary_group", "groups", "system",
	"no_create_home", "no_user_group", "passwd", "hashed_passwd", "plain_text_passwd", "lock_passwd",
	"lock-passwd", "expiredate", "sudo", "ssh_authorized_keys", "ssh-authorized-keys",
	"no_log_init", "create_groups", "selinux_user", "default"}

// addUser adds the user that m describes. The error may be about a single key, the
// others being honoured.
func (c *Config) addUser(m map[string]any) error {
	u := User{Name: text(m["name"]), UID: text(m["uid"]), Gecos: text(m["gecos"]), Home: text(m["homedir"]),
		Shell: text(m["shell"]), PrimaryGroup: text(m["primary_group"]), Groups: commaTexts(m["groups"]),
		ExpireDate: text(m["expiredate"]), PlainPassword: Secret(text(m["plain_text_passwd"])), LockPassword: true,
		AuthorizedKeys: append(texts(m["ssh_authorized_keys"]), texts(m["ssh-authorized-keys"])...)}
	if !userName.MatchString(u.Name) {
		return fmt.Errorf("%q is no user name", u.Name)
	}
	for _, field := range []string{u.Gecos, u.Home, u.Shell, text(m["passwd"]), text(m["hashed_passwd"])} {
		if strings.ContainsAny(field, ":\n") {
			return fmt.Errorf("user %s: %q has a colon or a line's end in it", u.Name, field)
		}
	}
	if u.PasswordHash = text(m["hashed_passwd"]); u.PasswordHash == "" {
		u.PasswordHash = text(m["passwd"])
	}
	var bad []error
	for key, to := range map[string]*bool{"system": &u.System, "no_create_home": &u.NoCreateHome,
		"no_user_group": &u.NoUserGroup, "lock_passwd": &u.LockPassword, "lock-passwd": &u.LockPassword} {
		if m[key] != nil {
			if err := boolOf(to, m[key]); err != nil {
				bad = append(bad, fmt.Errorf("user %s: %s: %w", u.Name, key, err))
			}
		}
	}
	if allowed, ok := m["sudo"].(bool); !ok || allowed { // false: none
		u.Sudo = texts(m["sudo"])
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(userKeys, key) {
			bad = append(bad, fmt.Errorf("user %s: %s is not honoured", u.Name, key))
		}
	}
	c.Users = append(c.Users, u)
	return errors.Join(bad...)
}

func (c *Config) decodePassword(v any) error {
	c.Passwords = append(c.Passwords, Password{Value: Secret(text(v)), Hashed: isHash(text(v))})
	return nil
}

var hash = regexp.MustCompile(`^\$(1|2a|2y|5|6|y)(\$.+){2}`)

func isHash(s string) bool { return hash.MatchString(s) }

// decodeChpasswd reads users with passwords, and the older form, lines of
// user:password.
func (c *Config) decodeChpasswd(v any) error {
	m, err := mapOf(v)
	if err != nil {
		return err
	}
	if m["expire"] != nil {
		if err := boolOf(&c.ExpirePasswords, m["expire"]); err != nil {
			return fmt.Errorf("expire: %w", err)
		}
	}
	var bad []error
	users, _ := m["users"].([]any)
	for i, v := range users {
		u, _ := v.(map[string]any)
		kind := text(u["type"])
		p := Password{User: text(u["name"]), Value: Secret(text(u["password"])), Hashed: kind == "hash" || kind == "", Random: kind == "RANDOM"}
		if !userName.MatchString(p.User) || p.Value == "" && !p.Random {
			bad = append(bad, fmt.Errorf("users: entry %d: needs a name and a password", i+1))
			continue
		}
		c.Passwords = append(c.Passwords, p)
	}
	lines := texts(m["list"])
	if s, ok := m["list"].(string); ok {
		lines = strings.Split(s, "\n")
	}
	for _, line := range lines {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		user, value, ok := strings.Cut(line, ":")
		if !ok || !userName.MatchString(user) {
			bad = append(bad, errors.New("list: a line that is not user:password"))
			continue
		}
		c.Passwords = append(c.Passwords, Password{User: user, Value: Secret(value), Hashed: isHash(value), Random: value == "R" || value == "RANDOM"})
	}
	return errors.Join(bad...)
}
