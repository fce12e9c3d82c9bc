package configure

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-crypt/crypt/algorithm/shacrypt"

	"github.com/slipway-vm/slipway/cloudinit"
)

// table is a file of accounts: lines of fields between colons, the first of which
// names the line.
type table struct {
	path  string
	mode  os.FileMode
	lines []string
}

func (s *System) table(name string, mode os.FileMode) (*table, error) {
	t := &table{path: s.path(name), mode: mode}
	data, err := os.ReadFile(t.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		t.lines = append(t.lines, strings.TrimSuffix(line, "\n"))
	}
	return t, nil
}

// find returns the fields of the line that name names.
func (t *table) find(name string) ([]string, bool) {
	for _, line := range t.lines {
		if f := strings.Split(line, ":"); f[0] == name {
			return f, true
		}
	}
	return nil, false
}

// put replaces or adds the line that the first field names.
func (t *table) put(fields ...string) {
	line := strings.Join(fields, ":")
	for i, l := range t.lines {
		if name, _, _ := strings.Cut(l, ":"); name == fields[0] {
			t.lines[i] = line
			return
		}
	}
	t.lines = append(t.lines, line)
}

// freeID is the first unused number in the third field, from 1000 up, or from 999
// down for the system's own.
func (t *table) freeID(system bool) int {
	used := map[int]bool{}
	for _, line := range t.lines {
		if f := strings.Split(line, ":"); len(f) > 2 {
			if id, err := strconv.Atoi(f[2]); err == nil {
				used[id] = true
			}
		}
	}
	id, by := 1000, 1
	if system {
		id, by = 999, -1
	}
	for used[id] {
		id += by
	}
	return id
}

// save replaces the file, keeping its owner and mode.
func (t *table) save() error {
	var out bytes.Buffer
	for _, line := range t.lines {
		out.WriteString(line + "\n")
	}
	info, err := os.Stat(t.path)
	if err == nil {
		t.mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(t.path), 0o755); err != nil {
		return err
	}
	next := t.path + ".slipway"
	if err := os.WriteFile(next, out.Bytes(), t.mode); err != nil {
		return errors.Join(err, os.Remove(next))
	}
	if err == nil {
		if err := copyOwner(info, next); err != nil {
			return errors.Join(err, os.Remove(next))
		}
	}
	return os.Rename(next, t.path)
}

// accounts are the tables of a root.
type accounts struct{ passwd, shadow, group *table }

