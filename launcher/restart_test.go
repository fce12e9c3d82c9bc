package launcher_test

import (
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/output"
)

func policy(p guest.RestartPolicy) launcher.Spec {
	return launcher.Spec{Command: []string{"/count"}, Options: guest.Options{Restart: guest.Restart{Policy: p}}}
}

// die ends a server's guest without a word.
func (b *bench) die(id string) {
	b.t.Helper()
	if err := b.hv.Destroy(b.t.Context(), prefix+id); err != nil {
		b.t.Fatal(err)
	}
}

func restarted(n int) func(launcher.Server) bool {
	return func(s launcher.Server) bool { return active(s) && !s.Restarting && s.RestartCount == n }
}

func TestDeadGuestIsRestarted(t *testing.T) {
	b := newBench(t)
	srv := b.create(policy(guest.RestartAlways))
	b.until(srv.ID, active)
	b.die(srv.ID)
	if got := b.until(srv.ID, restarted(1)); got.Run != 2 || got.Exit != nil {
		t.Errorf("run %d, exit %+v", got.Run, got.Exit)
	}
	if err := b.m.Stop(t.Context(), srv.ID, nil); err != nil {
		t.Fatal(err)
	}
	got := b.until(srv.ID, settled)
	if got.VMState != launcher.VMStopped || got.Exit.Code != 143 {
		t.Errorf("stopped as %+v with %+v", got, got.Exit)
	}
	if err := b.m.Start(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, active); got.RestartCount != 0 {
		t.Errorf("%d restarts after a user's start", got.RestartCount)
	}
}

func TestRestartPolicies(t *testing.T) {
	b := newBench(t)
	limited := policy(guest.RestartOnFailure)
	limited.Restart.Max = 1
	for _, test := range []struct {
		name     string
		spec     launcher.Spec
		restarts int
	}{
		{"no", policy(guest.RestartNo), 0},
		{"on-failure:1", limited, 1},
	} {
		srv := b.create(test.spec)
		for n := range test.restarts {
			b.until(srv.ID, restarted(n))
			b.die(srv.ID)
		}
		b.until(srv.ID, restarted(test.restarts))
		b.die(srv.ID)
		got := b.until(srv.ID, settled)
		if got.VMState != launcher.VMStopped || got.RestartCount != test.restarts || got.Exit.Code != 125 {
			t.Errorf("%s: %s after %d restarts with %+v", test.name, got.VMState, got.RestartCount, got.Exit)
		}
	}
}

// A server that waits for its restart can be stopped and deleted, and is restarted
// by the engine that comes next.
func TestWaitingForRestart(t *testing.T) {
	b := newBench(t)
	waiting := func() string {
		srv := b.create(policy(guest.RestartUnlessStopped))
		for n := range 3 { // the last wait is 400 ms
			b.until(srv.ID, restarted(n))
			b.die(srv.ID)
		}
		b.until(srv.ID, func(s launcher.Server) bool { return s.Restarting && s.RestartCount == 3 })
		return srv.ID
	}
	id := waiting()
	if err := b.m.Stop(t.Context(), id, nil); err != nil {
		t.Fatal(err)
	}
	if got := b.until(id, settled); got.VMState != launcher.VMStopped || got.Restarting {
		t.Errorf("stopped as %+v", got)
	}
	// It ends: nothing more is to come.
	b.output(id, output.Query{Stdout: true, Follow: true})

	if err := b.m.Delete(t.Context(), waiting()); err != nil {
		t.Fatal(err)
	}

	id = waiting()
	b.reopen()
	b.until(id, restarted(3))
	b.close()
	b.die(id)
	b.open()
	b.until(id, restarted(4))
}

// A server whose restart is booting is stopped like any other that boots.
func TestStopDuringRestart(t *testing.T) {
	b := newBench(t)
	srv := b.create(policy(guest.RestartAlways))
	b.until(srv.ID, active)
	b.hv.Gate = make(chan struct{})
	b.die(srv.ID)
	b.until(srv.ID, func(s launcher.Server) bool { return s.TaskState == launcher.TaskPoweringOn })
	stopped := make(chan error, 1)
	go func() { stopped <- b.m.Stop(t.Context(), srv.ID, nil) }()
	b.until(srv.ID, func(s launcher.Server) bool { return s.TaskState == launcher.TaskPoweringOff })
	close(b.hv.Gate)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, settled); got.VMState != launcher.VMStopped || got.Restarting || got.Run != 2 {
		t.Errorf("stopped as %+v", got)
	}
}

// A host that has been booted anew starts what is always to run, also what was
// stopped; an engine that has been does not.
func TestStartsWithHost(t *testing.T) {
	b := newBench(t)
	ids := map[guest.RestartPolicy]string{}
	for _, p := range []guest.RestartPolicy{guest.RestartAlways, guest.RestartUnlessStopped} {
		srv := b.create(policy(p))
		b.until(srv.ID, active)
		if err := b.m.Stop(t.Context(), srv.ID, nil); err != nil {
			t.Fatal(err)
		}
		ids[p] = srv.ID
	}
	b.reopen()
	time.Sleep(100 * time.Millisecond)
	for p, id := range ids {
		if got, err := b.m.Server(id); err != nil || got.VMState != launcher.VMStopped || got.TaskState != launcher.TaskNone {
			t.Errorf("%s: started with the engine: %+v, err %v", p, got, err)
		}
	}
	b.close()
	for _, id := range ids {
		srv, err := b.m.Server(id)
		if err != nil {
			t.Fatal(err)
		}
		srv.HostBoot = "another"
		if err := b.store.Save(t.Context(), &srv); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	b.until(ids[guest.RestartAlways], active)
	if got, err := b.m.Server(ids[guest.RestartUnlessStopped]); err != nil || got.VMState != launcher.VMStopped || got.TaskState != launcher.TaskNone {
		t.Errorf("unless-stopped: %+v, err %v", got, err)
	}
}
