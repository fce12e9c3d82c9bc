// Package records keeps tables of records in memory and in a store: what is read
// comes from memory, what is changed is stored first, several records at once.
package records

import (
	"context"
	"encoding/json"
	"fmt"
)

// Change is a record to be written, or where Record is nil to be removed.
type Change struct {
	Kind, ID string
	Record   []byte // JSON
}

// Store keeps records through a crash.
type Store interface {
	// Records returns every record of a kind, by id.
	Records(ctx context.Context, kind string) (map[string][]byte, error)
	// Apply makes changes, all or none; when it returns, they are durable.
	Apply(ctx context.Context, changes []Change) error
}

// Table is the records of one kind. Rows are values: who changes one puts a new one
// in its place. Who uses a table holds its owner's lock.
type Table[T any] struct {
	Kind string
	Rows map[string]T // by id
}

// Load returns what reads the table's records from a store.
func (t *Table[T]) Load(kind string) func(context.Context, Store) error {
	return func(ctx context.Context, s Store) error {
		t.Kind, t.Rows = kind, map[string]T{}
		stored, err := s.Records(ctx, kind)
		if err != nil {
			return err
		}
		for id, record := range stored {
			var v T
			if err := json.Unmarshal(record, &v); err != nil {
				return fmt.Errorf("%s %s: %w", kind, id, err)
			}
			t.Rows[id] = v
		}
		return nil
	}
}

// Find returns a row that matches, where there is one.
func (t *Table[T]) Find(match func(T) bool) (T, bool) {
	for _, v := range t.Rows {
		if match(v) {
			return v, true
		}
	}
	var none T
	return none, false
}

// Tx collects changes, which tables do not show before Commit.
type Tx struct {
	changes []Change
	after   []func()
}

// Put notes a row to be written.
func Put[T any](tx *Tx, t *Table[T], id string, v T) error {
	record, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s %s: %w", t.Kind, id, err)
	}
	tx.changes = append(tx.changes, Change{t.Kind, id, record})
	tx.after = append(tx.after, func() { t.Rows[id] = v })
	return nil
}

// Drop notes a row to be removed.
func Drop[T any](tx *Tx, t *Table[T], id string) {
	tx.changes = append(tx.changes, Change{Kind: t.Kind, ID: id})
	tx.after = append(tx.after, func() { delete(t.Rows, id) })
}

// DropAll notes the rows that match to be removed.
func DropAll[T any](tx *Tx, t *Table[T], match func(T) bool) {
	for id, v := range t.Rows {
		if match(v) {
			Drop(tx, t, id)
		}
	}
}

// Commit stores what was noted, and then shows it in the tables. After an error
// nothing has changed.
func (tx *Tx) Commit(ctx context.Context, s Store) error {
	if len(tx.changes) == 0 {
		return nil
	}
	// A client that goes away must not leave memory and store apart.
	if err := s.Apply(context.WithoutCancel(ctx), tx.changes); err != nil {
		return err
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}
