//go:build guest

package vmtest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/process"
)

// events collects the guest's events until one that want accepts.
func events(ctx context.Context, t *testing.T, c *agent.Client, want func(agent.Event) bool) []agent.Event {
	t.Helper()
	var all []agent.Event
	err := c.Events(ctx, func(e agent.Event) error {
		all = append(all, e)
		if want(e) {
			return errSeen
		}
		return nil
	})
	if !errors.Is(err, errSeen) {
		t.Fatalf("events %+v, err %v", all, err)
	}
	return all
}

func restarting(p guest.RestartPolicy, limit int, args ...string) vm {
	return vm{spec: guest.Spec{Args: append([]string{"probe"}, args...), Options: guest.Options{Restart: guest.Restart{Policy: p, Max: limit}}}}
}

// An entrypoint is restarted until it stays, its output is one, and a stop by
// the user is the end.
func TestRestart(t *testing.T) {
	ctx := deadline(t)
	r := boot(t, restarting(guest.RestartUnlessStopped, 0, "lives", "/lives", "4", "7"))
	c := r.dial(ctx)
	r.waitFor(ctx, c, "life 4\nready\n")
	if got := r.out[agent.Stdout].String(); got != "life 1\nlife 2\nlife 3\nlife 4\nready\n" {
		t.Errorf("stdout %q", got)
	}
	var waits []time.Duration
	for _, e := range events(ctx, t, c, func(e agent.Event) bool { return e.Type == agent.EventStarted && e.Restarts == 3 }) {
		if e.Type == agent.EventRestarting {
			waits = append(waits, e.Wait)
			if e.Exit.Code != 7 || e.Restarts != len(waits) {
				t.Errorf("event %+v, exit %+v", e, e.Exit)
			}
		}
	}
	for i, wait := range waits {
		if wait != 100*time.Millisecond<<i {
			t.Errorf("waits %v", waits)
		}
	}
	if _, err := c.Exec(ctx, agent.ExecRequest{Args: []string{"probe", "id"}}, agent.ExecIO{}); err != nil {
		t.Error(err)
	}
	if _, err := c.Stop(ctx, time.Minute); err != nil {
		t.Error(err)
	}
	if got := r.finish(ctx, c); got.exit != (agent.Exit{}) || !strings.HasSuffix(got.stdout, "signal terminated\n") {
		t.Errorf("got %+v", got)
	}
}

