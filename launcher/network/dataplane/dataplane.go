package dataplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/google/nftables"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/network"
)

// Config is what a Plane works with.
type Config struct {
	// Identity names the tables, and tells this state directory's interfaces by
	// their alias.
	Identity string
	Log      *slog.Logger
}

// Plane is this host's networks of one state directory. It implements
// network.Plane.
type Plane struct {
	cfg   Config
	log   *slog.Logger
	table string

	mu        sync.Mutex
	applied   network.State
	forwards  bool // IP forwarding was seen to
	listeners listeners
	watching  context.CancelFunc
	closed    bool
}

// New makes a Plane, which changes nothing yet.
func New(cfg Config) *Plane {
	p := &Plane{cfg: cfg, log: cfg.Log, table: "slipway-" + cfg.Identity}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.listeners = listeners{log: p.log, open: map[endpoint]*listener{}}
	return p
}

// Apply makes the host show a state. It can be called again with the same one,
// which repairs what has been changed by others. After an error some of it may be
// there.
func (p *Plane) Apply(ctx context.Context, st network.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.apply(ctx, st)
}

func (p *Plane) apply(ctx context.Context, st network.State) error {
	if p.closed {
		return launcher.Errorf(launcher.ErrUnavailable, "the engine is ending")
	}
	p.applied = st
	if len(st.Bridges) > 0 {
		if err := p.forward(); err != nil {
			return err
		}
	}
	// Rules come first: a bridge without them is open.
	err := p.rules(&st)
	if err == nil {
		err = p.links(&st)
	}
	p.listeners.set(ctx, st.Published)
	if len(st.Bridges) > 0 {
		p.watch()
	}
	return explain(err)
}

// rules replaces the tables, or removes them where there is nothing to rule.
func (p *Plane) rules(st *network.State) error {
	conn, err := connect()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	if len(st.Bridges) == 0 {
		for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyBridge} {
			t := &nftables.Table{Family: family, Name: p.table}
			conn.AddTable(t)
			conn.DelTable(t)
		}
	} else {
		if err := errors.Join(inet(conn, p.table, st), bridge(conn, p.table, st)); err != nil {
			return fmt.Errorf("make the tables %s of nftables: %w", p.table, err)
		}
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change the tables %s of nftables: %w", p.table, err)
	}
	return nil
}

// Reserve listens on the ports of the host that publications name, so that nobody
// else can have them, and decides those that may be any. Once a state with them was
// applied, one without them lets them go; before, Release does.
func (p *Plane) Reserve(ctx context.Context, ports []launcher.Publish) ([]launcher.Publish, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners.reserve(ctx, ports)
}

// Release lets go of what was reserved in vain.
func (p *Plane) Release(ports []launcher.Publish) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners.release(ports)
}

// Close ends what runs in this process. Bridges, taps and rules stay.
func (p *Plane) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.watching != nil {
		p.watching()
	}
	return p.listeners.close()
}
