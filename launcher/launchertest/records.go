package launchertest

import (
	"context"
	"maps"
	"sync"
)

// Records keeps records by kind and key in memory, and fails when told to. It
// implements compute.Store.
type Records struct {
	mu   sync.Mutex
	rows map[string]map[string][]byte
	// Err, where set, is what changes fail with.
	Err error
}

// PutRecord implements compute.Store.
func (r *Records) PutRecord(_ context.Context, kind, key string, record []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Err != nil {
		return r.Err
	}
	if r.rows == nil {
		r.rows = map[string]map[string][]byte{}
	}
	if r.rows[kind] == nil {
		r.rows[kind] = map[string][]byte{}
	}
	r.rows[kind][key] = record
	return nil
}

// RemoveRecord implements compute.Store.
func (r *Records) RemoveRecord(_ context.Context, kind, key string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Err == nil {
		delete(r.rows[kind], key)
	}
	return r.Err
}

// Records implements compute.Store.
func (r *Records) Records(_ context.Context, kind string) (map[string][]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.rows[kind]), nil
}
