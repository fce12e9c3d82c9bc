package launchertest

import (
	"bytes"
	"context"
	"maps"

	"github.com/slipway-vm/slipway/launcher/identity"
)

// Identities is an identity.Store in memory. Where Broken is set it refuses changes
// with that error.
type Identities struct {
	Broken  error
	records map[string]map[string][]byte
}

// NewIdentities makes an empty one.
func NewIdentities() *Identities { return &Identities{records: map[string]map[string][]byte{}} }

// Records implements identity.Store.
func (m *Identities) Records(_ context.Context, kind string) (map[string][]byte, error) {
	return maps.Clone(m.records[kind]), nil
}

// Apply implements identity.Store.
func (m *Identities) Apply(_ context.Context, changes []identity.Change) error {
	if m.Broken != nil {
		return m.Broken
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
