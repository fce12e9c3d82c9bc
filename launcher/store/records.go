package store

import (
	"context"
	"fmt"
)

// recordsTable holds the records of whatever is no server, each kind in memory
// elsewhere: see compute.Store.
const recordsTable = `CREATE TABLE records (
	kind   TEXT NOT NULL,
	key    TEXT NOT NULL,
	record BLOB NOT NULL,
	PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;`

const putRecord = `INSERT INTO records (kind, key, record) VALUES (?, ?, ?)
	ON CONFLICT (kind, key) DO UPDATE SET record = excluded.record`

// PutRecord writes a record; when it returns, the record is durable.
func (s *Store) PutRecord(ctx context.Context, kind, key string, record []byte) error {
	_, err := s.db.ExecContext(ctx, putRecord, kind, key, record)
	if err != nil {
		return fmt.Errorf("save %s %s: %w", kind, key, err)
	}
	return nil
}

// RemoveRecord forgets a record. One that is not there is no error.
func (s *Store) RemoveRecord(ctx context.Context, kind, key string) error {
	if _, err := s.db.ExecContext(ctx, "DELETE FROM records WHERE kind = ? AND key = ?", kind, key); err != nil {
		return fmt.Errorf("remove %s %s: %w", kind, key, err)
	}
	return nil
}

// Records returns the records of a kind by key.
func (s *Store) Records(ctx context.Context, kind string) (map[string][]byte, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT key, record FROM records WHERE kind = ?", kind)
	if err != nil {
		return nil, fmt.Errorf("list records of kind %s: %w", kind, err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string][]byte{}
	for rows.Next() {
		var key string
		var record []byte
		if err := rows.Scan(&key, &record); err != nil {
			return nil, fmt.Errorf("list records of kind %s: %w", kind, err)
		}
		all[key] = record
	}
	return all, rows.Err()
}
