package identity

import (
	"context"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Policy is a text that is kept for a service that asks for it. None here does.
type Policy struct {
	ID    string         `json:"id"`
	Type  string         `json:"type"` // media type of the text
	Blob  string         `json:"blob"`
	Extra map[string]any `json:"extra,omitempty"`
}

// Policy returns one by its ID.
func (d *Directory) Policy(id string) (Policy, error) { return show(d, &d.policies, "policy", id) }

// Policies lists all.
func (d *Directory) Policies() []Policy {
	return list(d, &d.policies, nil, func(p Policy) string { return p.ID })
}

// SavePolicy adds a policy that has no ID, which gets one, or changes it.
func (d *Directory) SavePolicy(ctx context.Context, p Policy) (Policy, error) {
	return p, d.change(ctx, func(tx *records.Tx) error {
		if p.ID == "" {
			p.ID = newID()
		} else if _, ok := d.policies.Rows[p.ID]; !ok {
			return notFound("policy", p.ID)
		}
		return records.Put(tx, &d.policies, p.ID, p)
	})
}

// DeletePolicy removes one.
func (d *Directory) DeletePolicy(ctx context.Context, id string) error {
	return d.change(ctx, func(tx *records.Tx) error {
		if _, ok := d.policies.Rows[id]; !ok {
			return notFound("policy", id)
		}
		records.Drop(tx, &d.policies, id)
		return nil
	})
}
