package launchertest

import (
	"bytes"
	"context"
	"maps"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Section is a records.Store in memory. Where Broken is set it refuses changes
// with that error.
type Section struct {
	Broken  error
	records map[string]map[string][]byte
}

// NewSection makes an empty one.
func NewSection() *Section { return &Section{records: map[string]map[string][]byte{}} }

// Records implements records.Store.
func (m *Section) Records(_ context.Context, kind string) (map[string][]byte, error) {
	return maps.Clone(m.records[kind]), nil
}

// Apply implements records.Store.
func (m *Section) Apply(_ context.Context, changes []records.Change) error {
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
