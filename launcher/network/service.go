package network

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/records"
)

// Config is what a Service works with. Only Store must be given.
type Config struct {
	Store records.Store
	// Identity tells the interfaces and rules of this state directory from those of
	// others; it is of hexadecimal digits, and five of them count.
	Identity string
	// HostPrefixes returns what the host reaches on its own networks, which no
	// subnet that is chosen here overlaps. nil: nothing.
	HostPrefixes func() ([]netip.Prefix, error)
	// Plane makes networks on the host, Ports has its ports; nil does neither.
	// Responder answers servers.
	Plane     Plane
	Ports     Ports
	Responder Responder
	// Neutron, where it is given, has the networks, and VIF joins its ports to this
	// host; Plane, Ports and Responder have nothing to do then.
	Neutron Neutron
	VIF     Plugger
	// Now is the time, time.Now by default.
	Now func() time.Time
	Log *slog.Logger
}

// Service holds networks and what belongs to them. The functions that its methods
// are given must not call it.
type Service struct {
	cfg Config
	log *slog.Logger

	mu        sync.RWMutex
	networks  records.Table[Network]
	subnets   records.Table[Subnet]
	ports     records.Table[Port]
	groups    records.Table[SecurityGroup]
	rules     records.Table[Rule]
	floating  records.Table[FloatingIP]
	published records.Table[Published]
	limits    records.Table[Limits] // by project
	// spares are what servers will have that are yet to come, by their IDs.
	spares map[string][]spare

	applying sync.Mutex      // held while the host is brought in line
	applied  *State          // nil where it is not known
	attended map[string]bool // bridges, by name
}

// Open reads networks from their store.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{cfg: cfg, log: cfg.Log, attended: map[string]bool{}, spares: map[string][]spare{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	of := "" // this host's own records and a Neutron's are apart
	if s.remote() {
		of = "neutron_"
	}
	for _, load := range []func(context.Context, records.Store) error{
		s.networks.Load(of + "network"), s.subnets.Load(of + "subnet"), s.ports.Load(of + "port"),
		s.groups.Load(of + "security_group"), s.rules.Load(of + "security_group_rule"),
		s.floating.Load(of + "floatingip"), s.published.Load(of + "published"), s.limits.Load(of + "limits"),
	} {
		if err := load(ctx, cfg.Store); err != nil {
			return nil, fmt.Errorf("open networks: %w", err)
		}
	}
	return s, nil
}

// change is commit, and the host follows.
func (s *Service) change(ctx context.Context, f func(*records.Tx) error) error {
	if err := s.commit(ctx, f); err != nil {
		return err
	}
	s.follow(ctx)
	return nil
}

// commit runs f, which reads the tables as they are and notes its changes, and
// makes these. After an error nothing has changed.
func (s *Service) commit(ctx context.Context, f func(*records.Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var tx records.Tx
	if err := f(&tx); err != nil {
		return err
	}
	if err := tx.Commit(ctx, s.cfg.Store); err != nil {
		return fmt.Errorf("store networks: %w", err)
	}
	return nil
}

// begin fills what a new record has by itself.
func (s *Service) begin(b *Base) {
	b.ID = uuid.NewString()
	b.Created = s.cfg.Now().UTC().Truncate(time.Second)
	b.Updated = b.Created
	b.Revision = 1
}

// touch notes that a record is changed; what it was made as stays.
func (s *Service) touch(b *Base, old Base) {
	b.ID, b.Project, b.Created, b.Revision = old.ID, old.Project, old.Created, old.Revision+1
	b.Updated = s.cfg.Now().UTC().Truncate(time.Second)
}

// show returns one row.
func show[T any](s *Service, t *records.Table[T], what, id string) (T, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return row(t, what, id)
}

// row is show under the caller's lock.
func row[T any](t *records.Table[T], what, id string) (T, error) {
	v, ok := t.Rows[id]
	if !ok {
		return v, notFound(what, id)
	}
	return v, nil
}

// list returns the rows that pass, oldest first; nil passes all.
func list[T any](s *Service, t *records.Table[T], base func(*T) *Base, pass func(T) bool) []T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sorted(t, base, pass)
}

// sorted is list under the caller's lock.
func sorted[T any](t *records.Table[T], base func(*T) *Base, pass func(T) bool) []T {
	var all []T
	for _, v := range t.Rows {
		if pass == nil || pass(v) {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b T) int {
		x, y := base(&a), base(&b)
		if c := x.Created.Compare(y.Created); c != 0 {
			return c
		}
		return strings.Compare(x.ID, y.ID)
	})
	return all
}

func networkBase(n *Network) *Base     { return &n.Base }
func subnetBase(n *Subnet) *Base       { return &n.Base }
func portBase(p *Port) *Base           { return &p.Base }
func groupBase(g *SecurityGroup) *Base { return &g.Base }
func ruleBase(r *Rule) *Base           { return &r.Base }
func floatingBase(f *FloatingIP) *Base { return &f.Base }

// notFound is worded as Neutron does.
func notFound(what, id string) error {
	return launcher.Errorf(launcher.ErrNotFound, "%s %s could not be found.", what, id)
}

func invalid(format string, args ...any) error {
	return launcher.Errorf(launcher.ErrInvalid, format, args...)
}

func conflict(format string, args ...any) error {
	return launcher.Errorf(launcher.ErrConflict, format, args...)
}
