package launcher

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/events"
)

// An entrypoint that ends is restarted by its guest, which goes on. What is left
// to the launcher is a guest that has died itself.

// restartsAfter reports whether the restart policy boots the server again. A guest
// that told its entrypoint's exit has had its say on that; and whoever is doing
// something to the server has the say now.
func (s *Server) restartsAfter(exit *Exit) bool {
	return exit == nil && s.TaskState == TaskNone && s.Spec.Restart.Wanted(codeSlipway, s.RestartCount)
}

// startsWithHost reports whether a server that does not run is to be started
// because the host has been: always means that, also where a user stopped it. The
// engine's own start, which any command may cause, is no reason.
func (s *Server) startsWithHost() bool {
	return s.Spec.Restart.Policy == guest.RestartAlways && s.VMState == VMStopped &&
		s.HostBoot != "" && s.HostBoot != hostBoot()
}

// startedByUser is what a user's start changes besides: restarts count anew.
func startedByUser(s *Server) error {
	s.RestartCount = 0
	return nil
}

// hostBoot identifies the boot of the host; empty where it has no name.
func hostBoot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// restart waits, and begins the server's next run; unless it is stopped or deleted
// meanwhile. An engine that ends leaves it to the next one.
func (r *run) restart(ctx context.Context) {
	srv, _ := r.i.snapshot()
	log := r.m.log.With("server", srv.ID)
	wait := r.i.backoff.Next(time.Since(srv.Launched))
	log.Info("server waits for its restart", "restarts", srv.RestartCount, "wait", wait)
	select {
	case <-time.After(wait):
	case <-r.i.stop:
	case <-ctx.Done():
		return
	}
	ctx = context.WithoutCancel(ctx)
	err := r.m.startChanged(ctx, r.i, TaskPoweringOn, nil, func(s *Server) error {
		if s.TaskState != TaskNone {
			return errTakenDown
		}
		return nil
	})
	switch {
	case errors.Is(err, errTakenDown):
		r.takenDown(ctx)
		return
	case err != nil:
		r.i.insist(ctx, r.m.cfg.Store, r.m.log, func(s *Server) { s.Restarting = false })
		reason := "the server was not restarted: " + err.Error()
		r.conclude(ctx, &Exit{Code: codeSlipway, Reason: reason, At: time.Now().UTC()}, nil)
		return
	}
	r.m.happened(r.i, events.Restart, nil)
}

// errTakenDown says that a server is not restarted because somebody wants it down.
var errTakenDown = errors.New("somebody wants the server down")

// takenDown ends the wait for a restart that is not to be.
func (r *run) takenDown(ctx context.Context) {
	r.i.insist(ctx, r.m.cfg.Store, r.m.log, func(s *Server) {
		s.Restarting = false
		if s.TaskState == TaskPoweringOff {
			s.VMState, s.TaskState = VMStopped, TaskNone
		}
		s.Exit = &Exit{Code: codeSlipway, Reason: errEnded.Error(), At: time.Now().UTC()}
	})
	r.i.log.End()
	r.m.happened(r.i, events.Stop, nil)
}

// note keeps what the guest says of restarts and health, once. An engine that
// finds the guest running hears the latest of it again.
func (r *run) note(ctx context.Context, e agent.Event) {
	if e.Seq < r.told {
		return
	}
	r.told = e.Seq + 1
	srv, _ := r.i.snapshot()
	switch {
	case e.Type == agent.EventRestarting && e.Restarts > srv.RestartCount:
		r.m.log.Info("entrypoint restarts", "server", r.i.id, "code", e.Exit.Code&0xff, "restarts", e.Restarts, "wait", e.Wait)
		r.i.insist(ctx, r.m.cfg.Store, r.m.log, func(s *Server) { s.RestartCount = e.Restarts })
		r.m.happened(r.i, events.Die, attributes{"exitCode": strconv.Itoa(e.Exit.Code & 0xff)})
		r.m.happened(r.i, events.Restart, nil)
	case e.Type == agent.EventHealth && e.Health != nil:
		r.noteHealth(ctx, *e.Health, srv.Health)
	}
}

// noteHealth records what changes the status; the rest is for whoever looks.
func (r *run) noteHealth(ctx context.Context, said agent.Health, before *Health) {
	now := before.after(said)
	change := func(s *Server) { s.Health = now }
	if before != nil && before.Status == now.Status {
		r.i.set(change)
		return
	}
	r.i.insist(ctx, r.m.cfg.Store, r.m.log, change)
	if said.Check != nil {
		r.m.happened(r.i, events.HealthStatus, attributes{"health": string(now.Status)})
	}
}
