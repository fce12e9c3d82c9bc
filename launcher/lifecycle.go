package launcher

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// start records a task that brings the server up, and begins its run. begun, if it
// is not nil, is the action that the task is for.
func (m *Manager) start(ctx context.Context, i *instance, task TaskState, begun *ActionRecord) error {
	return m.startChanged(ctx, i, task, begun, func(*Server) error { return nil })
}

// startChanged is start with a change to the record that is saved with it. f may
// refuse.
func (m *Manager) startChanged(ctx context.Context, i *instance, task TaskState, begun *ActionRecord, f func(*Server) error) error {
	i.mu.Lock()
	next := i.srv.clone()
	if err := f(&next); err != nil {
		i.mu.Unlock()
		return err
	}
	next.TaskState = task
	next.Run++
	next.Fault, next.FaultCode, next.Exit, next.Health = "", 0, nil, nil
	next.Restarting, next.HostBoot = false, hostBoot()
	next.Timeline = Timeline{}
	next.Launched = time.Time{}
	next.Power = PowerNone
	err := i.save(ctx, m.cfg.Store, &next, begun)
	i.mu.Unlock()
	if err != nil {
		return err
	}
	if err := i.log.Begin(next.Run); err != nil {
		return err
	}
	m.begin(i, false)
	return nil
}

// begin starts the goroutine that takes a server through its run; running says
// that its domain is there already.
func (m *Manager) begin(i *instance, running bool) {
	ctx, cancel := context.WithCancelCause(i.ctx)
	i.mu.Lock()
	if i.srv.TaskState == TaskDeleting {
		i.mu.Unlock()
		cancel(nil)
		return // whoever deletes it has not seen this run and goes on
	}
	i.ended, i.stop = make(chan struct{}), make(chan stopRequest, 4)
	ended := i.ended
	r := &run{m: m, i: i, domain: m.cfg.DomainPrefix + i.id, gone: make(chan struct{}), held: make(chan struct{}, 1), began: time.Now()}
	r.up.Store(running)
	i.run = r
	i.mu.Unlock()
	m.runs.Go(func() {
		defer cancel(nil)
		defer close(ended)
		r.live(ctx, running)
	})
}

// background does what an action asks for after it has been answered. The context
// ends with the manager, when the server is deleted, or when it takes too long.
func (m *Manager) background(i *instance, limit time.Duration, f func(ctx context.Context)) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.srv.TaskState == TaskDeleting {
		return false
	}
	i.work.Add(1)
	m.runs.Go(func() {
		defer i.work.Done()
		ctx, cancel := context.WithTimeoutCause(i.ctx, limit, fmt.Errorf("not done after %s", limit))
		defer cancel()
		f(ctx)
	})
	return true
}

// workTime bounds the work of an action beyond the time that the server's
// entrypoint has to end.
const workTime = 5 * time.Minute

// give up ends the task of an action that has failed, unless the engine ends or the
// server is deleted: then whoever comes next goes on from here.
func (m *Manager) giveUp(ctx context.Context, i *instance, err error, f func(*Server)) {
	cause := context.Cause(ctx)
	if errors.Is(cause, errDetached) || errors.Is(cause, errDeleted) {
		return
	}
	m.log.Warn("action failed", "server", i.id, "err", err)
	i.mu.Lock()
	i.failure = message(err)
	i.mu.Unlock()
	i.insist(context.WithoutCancel(ctx), m.cfg.Store, m.log, func(s *Server) {
		s.TaskState = TaskNone
		if f != nil {
			f(s)
		}
	})
}

// Start boots a server that has been stopped, or that failed.
func (m *Manager) Start(ctx context.Context, ref string) error {
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, ActionStart, startedByUser); err != nil {
		return err
	}
	return m.start(ctx, i, TaskPoweringOn, nil)
}

// Stop ends a server's entrypoint: its stop signal, then, after grace, SIGKILL.
// A nil grace is the server's own. It returns when the server has stopped.
func (m *Manager) Stop(ctx context.Context, ref string, grace *time.Duration) error {
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, ActionStop, nil); err != nil {
		return err
	}
	return m.powerOff(ctx, i, grace)
}

// PowerOff begins what Stop does, and does not wait for it.
func (m *Manager) PowerOff(ctx context.Context, id string) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, ActionStop, nil); err != nil {
		return err
	}
	m.background(i, m.patience(i)+workTime, func(ctx context.Context) {
		if err := m.powerOff(ctx, i, nil); err != nil {
			m.giveUp(ctx, i, err, nil)
		}
	})
	return nil
}

// powerOff ends a server's run, which records that it has stopped.
func (m *Manager) powerOff(ctx context.Context, i *instance, grace *time.Duration) error {
	if ran, err := m.halt(ctx, i, grace); ran || err != nil {
		return err
	}
	return i.update(ctx, m.cfg.Store, func(s *Server) {
		if s.TaskState == TaskPoweringOff {
			s.VMState, s.TaskState = VMStopped, TaskNone
		}
	})
}

// halt ends a server's run and waits for its end; ran says whether there was one.
// A nil grace is the server's own.
func (m *Manager) halt(ctx context.Context, i *instance, grace *time.Duration) (ran bool, err error) {
	for {
		i.mu.Lock()
		ended := i.ended
		i.mu.Unlock()
		if ran, err = m.haltRun(ctx, i, grace); err != nil {
			return ran, err
		}
		i.mu.Lock()
		again := i.ended != ended // its restart had begun
		i.mu.Unlock()
		if !again {
			return ran, nil
		}
	}
}

