package launcher

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/output"
)

// instance is a server and what the engine knows of it beyond its record.
type instance struct {
	id   string
	dir  string
	log  *output.Log
	auth *Credentials // for the first boot's pull

	mu      sync.Mutex
	srv     Server
	changed chan struct{} // closed and replaced at every change

	removing sync.Mutex // held while it is removed

	// The run: set while a goroutine takes the server through its life.
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when that goroutine is done
	stop   chan stopRequest
	agent  *agent.Client // of the run, while it answers
	run    *run
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

// change makes the record's next version; if it can be saved it is the record.
func (i *instance) change(ctx context.Context, store Store, f func(*Server)) (next Server, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	next = i.srv.clone()
	f(&next)
	if i.srv.TaskState == TaskDeleting {
		next.TaskState = TaskDeleting // there is no way back from it
	}
	next.Updated = time.Now().UTC()
	if err := store.Save(ctx, &next); err != nil {
		return next, err
	}
	i.srv = next
	i.wake()
	return next, nil
}

func (i *instance) wake() {
	close(i.changed)
	i.changed = make(chan struct{})
}

func (i *instance) setAgent(a *agent.Client) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.agent = a
}
