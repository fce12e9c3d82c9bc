package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/slipway-vm/slipway/launcher/identity"
)

// Identities is the part of a Store that holds who may use it. It implements
// identity.Store.
type Identities struct{ store *Store }

// Identities returns that part.
func (s *Store) Identities() *Identities { return &Identities{s} }

// identityKind tells the kinds of the directory from those of others.
func identityKind(kind string) string { return "identity/" + kind }

// Records implements identity.Store.
func (i *Identities) Records(ctx context.Context, kind string) (map[string][]byte, error) {
	return i.store.Records(ctx, identityKind(kind))
}

// Apply implements identity.Store.
func (i *Identities) Apply(ctx context.Context, changes []identity.Change) error {
	tx, err := i.store.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Record == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM records WHERE kind = ? AND key = ?", identityKind(c.Kind), c.ID)
		} else {
			_, err = tx.ExecContext(ctx, putRecord, identityKind(c.Kind), c.ID, c.Record)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("change %s %s: %w", c.Kind, c.ID, err), tx.Rollback())
		}
	}
	return tx.Commit()
}