func (s *System) accounts() (a accounts, err error) {
	for _, t := range []struct {
		to   **table
		name string
		mode os.FileMode
	}{{&a.passwd, "/etc/passwd", 0o644}, {&a.shadow, "/etc/shadow", 0o640}, {&a.group, "/etc/group", 0o644}} {
		if *t.to, err = s.table(t.name, t.mode); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (a accounts) save() error {
	return errors.Join(a.group.save(), a.passwd.save(), a.shadow.save())
}

// ensureGroup makes a group where it is missing and returns its number.
func (a accounts) ensureGroup(name string, system bool) string {
	if f, ok := a.group.find(name); ok && len(f) > 2 {
		return f[2]
	}
	gid := strconv.Itoa(a.group.freeID(system))
	a.group.put(name, "x", gid, "")
	return gid
}

func (a accounts) join(group, user string) {
	a.ensureGroup(group, false)
	f, _ := a.group.find(group)
	for len(f) < 4 {
		f = append(f, "")
	}
	members := strings.FieldsFunc(f[3], func(r rune) bool { return r == ',' })
	if !slices.Contains(members, user) {
		f[3] = strings.Join(append(members, user), ",")
		a.group.put(f...)
	}
}

func (s *System) groups(_ context.Context, u *cloudinit.UserData) error {
	if len(u.Config.Groups) == 0 {
		return nil
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	var bad []error
	for _, g := range u.Config.Groups {
		a.ensureGroup(g.Name, false)
		for _, m := range g.Members {
			if _, ok := a.passwd.find(m); !ok && !slices.ContainsFunc(u.Config.Users, func(u cloudinit.User) bool { return u.Name == m }) {
				bad = append(bad, fmt.Errorf("%s: there is no user %s", g.Name, m))
				continue
			}
			a.join(g.Name, m)
		}
	}
	return errors.Join(append(bad, a.save())...)
}

func (s *System) users(_ context.Context, u *cloudinit.UserData) error {
	var bad []error
	for _, user := range u.Config.Users {
		if err := s.addUser(user); err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", user.Name, err))
		}
	}
	return errors.Join(bad...)
}

// addUser makes the account where it is missing. One that the image has keeps what
// it is, but for groups, password and keys.
func (s *System) addUser(u cloudinit.User) error {
	a, err := s.accounts()
	if err != nil {
		return err
	}
	entry, exists := a.passwd.find(u.Name)
	if !exists {
		entry = s.newUser(a, u)
		a.passwd.put(entry...)
	}
	for _, g := range u.Groups {
		a.join(g, u.Name)
	}
	hash := u.PasswordHash
	if hash == "" && u.PlainPassword != "" {
		if hash, err = hashPassword(string(u.PlainPassword)); err != nil {
			return err
		}
	}
	if !exists || hash != "" {
		if hash == "" {
			hash = "!"
		} else if u.LockPassword {
			hash = "!" + hash
		}
		a.setPassword(u.Name, hash, u.ExpireDate, false)
	}
	if err := a.save(); err != nil {
		return err
	}
	if !exists && !u.NoCreateHome {
		if err := s.makeHome(u.Name, entry[5]); err != nil {
			return err
		}
	}
	return errors.Join(s.authorize(u.Name, u.AuthorizedKeys), s.allowSudo(u))
}

// newUser is the line that useradd would write.
func (s *System) newUser(a accounts, u cloudinit.User) []string {
	uid := u.UID
	if uid == "" {
		uid = strconv.Itoa(a.passwd.freeID(u.System))
	}
	var gid string
	switch {
	case u.PrimaryGroup != "":
		gid = a.ensureGroup(u.PrimaryGroup, u.System)
	case u.NoUserGroup:
		gid = a.ensureGroup("users", true)
	default:
		gid = a.ensureGroup(u.Name, u.System)
	}
	home, shell := u.Home, u.Shell
	if home == "" {
		home = "/home/" + u.Name
	}
	if shell == "" {
		shell = "/bin/sh"
		if _, err := os.Stat(s.path("/bin/bash")); err == nil {
			shell = "/bin/bash"
		}
	}
	return []string{u.Name, "x", uid, gid, u.Gecos, home, shell}
}

// setPassword writes the line of shadow(5). expired has the password be changed at
// the next login.
func (a accounts) setPassword(user, hash, expireDate string, expired bool) {
	f, ok := a.shadow.find(user)
	if !ok {
		f = []string{user, "", "", "0", "99999", "7", "", "", ""}
	}
	for len(f) < 9 {
		f = append(f, "")
	}
	f[1], f[2] = hash, strconv.Itoa(int(time.Now().Unix()/86400))
	if expired {
		f[2] = "0"
	}
	if day, err := time.Parse(time.DateOnly, expireDate); err == nil {
		f[7] = strconv.Itoa(int(day.Unix() / 86400))
	}
	a.shadow.put(f...)
}

func (s *System) passwords(_ context.Context, u *cloudinit.UserData) error {
	if len(u.Config.Passwords) == 0 {
		return nil
	}
	a, err := s.accounts()
	if err != nil {
		return err
	}
	var bad []error
	for _, p := range u.Config.Passwords {
		user, value := p.User, string(p.Value)
		if user == "" {
			user = "root"
		}
		if _, ok := a.passwd.find(user); !ok {
			bad = append(bad, fmt.Errorf("there is no user %s", user))
			continue
		}
		if p.Random {
			value = rand.Text()[:20]
			s.Report(fmt.Sprintf("password of %s: %s", user, value))
		}
		if !p.Hashed {
			if value, err = hashPassword(value); err != nil {
				bad = append(bad, fmt.Errorf("%s: %w", user, err))
				continue
			}
		}
		a.setPassword(user, value, "", u.Config.ExpirePasswords && !p.Hashed)
	}
	return errors.Join(append(bad, a.save())...)
}

// hashPassword returns the form that crypt(3) calls sha512crypt, which every C
// library knows.
func hashPassword(password string) (string, error) {
	hasher, err := shacrypt.New(shacrypt.WithVariant(shacrypt.VariantSHA512), shacrypt.WithIterations(5000))
	if err != nil {
		return "", err
	}
	digest, err := hasher.Hash(password)
	if err != nil {
		return "", err
	}
	return digest.Encode(), nil
}

// defaultKeys lets the keys of the server and of user-data in as root, the one user
// that each image has.
func (s *System) defaultKeys(_ context.Context, u *cloudinit.UserData) error {
	return s.authorize("root", append(slices.Clone(s.Meta.PublicKeys), u.Config.AuthorizedKeys...))
}

// authorize adds keys to those that a user may log in by.
func (s *System) authorize(user string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	id, err := s.identity(user)
	if user == "root" { // whom an image need not list
		id, err = s.identity("0")
	}
	if err != nil {
		return err
	}
	if user == "root" && id.Home == "/" {
		id.Home = "/root"
	}
	file := filepath.Join(id.Home, ".ssh", "authorized_keys")
	data, err := os.ReadFile(s.path(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	present := strings.Split(string(data), "\n")
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(data, '\n')
	}
	for _, key := range keys {
		if key = strings.TrimSpace(key); !slices.Contains(present, key) {
			present = append(present, key)
			data = append(data, key+"\n"...)
		}
	}
	if err := s.writeFile(file, data, 0o600); err != nil {
		return err
	}
	dir := s.path(filepath.Dir(file))
	return errors.Join(os.Chmod(dir, 0o700), os.Lchown(dir, int(id.UID), int(id.GID)),
		os.Lchown(s.path(file), int(id.UID), int(id.GID)))
}

// allowSudo writes the user's rules where sudo(8) looks for them.
func (s *System) allowSudo(u cloudinit.User) error {
	if len(u.Sudo) == 0 {
		return nil
	}
	const file = "/etc/sudoers.d/90-cloud-init-users"
	data, err := os.ReadFile(s.path(file))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, rule := range u.Sudo {
		if strings.ContainsRune(rule, '\n') {
			return errors.New("sudo: a rule of several lines")
		}
		data = append(data, u.Name+" "+rule+"\n"...)
	}
	return s.writeFile(file, data, 0o440)
}
