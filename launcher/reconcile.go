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
	if err := m.endStrays(ctx, domains); err != nil {
		m.log.Error("processes without a domain not ended", "err", err)
	}
	if err := m.reconcileNetworks(ctx, records, domains); err != nil {
		m.log.Error("networks not put in order", "err", err)
	}
	for _, srv := range records {
		if srv.VMState == VMDeleted {
			if err := m.remember(ctx, srv); err != nil {
				return err
			}
			continue
		}
		i, err := m.add(*srv)
		if err != nil {
			return fmt.Errorf("reopen server %s: %w", srv.ID, err)
		}
		domain := m.cfg.DomainPrefix + srv.ID
		power, runs := domains[domain]
		delete(domains, domain)
		if err := m.resume(ctx, i, runs, power); err != nil {
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

// remember goes on keeping the record of a deleted server, until its time is over.
func (m *Manager) remember(ctx context.Context, srv *Server) error {
	if time.Since(srv.Terminated) > m.cfg.KeepDeleted {
		return m.cfg.Store.Remove(ctx, srv.ID)
	}
	m.forget(&instance{id: srv.ID, srv: *srv, changed: make(chan struct{})}, true)
	return nil
}

// resume goes on with a server as the engine before left it.
func (m *Manager) resume(ctx context.Context, i *instance, runs bool, power PowerState) error {
	if err := m.resumeAction(ctx, i); err != nil {
		return err
	}
	frozen, err := m.dropSnapshot(ctx, i)
	if err != nil {
		return err
	}
	srv, _ := i.snapshot()
	log := m.log.With("server", srv.ID)
	if runs && srv.Standby && srv.TaskState != TaskDeleting {
		// What its guest waits for is not known to be all there.
		if err := m.cfg.Hypervisor.Destroy(ctx, m.cfg.DomainPrefix+i.id); err != nil {
			return err
		}
		runs = false
	}
	switch {
	case srv.TaskState == TaskDeleting:
		return m.remove(ctx, i)
	case runs:
		log.Info("server found running")
		err := m.resumeRun(ctx, i, power)
		if err == nil && frozen {
			m.thaw(i)
		}
		return err
	case srv.TaskState.rework():
		log.Info("server found in the middle of a change", "task", srv.TaskState)
		return m.resumeRework(ctx, i)
	case srv.settled():
		i.log.End()
		if err := m.unmountServer(ctx, i); err != nil || !srv.startsWithHost() {
			return err
		}
		log.Info("server started with the host")
		return m.start(ctx, i, TaskPoweringOn, nil)
	}
	// It was on its way up, or up, and its domain is gone.
	r := &run{m: m, i: i, domain: m.cfg.DomainPrefix + i.id}
	if err := r.clear(ctx); err != nil {
		return err
	}
	if srv.finishable() {
		log.Info("server found in the middle of its boot", "task", srv.TaskState)
		if err := i.log.Begin(srv.Run); err != nil {
			return err
		}
		m.begin(i, false)
		return nil
	}
	log.Warn("server found ended")
	ended := errors.New("the engine ended during the boot")
	if !srv.Launched.IsZero() {
		ended = errors.New("the guest ended while no engine ran")
	}
	if srv.Restarting || srv.restartsAfter(srv.Exit) {
		return m.startChanged(ctx, i, TaskPoweringOn, nil, func(s *Server) error {
			if !s.Restarting { // else it is counted already
				s.RestartCount++
			}
			return nil
		})
	}
	r.conclude(ctx, srv.Exit, ended)
	return nil
}

// resumeAction finds the action that a server's task is for.
func (m *Manager) resumeAction(ctx context.Context, i *instance) error {
	actions, err := m.cfg.Store.Actions(ctx, i.id)
	if err != nil || len(actions) == 0 {
		return err
	}
	if last := actions[len(actions)-1]; last.Finish.IsZero() {
		i.doing = &last
	}
	return nil
}

// dropSnapshot gives the making of an image up, and says whether there was one.
func (m *Manager) dropSnapshot(ctx context.Context, i *instance) (bool, error) {
	if i.srv.TaskState != TaskImageSnapshot {
		return false, nil
	}
	i.failure = "the engine ended meanwhile"
	return true, i.update(ctx, m.cfg.Store, func(s *Server) { s.TaskState = TaskNone })
}

// resumeRun goes on with a server whose domain is there.
func (m *Manager) resumeRun(ctx context.Context, i *instance, power PowerState) error {
	err := i.update(ctx, m.cfg.Store, func(s *Server) {
		s.Power = power
		held := VMPaused
		switch {
		case s.VMState == VMSuspended || s.TaskState == TaskSuspending:
			held = VMSuspended
		case s.VMState != VMActive && s.VMState != VMPaused:
			return
		}
		switch s.TaskState {
		case TaskPausing, TaskUnpausing, TaskSuspending, TaskResuming, TaskUpdatingPassword:
			s.TaskState = TaskNone
		}
		if s.TaskState == TaskNone {
			s.VMState = VMActive
			if power == PowerPaused {
				s.VMState = held
			}
		}
	})
	if err != nil {
		return err
	}
	m.begin(i, true)
	switch srv, _ := i.snapshot(); {
	case srv.TaskState == TaskPoweringOff:
		i.stop <- stopRequest{m.grace(&srv)}
	case srv.TaskState.rework():
		m.rework(i)
	}
	return nil
}

// resumeRework goes on with a server that was taken down to be changed.
func (m *Manager) resumeRework(ctx context.Context, i *instance) error {
	if err := m.unmountServer(ctx, i); err != nil {
		return err
	}
	if srv, _ := i.snapshot(); srv.Running() {
		err := i.update(ctx, m.cfg.Store, func(s *Server) {
			s.Exit = &Exit{Code: codeSlipway, At: time.Now().UTC(), Reason: "the guest ended while no engine ran"}
		})
		if err != nil {
			return err
		}
	}
	i.log.End()
	m.rework(i)
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
