package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// Change is a record to be written, or where Record is nil to be removed.
type Change struct {
	Kind, ID string
	Record   []byte // JSON
}

// Store keeps the directory's records through a crash.
type Store interface {
	// Records returns every record of a kind, by id.
	Records(ctx context.Context, kind string) (map[string][]byte, error)
	// Apply makes changes, all or none; when it returns, they are durable.
	Apply(ctx context.Context, changes []Change) error
}

// Config says how a Directory works. Only Store and Keys must be given.
type Config struct {
	Store Store
	Keys  *Keys
	// TokenLife is how long a token is valid, an hour by default.
	TokenLife time.Duration
	// HashCost is bcrypt's cost, its own default by default. Each step doubles what
	// a login costs.
	HashCost int
	// Now is the time, time.Now by default.
	Now func() time.Time
}

// Directory holds who there is and what they may do. The functions that its methods
// are given must not call it.
type Directory struct {
	cfg    Config
	hashes hasher

	mu          sync.RWMutex
	projects    table[Project]
	users       table[User]
	groups      table[Group]
	roles       table[Role]
	assignments table[Assignment]
	credentials table[ApplicationCredential]
	revocations table[revocation]
	services    table[Service]
	endpoints   table[Endpoint]
	regions     table[Region]
}

// Open reads a directory from its store.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.TokenLife == 0 {
		cfg.TokenLife = time.Hour
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	d := &Directory{cfg: cfg, hashes: newHasher(cfg.HashCost)}
	for _, load := range []func(context.Context, Store) error{
		d.projects.load("project"), d.users.load("user"), d.groups.load("group"), d.roles.load("role"),
		d.assignments.load("assignment"), d.credentials.load("application_credential"), d.revocations.load("revocation"),
		d.services.load("service"), d.endpoints.load("endpoint"), d.regions.load("region"),
	} {
		if err := load(ctx, cfg.Store); err != nil {
			return nil, fmt.Errorf("open identities: %w", err)
		}
	}
	return d, nil
}

// table is the records of one kind. Rows are values: who changes one puts a new one
// in its place.
type table[T any] struct {
	kind string
	rows map[string]T
}

func (t *table[T]) load(kind string) func(context.Context, Store) error {
	return func(ctx context.Context, s Store) error {
		t.kind, t.rows = kind, map[string]T{}
		records, err := s.Records(ctx, kind)
		if err != nil {
			return err
		}
		for id, record := range records {
			var v T
			if err := json.Unmarshal(record, &v); err != nil {
				return fmt.Errorf("%s %s: %w", kind, id, err)
			}
			t.rows[id] = v
		}
		return nil
	}
}

// transaction collects changes; they are seen once all are stored.
type transaction struct {
	changes []Change
	after   []func()
}

func put[T any](tx *transaction, t *table[T], id string, v T) error {
	record, err := json.Marshal(v)
	if err != nil {
		return invalid("%s %s: %v", t.kind, id, err)
	}
	tx.changes = append(tx.changes, Change{t.kind, id, record})
	tx.after = append(tx.after, func() { t.rows[id] = v })
	return nil
}

func drop[T any](tx *transaction, t *table[T], id string) {
	tx.changes = append(tx.changes, Change{Kind: t.kind, ID: id})
	tx.after = append(tx.after, func() { delete(t.rows, id) })
}

// dropAll drops the rows that match.
func dropAll[T any](tx *transaction, t *table[T], match func(T) bool) {
	for id, v := range t.rows {
		if match(v) {
			drop(tx, t, id)
		}
	}
}

// change runs f, which reads the tables as they are and notes its changes, and
// makes these. After an error nothing has changed.
func (d *Directory) change(ctx context.Context, f func(*transaction) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var tx transaction
	if err := f(&tx); err != nil {
		return err
	}
	if len(tx.changes) == 0 {
		return nil
	}
	// A client that goes away must not leave memory and store apart.
	if err := d.cfg.Store.Apply(context.WithoutCancel(ctx), tx.changes); err != nil {
		return fmt.Errorf("store identities: %w", err)
	}
	for _, f := range tx.after {
		f()
	}
	return nil
}

// show returns one row.
func show[T any](d *Directory, t *table[T], what, id string) (T, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok := t.rows[id]
	if !ok {
		return v, notFound(what, id)
	}
	return v, nil
}

// list returns the rows that pass.
func list[T any](d *Directory, t *table[T], pass func(T) bool, by func(T) string) []T {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(t.rows, pass, by)
}

// find returns the row that matches, where there is one.
func find[T any](t *table[T], match func(T) bool) (T, bool) {
	for _, v := range t.rows {
		if match(v) {
			return v, true
		}
	}
	var none T
	return none, false
}

// newID makes an id as Keystone's are: a UUID without dashes.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return hex.EncodeToString(b[:])
}

// checkName refuses what Keystone does.
func checkName(what, name string) error {
	if name == "" || len(name) > 255 {
		return invalid("Invalid input for field 'name': the name of a %s has 1 to 255 characters.", what)
	}
	return nil
}
