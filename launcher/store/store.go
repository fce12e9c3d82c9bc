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
}

// Store is an open file of records. It implements launcher.Store.
type Store struct{ db *sql.DB }

// Open opens the file at path, or makes it.
func Open(ctx context.Context, path string) (*Store, error) {
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

// Save implements launcher.Store.
func (s *Store) Save(ctx context.Context, srv *launcher.Server) error {
	record, err := json.Marshal(srv)
	if err != nil {
		return err
	}
	_, err = s.db.ExecContext(ctx, `INSERT INTO servers (id, name, created, record) VALUES (?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record`,
		srv.ID, srv.Name, srv.Created.UnixNano(), record)
	if err != nil {
		return fmt.Errorf("save server %s: %w", srv.ID, err)
	}
	return nil
}

// Remove implements launcher.Store.
func (s *Store) Remove(ctx context.Context, id string) error {
	if _, err := s.db.ExecContext(ctx, "DELETE FROM servers WHERE id = ?", id); err != nil {
		return fmt.Errorf("remove server %s: %w", id, err)
	}
	return nil
}

// Servers implements launcher.Store.
func (s *Store) Servers(ctx context.Context) ([]*launcher.Server, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT record FROM servers ORDER BY created, id")
	if err != nil {
		return nil, fmt.Errorf("list servers: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var all []*launcher.Server
	for rows.Next() {
		var record []byte
		if err := rows.Scan(&record); err != nil {
			return nil, fmt.Errorf("list servers: %w", err)
		}
		srv := new(launcher.Server)
		if err := json.Unmarshal(record, srv); err != nil {
			return nil, fmt.Errorf("read a server's record: %w", err)
		}
		all = append(all, srv)
	}
	return all, rows.Err()
}
