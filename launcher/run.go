package launcher

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/events"
)

// run takes a server from the request to its end, once.
type run struct {
	m      *Manager
	i      *instance
	domain string
	began  time.Time

	// up says that the domain is known to run. What is told of an end before is told
	// late, of the run's before this one.
	up       atomic.Bool
	goneOnce sync.Once
	gone     chan struct{} // closed when the domain has ended
	why      error         // an errEnded; valid then
	held     chan struct{} // told when the domain goes on that was held

	defined   time.Time // when the hypervisor had started the domain
	timer     *time.Timer
	unplugged struct {
		sync.Once
		err error
	}
	// dialed is the agent of a guest that stood by, for the first session.
	dialed *agent.Client
	// standby is what kind of guest could have stood by for this run; nil, none.
	standby *standbyKind
	// yield gives back the run's turn to boot.
	yield func()
	told  int // number of the guest's latest event, from 1
	// reboot says that the guest wants to boot again.
	reboot bool
	// timedOut says that the entrypoint was killed at its grace period's end.
	timedOut bool
}

// cleanupTime bounds what a run may take to take back what it made.
const cleanupTime = time.Minute

// powerOffTime is how long a guest may take to power off once it may. Then its
// plug is pulled.
const powerOffTime = 15 * time.Second

func (s *Server) powerOffTime() time.Duration {
	if s.classic() {
		return classicPowerOffTime
	}
	return powerOffTime
}

// wentOn says that the guest's clock has stood still.
func (r *run) wentOn() {
	select {
	case r.held <- struct{}{}:
	default:
	}
}

func (r *run) domainGone(crashed bool) {
	r.goneOnce.Do(func() {
		if r.why = errEnded; crashed {
			r.why = errCrashed
		}
		close(r.gone)
	})
}

// live is the whole run. running says that the domain is there already, from an
// engine before this one.
func (r *run) live(ctx context.Context, running bool) {
	log := r.m.log.With("server", r.i.id)
	var err error
	if !running {
		err = r.build(ctx)
	}
	var exit *Exit
	if err == nil {
		exit, err = r.supervise(ctx)
	}
	cause := context.Cause(ctx)
	if errors.Is(cause, errDetached) && (running || !r.defined.IsZero()) {
		return // there is a domain: the next engine goes on from here
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	if cerr := r.clear(clean); cerr != nil {
		log.Error("server not cleaned up", "err", cerr)
		err = errors.Join(err, cerr)
	}
	if errors.Is(cause, errDeleted) {
		return // whoever deletes goes on from here
	}
	if srv, _ := r.i.snapshot(); errors.Is(cause, errDetached) && srv.finishable() {
		return // the next engine boots it
	}
	if r.conclude(clean, exit, err) {
		r.restart(ctx)
	}
}

// half reports whether the server never got to run its entrypoint in this run.
func (r *run) half() bool {
	srv, _ := r.i.snapshot()
	return srv.Launched.IsZero()
}

// clear takes back domain and mounts.
func (r *run) clear(ctx context.Context) error {
	r.i.setAgent(nil)
	if sb := r.i.standby; sb != nil {
		r.i.standby = nil
		r.m.standbys.part(sb)
		sb.close()
	}
	if r.dialed != nil {
		_ = r.dialed.Close()
	}
	r.giveTurn()
	if r.timer != nil {
		r.timer.Stop()
	}
	err := r.m.cfg.Hypervisor.Destroy(ctx, r.domain)
	return errors.Join(err, r.unplug(), r.m.unmountServer(ctx, r.i))
}

// unplug takes the server off its networks, once.
func (r *run) unplug() error {
	r.unplugged.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		r.unplugged.err = r.m.unplug(ctx, r.i)
	})
	return r.unplugged.err
}

// finishable reports whether a boot that was cut short is to be done again. A server
// that whoever waits for it would have removed is not.
func (s *Server) finishable() bool {
	return s.TaskState.boots() && (s.Run > 1 || !s.Spec.RemoveFailed)
}

// conclude records how the run ended, and reports whether another is to follow.
// A nil exit is that of a guest that died without a word.
func (r *run) conclude(ctx context.Context, exit *Exit, err error) (again bool) {
	srv, _ := r.i.snapshot()
	log := r.m.log.With("server", srv.ID)
	failed := err != nil && srv.Launched.IsZero()
	stopped := srv.TaskState == TaskPoweringOff
	told := exit
	if exit == nil && !failed {
		exit = &Exit{Code: codeSlipway, Reason: message(err), At: time.Now().UTC()}
	}
	if exit != nil {
		e := *exit // the record has the other
		e.Asked = stopped
		exit = &e
	}
	remove := false
	r.i.insist(ctx, r.m.cfg.Store, r.m.log, func(s *Server) {
		s.Step, s.Power = "", PowerShutdown
		if r.reboot && !failed && s.TaskState == TaskNone {
			again, s.Restarting, s.Exit = true, true, nil
			return
		}
		if again = !failed && s.restartsAfter(told); again {
			s.Restarting = true
			s.RestartCount++
			return
		}
		if s.TaskState.rework() && !failed {
			s.Exit = exit // the server goes on
			return
		}
		s.TaskState = TaskNone
		// A server that has run before has something to lose.
		if remove = s.Spec.AutoRemove || failed && s.Spec.RemoveFailed && s.Run == 1; remove {
			// Whoever waits for its end waits for this as well.
			s.TaskState = TaskDeleting
		}
		switch {
		case failed:
			s.VMState, s.Fault, s.FaultCode, s.FaultAt = VMError, message(err), faultCode(err), time.Now().UTC()
			return
		case s.VMState != VMResized:
			s.VMState = VMStopped
		}
		s.Exit = exit
	})
	if again && r.reboot {
		log.Info("guest reboots")
		return true
	}
	if again {
		log.Warn("guest died", "err", err)
		r.m.happened(r.i, events.Die, attributes{"exitCode": strconv.Itoa(exit.Code), "error": exit.Reason})
		return true
	}
	r.i.log.End()
	srv, _ = r.i.snapshot()
	if r.timedOut {
		r.killed(int(unix.SIGKILL))
	}
	r.m.died(r.i, &srv, stopped)
	switch {
	case failed:
		log.Warn("boot failed", "err", err)
	case exit != nil:
		log.Info("server ended", "code", exit.Code, "signal", exit.Signal)
	}
	if remove {
		if derr := r.m.remove(ctx, r.i); derr != nil {
			log.Error("server not removed", "err", derr)
			r.i.insist(ctx, r.m.cfg.Store, r.m.log, func(s *Server) { s.TaskState = TaskNone })
		}
	}
	return false
}

