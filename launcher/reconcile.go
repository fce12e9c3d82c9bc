package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// reconcile brings together what the records intend, what the hypervisor runs and
// what lies in the servers' directory, after any end of the engine before. What
// cannot be put in order keeps nobody from all the rest: it is logged, and a
// server can be deleted again.
func (m *Manager) reconcile(ctx context.Context) error {
	records, err := m.cfg.Store.Servers(ctx)
	if err != nil {
		return err
	}
	domains, err := m.cfg.Hypervisor.Domains(ctx)
	if err != nil {
		return err
	}
	for _, srv := range records {
		i, err := m.add(*srv)
		if err != nil {
			return fmt.Errorf("reopen server %s: %w", srv.ID, err)
		}
		domain := m.cfg.DomainPrefix + srv.ID
		_, runs := domains[domain]
		delete(domains, domain)
		if err := m.resume(ctx, i, runs); err != nil {
			m.log.Error("server not put in order", "server", srv.ID, "err", err)
		}
	}
	for domain := range domains {
		m.log.Warn("domain without a server destroyed", "domain", domain)
		if err := m.cfg.Hypervisor.Destroy(ctx, domain); err != nil {
			m.log.Error("domain without a server not destroyed", "domain", domain, "err", err)
		}
	}
	return m.sweep(ctx)
}

// resume goes on with a server as the engine before left it.
func (m *Manager) resume(ctx context.Context, i *instance, runs bool) error {
	srv, _ := i.snapshot()
	log := m.log.With("server", srv.ID)
	switch {
	case srv.TaskState == TaskDeleting:
		return m.remove(ctx, i)
	case srv.settled() && !runs:
		i.log.End()
		return m.unmountServer(ctx, i)
	case runs:
		log.Info("server found running")
		m.begin(i, true)
		if srv.TaskState == TaskPoweringOff {
			i.stop <- stopRequest{m.grace(&srv)}
		}
		return nil
	}
	// It was on its way up, or up, and its domain is gone.
	r := &run{m: m, i: i, domain: m.cfg.DomainPrefix + i.id}
	if err := r.clear(ctx); err != nil {
		return err
	}
	log.Warn("server found ended")
	exit := srv.Exit
	if exit == nil && !srv.Launched.IsZero() {
		exit = &Exit{Code: codeSlipway, At: time.Now().UTC(), Reason: "the guest ended while no engine ran"}
	}
	r.conclude(ctx, exit, errors.New("the engine ended during the boot"))
	return nil
}

// sweep removes the directories that no record knows.
func (m *Manager) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(m.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		m.mu.Lock()
		_, known := m.servers[e.Name()]
		m.mu.Unlock()
		if known || !isServerID(e.Name()) {
			continue
		}
		i := &instance{id: e.Name(), dir: filepath.Join(m.cfg.Dir, e.Name())}
		m.log.Warn("directory without a server removed", "server", i.id)
		err := m.unmountServer(ctx, i)
		if err == nil {
			err = os.RemoveAll(i.dir)
		}
		if err != nil {
			m.log.Error("directory without a server not removed", "server", i.id, "err", err)
		}
	}
	return nil
}
