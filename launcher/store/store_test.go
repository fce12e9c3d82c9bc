package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

func TestRecordsSurvive(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "a b?c.db")
	s, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	one := &launcher.Server{ID: "1", Name: "one", Created: now.Add(time.Second), VMState: launcher.VMActive}
	two := &launcher.Server{ID: "2", Name: "two", Created: now, Exit: &launcher.Exit{Code: 3}}
	for _, srv := range []*launcher.Server{one, two} {
		if err := s.Save(ctx, srv); err != nil {
			t.Fatal(err)
		}
	}
	one.VMState = launcher.VMStopped
	if err := s.Save(ctx, one); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(ctx, path); err != nil {
		t.Fatal(err)
	}
	all, err := s.Servers(ctx)
	if err != nil || len(all) != 2 || all[0].ID != "2" || all[0].Exit.Code != 3 || all[1].VMState != launcher.VMStopped {
		t.Errorf("read back %+v, %v", all, err)
	}
	for range 2 { // the second time it is not there
		if err := s.Remove(ctx, "1"); err != nil {
			t.Fatal(err)
		}
	}
	if all, err = s.Servers(ctx); err != nil || len(all) != 1 {
		t.Errorf("after a removal: %v, %v", all, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "slipway.db")
	s, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.db.ExecContext(ctx, "PRAGMA user_version = 1000"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(ctx, path); err == nil || !strings.Contains(err.Error(), "newer slipway") {
		t.Errorf("opened with %v", err)
	}
}

func TestIdentitiesSurvive(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "slipway.db")
	s, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	put := []records.Change{{Kind: "user", ID: "1", Record: []byte(`{"a":1}`)}, {Kind: "role", ID: "1", Record: []byte(`{}`)}}
	then := []records.Change{{Kind: "user", ID: "1", Record: []byte(`{"a":2}`)}, {Kind: "role", ID: "1"}, {Kind: "role", ID: "none"}}
	for _, changes := range [][]records.Change{put, then} {
		if err := s.Identities().Apply(ctx, changes); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(ctx, path); err != nil {
		t.Fatal(err)
	}
	users, err := s.Identities().Records(ctx, "user")
	if err != nil || len(users) != 1 || string(users["1"]) != `{"a":2}` {
		t.Errorf("users are %q, %v", users, err)
	}
	if roles, err := s.Identities().Records(ctx, "role"); err != nil || len(roles) != 0 {
		t.Errorf("roles are %q, %v", roles, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
