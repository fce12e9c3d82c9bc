package compute

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// Config is what a Compute works with.
type Config struct {
	Store Store
	// Flavors are those of the configuration; DefaultFlavor names the one whose disk
	// a flavor without one gets.
	Flavors       []launcher.Flavor
	DefaultFlavor string
	// Servers yields all servers there are, for quotas and the members of groups.
	Servers iter.Seq[*launcher.Server]
	// Images are the launcher's; nil: none.
	Images ImageStore
	// Glance has images besides; nil: none.
	Glance Glance
	// Host is this machine's name.
	Host string
	Log  *slog.Logger // nil discards
	Now  func() time.Time
}

// Compute is everything, open.
type Compute struct {
	Flavors    *Flavors
	Keypairs   *Keypairs
	Groups     *Groups
	Quotas     *Quotas
	Aggregates *Aggregates
	Service    *Service
	Images     *Images
}

// Open reads what the store holds.
func Open(ctx context.Context, cfg Config) (*Compute, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return time.Now().UTC() }
	}
	if cfg.Servers == nil {
		cfg.Servers = func(func(*launcher.Server) bool) {}
	}
	c := &Compute{Images: &Images{store: cfg.Images, glance: cfg.Glance, now: cfg.Now, log: cfg.Log}}
	var err error
	if c.Images.asked, err = openTable[Image](ctx, cfg.Store, "asked image"); err != nil {
		return nil, err
	}
	if c.Flavors, err = openFlavors(ctx, cfg); err != nil {
		return nil, err
	}
	if c.Quotas, err = openQuotas(ctx, cfg); err != nil {
		return nil, err
	}
	if c.Keypairs, err = openKeypairs(ctx, cfg, c.Quotas); err != nil {
		return nil, err
	}
	if c.Groups, err = openGroups(ctx, cfg, c.Quotas); err != nil {
		return nil, err
	}
	if c.Service, err = openService(ctx, cfg); err != nil {
		return nil, err
	}
	if c.Aggregates, err = openAggregates(ctx, cfg); err != nil {
		return nil, err
	}
	c.Quotas.groups = c.Groups.count
	return c, nil
}