// codeSlipway is the exit status for failures that are ours, as docker has it.
const codeSlipway = 125

// codedError is an error that stands for another exit status than codeSlipway.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

func faultCode(err error) int {
	var coded codedError
	if errors.As(err, &coded) {
		return coded.code
	}
	return codeSlipway
}

// message is an error's text, empty for none.
func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// errEnded says that the domain ended before the guest had said why.
var errEnded = errors.New("the guest ended unexpectedly")

// errCrashed is an errEnded of which the guest itself had no part.
var errCrashed = fmt.Errorf("%w: QEMU crashed or was killed (has the host's memory run out?)", errEnded)

// supervise stays with a running guest until its entrypoint has ended, everything
// it wrote is kept, and its domain is gone. It dials again when the guest's port
// breaks.
func (r *run) supervise(ctx context.Context) (*Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := ctx.Done()
	go func() {
		select {
		case <-r.gone:
			cancel(r.why)
		case <-done:
		}
	}()
	// A domain that ended before the run's channel was there is not announced.
	if err := r.checkDomain(ctx); err != nil {
		return nil, err
	}
	go r.m.boundConsole(ctx, r.i)
	watched := ctx
	go func() {
		switch err := r.watchShare(watched); {
		case errors.Is(err, errShareLost):
			cancel(err)
		case err != nil:
			r.m.log.Warn("virtiofsd is not watched", "server", r.i.id, "err", err)
		}
	}()
	if r.half() {
		var stop context.CancelFunc
		ctx, stop = r.bootDeadline(ctx)
		defer stop()
	}
	for {
		exit, err := r.session(ctx)
		switch {
		case err == nil:
			return exit, r.powerOff(ctx)
		case exit != nil && errors.Is(context.Cause(ctx), errEnded):
			return exit, nil // it powered off before its answer came
		case ctx.Err() != nil:
			return nil, r.explain(context.Cause(ctx))
		case !errors.Is(err, agent.ErrDisconnected):
			return exit, err
		}
	}
}

func (r *run) checkDomain(ctx context.Context) error {
	doms, err := r.m.cfg.Hypervisor.Domains(ctx)
	if err != nil {
		return err
	}
	if _, ok := doms[r.domain]; !ok {
		return r.explain(errEnded)
	}
	return nil
}

// bootDeadline ends ctx when the entrypoint has not started in time.
func (r *run) bootDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit := r.m.cfg.BootTimeout
	if srv, _ := r.i.snapshot(); srv.classic() {
		limit = max(limit, classicBootTime)
	}
	timer := time.AfterFunc(limit, func() {
		if r.half() {
			cancel(fmt.Errorf("the guest has not started the entrypoint after %s", limit))
		}
	})
	return ctx, func() { timer.Stop(); cancel(nil) }
}

// explain adds what the console said last to an error of the guest's.
func (r *run) explain(err error) error {
	if errors.Is(err, errDeleted) || errors.Is(err, errDetached) {
		return err
	}
	b, _ := tail(filepath.Join(r.i.dir, consoleFile), 2048)
	lines := strings.Split(strings.TrimSpace(strings.ToValidUTF8(string(b), "?")), "\n")
	lines = lines[max(0, len(lines)-6):]
	if text := strings.TrimSpace(strings.Join(lines, "\n")); text != "" {
		return fmt.Errorf("%w; its console ends with:\n%s", err, printable(text))
	}
	return fmt.Errorf("%w, and wrote nothing to its console", err)
}

// printable keeps a guest's text from doing anything to a terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\n' || c == '\t' || c >= ' ' && c != 0x7f && (c < 0x80 || c > 0x9f) {
			return c
		}
		return -1
	}, s)
}

// powerOff waits for the domain's own end, and pulls its plug where that does not
// come.
func (r *run) powerOff(ctx context.Context) error {
	srv, _ := r.i.snapshot()
	// The hypervisor takes its time, in which this can be done.
	go func() { _ = r.unplug() }()
	select {
	case <-r.gone:
		return nil
	case <-time.After(srv.powerOffTime()):
		r.m.log.Warn("guest did not power off", "server", r.i.id)
		return nil // clearing up destroys it
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errEnded) {
			return nil
		}
		return context.Cause(ctx)
	}
}
