package launcher

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/output"
)

// instance is a server and what the engine knows of it beyond its record.
type instance struct {
	id   string
	dir  string
	log  *output.Log
	auth *Credentials // for the first boot's pull
	disk disk
	// standby is the guest that the first run is to have; that run's.
	standby *standby

	mu      sync.Mutex
	srv     Server
	changed chan struct{} // closed and replaced at every change

	removing   sync.Mutex // held while it is removed
	networking sync.Mutex // held while what is published of it, or its interfaces, change

	// ctx ends with the manager, or when the server is deleted; the work is what
	// goes on for the server beside its run.
	ctx       context.Context //nolint:containedctx // an instance's own span
	cancelAll context.CancelCauseFunc
	work      sync.WaitGroup
	// doing is the action that the task is for; failure is why it failed.
	doing   *ActionRecord
	failure string

	// The run: set while a goroutine takes the server through its life.
	ended   chan struct{} // closed when that goroutine is done
	stop    chan stopRequest
	agent   *agent.Client // of the run, while it answers
	run     *run
	backoff guest.Backoff // of restarts; the run's
}

// stopRequest asks a run to end its entrypoint.
type stopRequest struct{ grace time.Duration }

// snapshot returns a copy of the record and a channel that is closed at the next
// change.
func (i *instance) snapshot() (Server, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.srv.clone(), i.changed
}

func (s *Server) clone() Server {
	c := *s
	if s.Exit != nil {
		e := *s.Exit
		c.Exit = &e
	}
	if s.OtherFlavor != nil {
		f := *s.OtherFlavor
		c.OtherFlavor = &f
	}
	c.Spec.Volumes = slices.Clone(s.Spec.Volumes)
	return c
}

// set changes what need not survive the engine, such as the step of a boot.
func (i *instance) set(f func(*Server)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f(&i.srv)
	i.wake()
}

// update changes the record and saves it before anyone sees the change.
func (i *instance) update(ctx context.Context, store Store, f func(*Server)) error {
	_, err := i.change(ctx, store, f)
	return err
}

// insist changes the record even where it cannot be saved, on a full disk for
// one: for what is so whether it is written down or not. The next engine finds
// out for itself.
func (i *instance) insist(ctx context.Context, store Store, log *slog.Logger, f func(*Server)) {
	next, err := i.change(ctx, store, f)
	if err != nil {
		log.Error("record not saved", "server", i.id, "err", err)
		i.set(func(s *Server) { *s = next })
	}
}

// change makes the record's next version; if it can be saved it is the record. The
// action that is going on ends with its task.
func (i *instance) change(ctx context.Context, store Store, f func(*Server)) (next Server, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	next = i.srv.clone()
	f(&next)
	return next, i.save(ctx, store, &next, nil)
}

// act does what change does, for an action that the server's state must allow; else
// the error is a *StateError. f may refuse as well. The caller's action is recorded.
func (i *instance) act(ctx context.Context, store Store, a Action, f func(*Server) error) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.srv.Check(a); err != nil {
		return err
	}
	next := i.srv.clone()
	if f != nil {
		if err := f(&next); err != nil {
			return err
		}
	}
	if task := rules[a].task; task != TaskNone {
		next.TaskState = task
	}
	return i.save(ctx, store, &next, newAction(ctx, i.id, a))
}

// save makes next the record, and begun the action that goes on, once both are
// durable. It is called with mu held.
func (i *instance) save(ctx context.Context, store Store, next *Server, begun *ActionRecord) error {
	now := time.Now().UTC()
	if i.srv.TaskState == TaskDeleting && next.VMState != VMDeleted {
		next.TaskState = TaskDeleting // there is no way back from it
	}
	next.Updated = now
	var actions []ActionRecord
	doing := i.doing
	// An action that has no task is over at once; any other replaces the one before.
	atOnce := begun != nil && rules[Action(begun.Action)].task == TaskNone && begun.Action != string(ActionCreate)
	if doing != nil && (next.TaskState == TaskNone || begun != nil && !atOnce) {
		actions = append(actions, doing.finished(now, i.outcome(next)))
		doing = nil
	}
	switch {
	case atOnce:
		actions = append(actions, begun.finished(now, ""))
	case begun != nil:
		actions = append(actions, *begun)
		doing = begun
	}
	if err := store.Save(ctx, next, actions...); err != nil {
		return err
	}
	i.srv = *next
	i.doing = doing
	if doing == nil {
		i.failure = ""
	}
	i.wake()
	return nil
}

// outcome is why the action that ends with a change has failed, empty if it has not.
func (i *instance) outcome(next *Server) string {
	if next.VMState == VMError && next.FaultAt.After(i.doing.Start) {
		return next.Fault
	}
	return i.failure
}

func (a *ActionRecord) finished(at time.Time, message string) ActionRecord {
	done := *a
	done.Finish, done.Message = at, message
	return done
}

func (i *instance) wake() {
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *instance) setAgent(a *agent.Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.agent = a
	i.wake()
}
