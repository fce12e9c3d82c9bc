package compute

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
)

// Store keeps records through a crash. A record is a JSON document with a key that
// is unique among those of its kind.
type Store interface {
	// PutRecord writes a record; when it returns, the record is durable.
	PutRecord(ctx context.Context, kind, key string, record []byte) error
	// RemoveRecord forgets a record. One that is not there is no error.
	RemoveRecord(ctx context.Context, kind, key string) error
	// Records returns the records of a kind by key.
	Records(ctx context.Context, kind string) (map[string][]byte, error)
}

// table is the records of one kind in memory. A row is never changed in place.
type table[T any] struct {
	store Store
	kind  string

	mu   sync.RWMutex
	rows map[string]T
}

func openTable[T any](ctx context.Context, store Store, kind string) (*table[T], error) {
	t := &table[T]{store: store, kind: kind, rows: map[string]T{}}
	records, err := store.Records(ctx, kind)
	if err != nil {
		return nil, err
	}
	for key, record := range records {
		var row T
		if err := json.Unmarshal(record, &row); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", kind, key, err)
		}
		t.rows[key] = row
	}
	return t, nil
}

func (t *table[T]) get(key string) (T, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	row, ok := t.rows[key]
	return row, ok
}

// all returns the rows that want holds of, in no order; nil wants all.
func (t *table[T]) all(want func(T) bool) []T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.some(want)
}

// some is all under the caller's lock.
func (t *table[T]) some(want func(T) bool) []T {
	var list []T
	for _, row := range t.rows {
		if want == nil || want(row) {
			list = append(list, row)
		}
	}
	return list
}

// change puts what f makes of the row with a key. f runs under the table's lock;
// after an error all is as it was.
func (t *table[T]) change(ctx context.Context, key string, f func(row T, exists bool) (T, error)) (T, error) {
	return t.add(ctx, func() (string, T, error) {
		old, exists := t.rows[key]
		row, err := f(old, exists)
		return key, row, err
	})
}

// add puts the row that f makes, and finds a key for, under the table's lock.
func (t *table[T]) add(ctx context.Context, f func() (key string, row T, err error)) (T, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key, row, err := f()
	if err != nil {
		return row, err
	}
	record, err := json.Marshal(row)
	if err != nil {
		return row, err
	}
	if err := t.store.PutRecord(ctx, t.kind, key, record); err != nil {
		return row, err
	}
	t.rows[key] = row
	return row, nil
}

// remove forgets the rows that doomed holds of, and says how many.
func (t *table[T]) remove(ctx context.Context, doomed func(key string, row T) bool) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for key, row := range t.rows {
		if !doomed(key, row) {
			continue
		}
		if err := t.store.RemoveRecord(ctx, t.kind, key); err != nil {
			return n, err
		}
		delete(t.rows, key)
		n++
	}
	return n, nil
}

// drop forgets one row, and says whether it was there.
func (t *table[T]) drop(ctx context.Context, key string) (bool, error) {
	n, err := t.remove(ctx, func(k string, _ T) bool { return k == key })
	return n > 0, err
}
