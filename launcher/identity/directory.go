package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/slipway-vm/slipway/launcher/records"
)

// Config says how a Directory works. Only Store and Keys must be given.
type Config struct {
	Store records.Store
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
	projects    records.Table[Project]
	users       records.Table[User]
	groups      records.Table[Group]
	roles       records.Table[Role]
	assignments records.Table[Assignment]
	credentials records.Table[ApplicationCredential]
	stored      records.Table[StoredCredential]
	access      records.Table[AccessRule]
	trusts      records.Table[Trust]
	registered  records.Table[RegisteredLimit]
	limits      records.Table[Limit]
	revocations records.Table[revocation]
	services    records.Table[Service]
	endpoints   records.Table[Endpoint]
	regions     records.Table[Region]
	policies    records.Table[Policy]
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
	for _, load := range []func(context.Context, records.Store) error{
		d.projects.Load("project"), d.users.Load("user"), d.groups.Load("group"), d.roles.Load("role"),
		d.assignments.Load("assignment"), d.credentials.Load("application_credential"), d.stored.Load("credential"), d.access.Load("access_rule"),
		d.trusts.Load("trust"), d.registered.Load("registered_limit"), d.limits.Load("limit"), d.revocations.Load("revocation"),
		d.services.Load("service"), d.endpoints.Load("endpoint"), d.regions.Load("region"), d.policies.Load("policy"),
	} {
		if err := load(ctx, cfg.Store); err != nil {
			return nil, fmt.Errorf("open identities: %w", err)
		}
	}
	return d, nil
}

// change runs f, which reads the tables as they are and notes its changes, and
// makes these. After an error nothing has changed.
func (d *Directory) change(ctx context.Context, f func(*records.Tx) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var tx records.Tx
	if err := f(&tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx, d.cfg.Store); err != nil {
		return fmt.Errorf("store identities: %w", err)
	}
	return nil
}

// show returns one row.
func show[T any](d *Directory, t *records.Table[T], what, id string) (T, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	v, ok := t.Rows[id]
	if !ok {
		return v, notFound(what, id)
	}
	return v, nil
}

// list returns the rows that pass.
func list[T any](d *Directory, t *records.Table[T], pass func(T) bool, by func(T) string) []T {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return sorted(t.Rows, pass, by)
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
	limit := 255
	if what == "project" { // or domain
		limit = 64
	}
	if name == "" || utf8.RuneCountInString(name) > limit {
		return invalid("Invalid input for field 'name': the name of a %s has 1 to %d characters.", what, limit)
	}
	return nil
}
