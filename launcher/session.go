package launcher

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/output"
)

// A result is how an entrypoint ended.
type result struct {
	exit *Exit
	err  error
}

// session is one connection to the guest's agent. It returns the exit once the
// guest has been told that it may power off.
func (r *run) session(ctx context.Context) (*Exit, error) {
	c, err := r.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if c.Hello().Standby {
		if err := c.Assign(ctx); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.i.setAgent(c) // before it can be seen that the entrypoint runs
	defer r.i.setAgent(nil)
	exited, kept := make(chan result, 1), make(chan error, 1)
	started := make(chan struct{})
	go func() { exited <- r.events(ctx, c, started) }()
	go func() {
		// Who sees output sees an active server.
		select {
		case <-started:
			kept <- r.keepOutput(ctx, c)
		case <-ctx.Done():
		}
	}()
	go r.keepClock(ctx, c)
	var exit *Exit
	for exit == nil || kept != nil {
		select {
		case res := <-exited:
			if res.err != nil {
				return nil, res.err
			}
			exit, exited = res.exit, nil
		case err := <-kept:
			if err != nil {
				return exit, err
			}
			kept = nil
		case req := <-r.i.stop:
			signal, err := c.Stop(ctx, req.grace)
			if err == nil && signal != 0 {
				r.killed(signal)
			}
			if err != nil && !errors.Is(err, agent.ErrNotRunning) {
				if errors.Is(err, agent.ErrDisconnected) {
					r.askToStop(req) // for the next session
				}
				return exit, err
			}
		}
	}
	if !r.reboot {
		r.i.log.End()
	}
	if err := r.recordExit(ctx, exit); err != nil {
		return exit, err
	}
	if err := c.Shutdown(ctx); err != nil {
		return exit, err
	}
	return exit, nil
}

func (r *run) dial(ctx context.Context) (*agent.Client, error) {
	if c := r.dialed; c != nil {
		r.dialed = nil
		return c, nil
	}
	return agent.Dial(ctx, filepath.Join(r.i.dir, agentFile))
}

// recordExit saves the exit before the guest may forget it.
func (r *run) recordExit(ctx context.Context, exit *Exit) error {
	return r.i.update(ctx, r.m.cfg.Store, func(s *Server) {
		if s.Exit = exit; r.reboot && s.TaskState == TaskNone {
			s.Exit, s.Restarting = nil, true
		}
		s.Timeline.output(r.i.log.First(), s.Launched, r.began)
	})
}

// events follows what the guest says of its entrypoint, until it has ended; started
// is closed when it is recorded that the entrypoint runs.
func (r *run) events(ctx context.Context, c *agent.Client, started chan<- struct{}) result {
	var res result
	err := c.Events(ctx, func(e agent.Event) error {
		switch e.Type {
		case agent.EventStarted:
			if err := r.launched(ctx, e); err != nil {
				return err
			}
			if started != nil {
				close(started)
				started = nil // a guest may say it twice
			}
		case agent.EventWarning:
			r.warn(printable(e.Warning))
		case agent.EventRestarting, agent.EventHealth:
			r.note(ctx, e)
		case agent.EventFailed:
			return codedError{errors.New(printable(first(e.Exit.Err, "the entrypoint could not be started"))), e.Exit.Code & 0xff}
		case agent.EventExited:
			// The guest may say anything; a status is a byte.
			r.reboot, r.timedOut = e.Exit.Reboot, e.Exit.TimedOut
			res.exit = &Exit{Code: e.Exit.Code & 0xff, Signal: e.Exit.Signal & 0x7f, OOMKilled: e.Exit.OOMKilled, At: time.Now().UTC()}
		}
		return nil
	})
	if err == nil && res.exit == nil {
		err = errors.New("the guest did not say how its entrypoint ended")
	}
	res.err = err
	return res
}

// launched records that the entrypoint runs. A later session hears of it again.
func (r *run) launched(ctx context.Context, e agent.Event) error {
	now := time.Now().UTC()
	if r.half() {
		err := r.i.update(ctx, r.m.cfg.Store, func(s *Server) {
			s.launch(now)
			s.Timeline.started(e, now, r.defined, r.began)
		})
		if err != nil {
			return err
		}
		r.giveTurn()
		r.m.happened(r.i, events.Start, nil)
		r.m.standbys.wanted(r.standby)
		r.m.log.Info("server started", "server", r.i.id, "elapsed", now.Sub(r.began))
	}
	srv, _ := r.i.snapshot()
	if limit := srv.Spec.Timeout; limit > 0 && r.timer == nil {
		r.timer = time.AfterFunc(time.Until(srv.Launched.Add(limit)), r.timeUp)
	}
	return nil
}

// killed tells of a signal that the guest has sent the entrypoint, asked to stop it.
func (r *run) killed(signal int) {
	r.m.happened(r.i, events.Kill, attributes{"signal": strconv.Itoa(signal & 0x7f)})
}

// launch says that the entrypoint runs.
func (s *Server) launch(now time.Time) {
	s.VMState, s.Step, s.Launched, s.Power = VMActive, "", now, PowerRunning
	if s.TaskState == TaskResizeFinish && s.OtherFlavor != nil {
		s.VMState = VMResized
	}
	if !s.TaskState.rework() && s.TaskState != TaskPoweringOff {
		s.TaskState = TaskNone
	}
	if s.FirstLaunched.IsZero() {
		s.FirstLaunched = now
	}
}

// timeUp stops a server that has run for as long as it may.
func (r *run) timeUp() {
	srv, _ := r.i.snapshot()
	r.m.log.Info("time limit reached", "server", srv.ID)
	r.askToStop(stopRequest{r.m.grace(&srv)})
}

// askToStop leaves a request for the session, unless several wait already.
func (r *run) askToStop(req stopRequest) {
	select {
	case r.i.stop <- req:
	default:
	}
}

// keepOutput appends what the entrypoint writes to the server's log.
func (r *run) keepOutput(ctx context.Context, c *agent.Client) error {
	stdout, stderr := r.i.log.Offsets()
	known := !r.i.log.First().IsZero()
	return c.Output(ctx, agent.Offsets{Stdout: stdout, Stderr: stderr}, func(stream agent.Stream, offset int64, data []byte) error {
		s := output.Stdout
		if stream == agent.Stderr {
			s = output.Stderr
		}
		if err := r.appendOutput(ctx, s, offset, data); err != nil {
			return err
		}
		if !known {
			known = true
			r.i.set(func(s *Server) { s.Timeline.output(r.i.log.First(), s.Launched, r.began) })
		}
		return nil
	})
}

// appendOutput writes to the server's log. On a full disk it waits for room: the
// guest keeps what is not written, and holds its entrypoint up before it loses any.
func (r *run) appendOutput(ctx context.Context, s output.Stream, offset int64, data []byte) error {
	for warned := false; ; {
		err := r.i.log.Append(ctx, s, offset, data)
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
			return err
		}
		if !warned {
			r.m.log.Error("output waits for room on the disk", "server", r.i.id, "err", err)
			warned = true
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
