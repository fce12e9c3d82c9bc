package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Section is the records of one part of Slipway, whose kinds are its own. It
// implements records.Store.
type Section struct {
	store  *Store
	prefix string // of its kinds in the file
}

// Identities returns the section of who may use Slipway.
func (s *Store) Identities() *Section { return &Section{s, "identity/"} }

// Networks returns the section of networks and what belongs to them.
func (s *Store) Networks() *Section { return &Section{s, "network/"} }

// Images returns the section of the image service's images.
func (s *Store) Images() *Section { return &Section{s, "image/"} }

// Records implements records.Store.
func (p *Section) Records(ctx context.Context, kind string) (map[string][]byte, error) {
	return p.store.Records(ctx, p.prefix+kind)
}

// Apply implements records.Store.
func (p *Section) Apply(ctx context.Context, changes []records.Change) error {
	tx, err := p.store.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Record == nil {
			_, err = tx.ExecContext(ctx, "DELETE FROM records WHERE kind = ? AND key = ?", p.prefix+c.Kind, c.ID)
		} else {
			_, err = tx.ExecContext(ctx, putRecord, p.prefix+c.Kind, c.ID, c.Record)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("change %s %s: %w", c.Kind, c.ID, err), tx.Rollback())
		}
	}
	return tx.Commit()
}