// haltRun is halt for the run that there is.
func (m *Manager) haltRun(ctx context.Context, i *instance, grace *time.Duration) (ran bool, err error) {
	i.mu.Lock()
	stop, ended := i.stop, i.ended
	limit, off := m.grace(&i.srv), i.srv.powerOffTime()
	i.mu.Unlock()
	if grace != nil {
		limit = *grace
	}
	if ended == nil {
		return false, nil
	}
	select {
	case <-ended:
		return false, nil
	default:
	}
	select {
	case stop <- stopRequest{limit}:
	case <-ended:
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
	select {
	case <-ended:
		return true, nil
	case <-time.After(limit + off):
		m.log.Warn("guest does not stop", "server", i.id)
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
	return true, m.cut(ctx, i)
}

// cut pulls the plug of a server's guest and waits for the end of its run.
func (m *Manager) cut(ctx context.Context, i *instance) error {
	i.mu.Lock()
	ended := i.ended
	i.mu.Unlock()
	if err := m.cfg.Hypervisor.Destroy(ctx, m.cfg.DomainPrefix+i.id); err != nil || ended == nil {
		return err
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *Manager) patience(i *instance) time.Duration {
	srv, _ := i.snapshot()
	return m.grace(&srv)
}

// Pause holds a server's processors. The error matches ErrUnsupported where the
// hypervisor cannot.
func (m *Manager) Pause(ctx context.Context, id string) error {
	p, err := m.pauser()
	if err != nil {
		return err
	}
	return m.hold(ctx, id, ActionPause, VMPaused, p.Pause)
}

// Unpause lets a paused server go on.
func (m *Manager) Unpause(ctx context.Context, id string) error {
	p, err := m.pauser()
	if err != nil {
		return err
	}
	return m.hold(ctx, id, ActionUnpause, VMActive, p.Unpause)
}

// Suspend holds a server like Pause, by Nova's other word for it.
func (m *Manager) Suspend(ctx context.Context, id string) error {
	p, err := m.pauser()
	if err != nil {
		return err
	}
	return m.hold(ctx, id, ActionSuspend, VMSuspended, p.Pause)
}

// Resume lets a suspended server go on.
func (m *Manager) Resume(ctx context.Context, id string) error {
	p, err := m.pauser()
	if err != nil {
		return err
	}
	return m.hold(ctx, id, ActionResume, VMActive, p.Unpause)
}

func (m *Manager) pauser() (Pauser, error) {
	if p, ok := m.cfg.Hypervisor.(Pauser); ok {
		return p, nil
	}
	return nil, errorf(ErrUnsupported, "The requested functionality is not supported.")
}

func (m *Manager) hold(ctx context.Context, id string, a Action, to VMState, do func(ctx context.Context, domain string) error) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	if err := i.act(ctx, m.cfg.Store, a, nil); err != nil {
		return err
	}
	m.background(i, workTime, func(ctx context.Context) {
		if err := do(ctx, m.cfg.DomainPrefix+i.id); err != nil {
			m.giveUp(ctx, i, err, nil)
			return
		}
		i.insist(ctx, m.cfg.Store, m.log, func(s *Server) {
			if s.TaskState == rules[a].task { // else it has ended meanwhile
				s.VMState, s.TaskState = to, TaskNone
			}
		})
	})
	return nil
}

// Lock keeps a server from actions of its project, change says how.
func (m *Manager) Lock(ctx context.Context, id string, a Action, change func(*Server)) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	return i.act(ctx, m.cfg.Store, a, func(s *Server) error {
		change(s)
		return nil
	})
}

// ResetState says what state a server is in when nothing else can: error, or active,
// which becomes stopped where no guest runs. The task is forgotten.
func (m *Manager) ResetState(ctx context.Context, id string, to VMState) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	return i.act(ctx, m.cfg.Store, ActionResetState, func(s *Server) error {
		s.VMState, s.TaskState = to, TaskNone
		if to == VMActive && !s.Running() {
			s.VMState = VMStopped
		}
		return nil
	})
}

// Delete ends a server at once, where it runs, and removes all there is of it.
// A server that is being deleted already is waited for.
func (m *Manager) Delete(ctx context.Context, ref string) error {
	i, err := m.markDeleted(ctx, ref)
	if err != nil {
		return err
	}
	return m.delete(context.WithoutCancel(ctx), i)
}

// DeleteLater begins what Delete does, and does not wait for it.
func (m *Manager) DeleteLater(ctx context.Context, id string) error {
	i, err := m.markDeleted(ctx, id)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	m.runs.Go(func() {
		if err := m.delete(ctx, i); err != nil {
			m.log.Error("server not deleted", "server", i.id, "err", err)
		}
	})
	return nil
}

// markDeleted records that a server is to go. From here on there is no way back,
// also not through a crash.
func (m *Manager) markDeleted(ctx context.Context, ref string) (*instance, error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	var state *StateError
	switch err := i.act(ctx, m.cfg.Store, ActionDelete, nil); {
	case errors.As(err, &state):
		return nil, errorf(ErrNotFound, "no server with an ID of %q exists", i.id)
	case err != nil:
		i.insist(ctx, m.cfg.Store, m.log, func(s *Server) { s.TaskState = TaskDeleting })
	}
	return i, nil
}

func (m *Manager) delete(ctx context.Context, i *instance) error {
	i.cancelAll(errDeleted)
	i.work.Wait()
	i.mu.Lock()
	ended := i.ended
	i.mu.Unlock()
	if ended != nil {
		<-ended
	}
	ctx, done := context.WithTimeout(ctx, cleanupTime)
	defer done()
	return m.remove(ctx, i)
}
