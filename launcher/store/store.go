// Package store keeps the launcher's records in one SQLite file, in WAL mode.
//
// A record is a JSON document beside the columns that are looked up; the schema
// carries its version in user_version and is migrated when the file is opened.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"

	_ "github.com/mattn/go-sqlite3" // the "sqlite3" driver

	"github.com/slipway-vm/slipway/launcher"
)

// migrations lead from one version of the schema to the next; none is ever changed.
var migrations = []string{
	`CREATE TABLE servers (
		id      TEXT PRIMARY KEY,
		name    TEXT NOT NULL,
		created INTEGER NOT NULL,
		record  BLOB NOT NULL
	) STRICT;
	CREATE INDEX servers_created ON servers (created, id);`,
	recordsTable,
	`CREATE TABLE actions (
		server  TEXT NOT NULL,
		request TEXT NOT NULL,
		start   INTEGER NOT NULL,
		record  BLOB NOT NULL,
		PRIMARY KEY (server, start, request)
	) STRICT;`,
}

// Store is an open file of records. It implements launcher.Store, and by
// Identities, Networks and Images records.Store.
type Store struct{ db *sql.DB }

// Open opens the file at path, or makes it.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := private(path); err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	dsn := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	dsn.RawQuery = "_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_txlock=immediate"
	db, err := sql.Open("sqlite3", dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1) // one writer, and reads are few
	s := &Store{db}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open records %s: %w", path, err), db.Close())
	}
	return s, nil
}

// private makes the file where it is not there, and sees to it that nobody else
// can read it: it holds hashes of passwords. SQLite gives its other files the same
// mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Close())
}

func (s *Store) migrate(ctx context.Context) error {
	var version int
	if err := s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version > len(migrations) {
		return fmt.Errorf("written by a newer slipway (schema %d, this one knows %d)", version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, migrations[version]+fmt.Sprintf("PRAGMA user_version = %d;", version+1))
		if err != nil {
			return errors.Join(fmt.Errorf("migrate to schema %d: %w", version+1, err), tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the file.
func (s *Store) Close() error { return s.db.Close() }

// Ping reports whether the file answers.
func (s *Store) Ping(ctx context.Context) error {
	var version int
	return s.db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
}

// Save implements launcher.Store.
func (s *Store) Save(ctx context.Context, srv *launcher.Server, actions ...launcher.ActionRecord) error {
	record, err := json.Marshal(srv)
	if err != nil {
		return err
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("save server %s: %w", srv.ID, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO servers (id, name, created, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record`,
		srv.ID, srv.Name, srv.Created.UnixNano(), record)
	for _, a := range actions {
		if err == nil {
			err = saveAction(ctx, tx, a)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save server %s: %w", srv.ID, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("save server %s: %w", srv.ID, err)
	}
	return nil
}

func saveAction(ctx context.Context, tx *sql.Tx, a launcher.ActionRecord) error {
	record, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO actions (server, request, start, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (server, start, request) DO UPDATE SET record = excluded.record`,
		a.Server, a.Request, a.Start.UnixNano(), record)
	return err
}

// Actions implements launcher.Store.
func (s *Store) Actions(ctx context.Context, server string) ([]launcher.ActionRecord, error) {
	return read[launcher.ActionRecord](ctx, s.db, "SELECT record FROM actions WHERE server = ? ORDER BY start, request", server)
}

// Remove implements launcher.Store.
func (s *Store) Remove(ctx context.Context, id string) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	_, err = tx.ExecContext(ctx, "DELETE FROM actions WHERE server = ?", id)
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM servers WHERE id = ?", id)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("remove server %s: %w", id, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	return nil
}

// Servers implements launcher.Store.
func (s *Store) Servers(ctx context.Context) ([]*launcher.Server, error) {
	return read[*launcher.Server](ctx, s.db, "SELECT record FROM servers ORDER BY created, id")
}

// read decodes the records that a query finds.
func read[T any](ctx context.Context, db *sql.DB, query string, args ...any) ([]T, error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		var record []byte
		if err := rows.Scan(&record); err != nil {
			return nil, fmt.Errorf("read records: %w", err)
		}
		var v T
		if err := json.Unmarshal(record, &v); err != nil {
			return nil, fmt.Errorf("read a record: %w", err)
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