func TestRestartEnds(t *testing.T) {
	t.Run("after so many failures", func(t *testing.T) {
		got := run(t, restarting(guest.RestartOnFailure, 2, "lives", "/lives", "9", "3"))
		if got.stdout != "life 1\nlife 2\nlife 3\n" || got.exit.Code != 3 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("with success", func(t *testing.T) {
		got := run(t, restarting(guest.RestartOnFailure, 0, "lives", "/lives", "9", "0"))
		if got.stdout != "life 1\n" || got.exit.Code != 0 {
			t.Errorf("got %+v", got)
		}
	})
	// The waits add up to more than a minute, so that the stop comes in one.
	t.Run("when stopped meanwhile", func(t *testing.T) {
		ctx := deadline(t)
		r := boot(t, restarting(guest.RestartAlways, 0, "lives", "/lives", "99", "3"))
		c := r.dial(ctx)
		r.waitFor(ctx, c, "life 5\n")
		events(ctx, t, c, func(e agent.Event) bool { return e.Type == agent.EventRestarting && e.Restarts == 5 })
		if _, err := c.Stop(ctx, time.Minute); err != nil {
			t.Error(err)
		}
		if got := r.finish(ctx, c); got.exit.Code != 3 && got.exit.Code != 2 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("when killed", func(t *testing.T) {
		ctx := deadline(t)
		r := boot(t, restarting(guest.RestartAlways, 0, "trap"))
		c := r.dial(ctx)
		r.waitFor(ctx, c, "ready")
		if err := c.Signal(ctx, "KILL"); err != nil {
			t.Error(err)
		}
		if got := r.finish(ctx, c); got.exit != (agent.Exit{Code: 137, Signal: 9}) {
			t.Errorf("got %+v", got)
		}
	})
}

// What the host found in the root goes for the first start; later ones look again.
func TestFound(t *testing.T) {
	v := restarting(guest.RestartAlways, 0, "id")
	v.spec.Found = &process.Found{Identity: process.Identity{UID: 12, GID: 34, Home: "/found"}, Path: "/bin/probe"}
	ctx := deadline(t)
	r := boot(t, v)
	c := r.dial(ctx)
	r.waitFor(ctx, c, " uid=0 ")
	if got := r.out[agent.Stdout].String(); !strings.HasPrefix(got, "pid=1 uid=12 gid=34 ") {
		t.Errorf("stdout %q", got)
	}
	if _, err := c.Stop(ctx, time.Minute); err != nil && !errors.Is(err, agent.ErrNotRunning) {
		t.Error(err)
	}
	r.finish(ctx, c)
}

func TestHealth(t *testing.T) {
	ctx := deadline(t)
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "trap", "terminated", "0"}, User: "app", Options: guest.Options{
		Healthcheck: guest.Healthcheck{Test: []string{"CMD", "probe", "cat", "/etc/health"}, Interval: 200 * time.Millisecond, Retries: 2},
	}}, files: map[string]string{"root/etc/health": "all is well\n"}})
	c := r.dial(ctx)
	status := func(want agent.HealthStatus) agent.Event {
		t.Helper()
		all := events(ctx, t, c, func(e agent.Event) bool { return e.Health != nil && e.Health.Status == want })
		return all[len(all)-1]
	}
	first := events(ctx, t, c, func(e agent.Event) bool { return e.Health != nil })
	if h := first[len(first)-1].Health; h.Status != agent.HealthStarting || h.Check != nil {
		t.Errorf("first %+v", h)
	}
	if h := status(agent.HealthHealthy).Health; h.Check.Code != 0 || h.Check.Output != "all is well\n" {
		t.Errorf("healthy %+v, %+v", h, h.Check)
	}
	if exit, err := c.Exec(ctx, agent.ExecRequest{Args: []string{"probe", "remove", "/etc/health"}, User: "root"}, agent.ExecIO{}); err != nil || exit.Code != 0 {
		t.Fatal(exit, err)
	}
	h := status(agent.HealthFailing).Health
	if h.Check.Code != 1 || h.Streak < 2 || !strings.Contains(h.Check.Output, "no such file") {
		t.Errorf("unhealthy %+v, %+v", h, h.Check)
	}
	// However many checks there have been, few are told.
	time.Sleep(3 * time.Second)
	all := events(ctx, t, c, func(e agent.Event) bool { return e.Health != nil && e.Health.Streak > 6 })
	if len(all) > 10 {
		t.Errorf("%d events", len(all))
	}
	if _, err := c.Stop(ctx, time.Minute); err != nil {
		t.Error(err)
	}
	r.finish(ctx, c)
}

// A check that takes too long has failed.
func TestHealthTimeout(t *testing.T) {
	ctx := deadline(t)
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "trap", "terminated", "0"}, Options: guest.Options{
		Healthcheck: guest.Healthcheck{Test: []string{"CMD", "probe", "sleep", "600000"}, Interval: 100 * time.Millisecond,
			Timeout: 100 * time.Millisecond, Retries: 1},
	}}})
	c := r.dial(ctx)
	all := events(ctx, t, c, func(e agent.Event) bool { return e.Health != nil && e.Health.Status == agent.HealthFailing })
	if h := all[len(all)-1].Health; h.Check.Code != -1 || !strings.Contains(h.Check.Output, "exceeded timeout (100ms)") {
		t.Errorf("got %+v", h.Check)
	}
	if list, err := c.Top(ctx); err != nil || len(list) > 2 {
		t.Errorf("processes %+v, err %v", list, err)
	}
}
