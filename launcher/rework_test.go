package launcher_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
)

// counting makes a server that runs until it is stopped.
func (b *bench) counting() launcher.Server {
	b.t.Helper()
	srv := b.create(launcher.Spec{Command: []string{"/count"}})
	return b.until(srv.ID, active)
}

func idle(vm launcher.VMState) func(launcher.Server) bool {
	return func(s launcher.Server) bool { return s.VMState == vm && s.TaskState == launcher.TaskNone }
}

// did returns what was done to a server, and fails the test where any of it has not
// ended, or ended badly.
func (b *bench) did(id string) []string {
	b.t.Helper()
	records, err := b.m.Actions(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, r := range records {
		names = append(names, r.Action)
		if r.Finish.IsZero() || r.Message != "" || r.Request == "" {
			b.t.Errorf("action is recorded as %+v", r)
		}
	}
	return names
}

func TestReboot(t *testing.T) {
	for _, hard := range []bool{false, true} {
		b := newBench(t)
		srv := b.counting()
		if err := b.m.Reboot(t.Context(), srv.ID, hard); err != nil {
			t.Fatal(err)
		}
		got := b.until(srv.ID, func(s launcher.Server) bool { return s.Run == 2 && active(s) })
		if got.Exit != nil || !got.FirstLaunched.Equal(srv.FirstLaunched) {
			t.Errorf("hard %v: rebooted with exit %+v", hard, got.Exit)
		}
		if names := b.did(srv.ID); !slices.Equal(names, []string{"reboot", "create"}) {
			t.Errorf("hard %v: recorded are %v", hard, names)
		}
	}
}

func TestHardRebootEndsSoftOne(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/deaf"}})
	b.until(srv.ID, active)
	for _, hard := range []bool{false, true} {
		if err := b.m.Reboot(t.Context(), srv.ID, hard); err != nil {
			t.Fatal(err)
		}
	}
	b.until(srv.ID, func(s launcher.Server) bool { return s.Run == 2 && active(s) })
}

func TestSuspend(t *testing.T) {
	b := newBench(t)
	srv := b.counting()
	if err := b.m.Suspend(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, idle(launcher.VMSuspended)); got.Power != launcher.PowerPaused || got.Status() != "SUSPENDED" {
		t.Errorf("suspended, its power state is %d and its status %s", got.Power, got.Status())
	}
	b.reopen()
	b.until(srv.ID, idle(launcher.VMSuspended))
	if err := b.m.Unpause(t.Context(), srv.ID); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("unpause of a suspended server: %v", err)
	}
	if err := b.m.Resume(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	b.until(srv.ID, active)
}

func TestSetPassword(t *testing.T) {
	b := newBench(t)
	b.hv.Commands = map[string]func(string) (int, string){"chpasswd": nil}
	srv := b.counting()
	set := func(password string) error {
		err := b.m.SetPassword(t.Context(), srv.ID, password)
		b.until(srv.ID, active)
		return err
	}
	if err := set("new"); !errors.Is(err, launcher.ErrConflict) || !strings.Contains(err.Error(), "chpasswd: executable file not found") {
		t.Errorf("in an image without chpasswd: %v", err)
	}
	var given string
	b.hv.Commands = map[string]func(string) (int, string){"chpasswd": func(input string) (int, string) {
		given = input
		if strings.Contains(input, "weak") {
			return 1, "chpasswd: too \x1b[1mweak\n"
		}
		return 0, ""
	}}
	if err := b.m.Reboot(t.Context(), srv.ID, true); err != nil {
		t.Fatal(err)
	}
	b.until(srv.ID, func(s launcher.Server) bool { return s.Run == 2 && active(s) })
	if err := set("weak"); !errors.Is(err, launcher.ErrConflict) || !strings.HasSuffix(err.Error(), "because chpasswd failed: chpasswd: too [1mweak") {
		t.Errorf("refused by chpasswd: %v", err)
	}
	if err := set("a: b"); err != nil || given != "root:a: b\n" {
		t.Errorf("chpasswd was given %q, %v", given, err)
	}
	b.reopen() // the engine finds the server before it has reached into it
	if err := set("b"); err != nil || given != "root:b\n" {
		t.Errorf("after a restart chpasswd was given %q, %v", given, err)
	}
	if err := set("x\napp:y"); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("two lines: %v", err)
	}
	records, err := b.m.Actions(t.Context(), srv.ID)
	if err != nil || len(records) != 6 || records[0].Message != "" || !strings.Contains(records[2].Message, "too") {
		t.Errorf("recorded are %+v, %v", records, err)
	}
}

func TestPause(t *testing.T) {
	b := newBench(t)
	srv := b.counting()
	if err := b.m.Pause(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, idle(launcher.VMPaused)); got.Power != launcher.PowerPaused || got.Status() != "PAUSED" {
		t.Errorf("paused, its power state is %d and its status %s", got.Power, got.Status())
	}
	b.reopen()
	b.until(srv.ID, idle(launcher.VMPaused))
	if err := b.m.Unpause(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, active); got.Power != launcher.PowerRunning {
		t.Errorf("its power state is %d", got.Power)
	}
	b.hv.PauseError = errors.New("no way")
	if err := b.m.Pause(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	b.until(srv.ID, active)
	records, err := b.m.Actions(t.Context(), srv.ID)
	if err != nil || records[0].Action != "pause" || records[0].Message != "no way" {
		t.Errorf("recorded are %+v, %v", records, err)
	}
}

func TestRebuild(t *testing.T) {
	b := newBench(t)
	other := launchertest.Image(t, v1.Config{Cmd: []string{"/count"}}, "count")
	// Kept open, so that no other file gets its number.
	upper := func(id string) os.FileInfo {
		f, err := os.Open(filepath.Join(b.dir, "servers", id, "upper.img"))
		if err != nil {
			return nil
		}
		t.Cleanup(func() { _ = f.Close() })
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	change := func(s *launcher.Server) error {
		s.Spec.Image, s.Spec.Command = other, nil
		return nil
	}
	running := b.counting()
	before := upper(running.ID)
	if err := b.m.Rebuild(t.Context(), running.ID, change); err != nil {
		t.Fatal(err)
	}
	got := b.until(running.ID, func(s launcher.Server) bool { return s.Run == 2 && active(s) })
	if os.SameFile(before, upper(got.ID)) || got.ImageDigest == running.ImageDigest || got.ImageDigest == "" {
		t.Error("rebuilt, it has its old root")
	}

	stopped := b.create(launcher.Spec{})
	b.until(stopped.ID, settled)
	if err := b.m.Rebuild(t.Context(), stopped.ID, change); err != nil {
		t.Fatal(err)
	}
	if got = b.until(stopped.ID, idle(launcher.VMStopped)); upper(got.ID) != nil {
		t.Error("rebuilt at rest, it still has a root")
	}
	if err := b.m.Start(t.Context(), stopped.ID); err != nil {
		t.Fatal(err)
	}
	b.until(stopped.ID, active)
}

func TestResize(t *testing.T) {
	b := newBench(t)
	large := launcher.Flavor{Name: "large", VCPUs: 2, Memory: 256 << 20, Disk: 128 << 20}
	size := func(id string) int64 {
		info, err := os.Stat(filepath.Join(b.dir, "servers", id, "upper.img"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	resized := idle(launcher.VMResized)
	srv := b.counting()
	resize := func() {
		t.Helper()
		if err := b.m.Resize(t.Context(), srv.ID, large); err != nil {
			t.Fatal(err)
		}
		got := b.until(srv.ID, resized)
		if got.Flavor.Name != "large" || !got.Running() || size(srv.ID) != large.Disk {
			t.Errorf("resized to %+v with %d bytes", got.Flavor, size(srv.ID))
		}
	}
	resize()
	if err := b.m.RevertResize(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, active); got.Flavor.Name != "tiny" || size(srv.ID) != 64<<20 {
		t.Errorf("reverted to %+v with %d bytes", got.Flavor, size(srv.ID))
	}
	resize()
	if err := b.m.ConfirmResize(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, active); got.Flavor.Name != "large" || got.OtherFlavor != nil {
		t.Errorf("confirmed as %+v", got.Flavor)
	}
	if err := b.m.Resize(t.Context(), srv.ID, launcher.Flavor{VCPUs: 1, Memory: 1 << 30, Disk: 64 << 20}); !errors.Is(err, launcher.ErrInvalid) {
		t.Errorf("a smaller disk: %v", err)
	}
	want := []string{"confirmResize", "resize", "revertResize", "resize", "create"}
	if names := b.did(srv.ID); !slices.Equal(names, want) {
		t.Errorf("recorded are %v", names)
	}
}

func TestResetState(t *testing.T) {
	b := newBench(t)
	srv := b.counting()
	for _, to := range []launcher.VMState{launcher.VMError, launcher.VMActive} {
		if err := b.m.ResetState(t.Context(), srv.ID, to); err != nil {
			t.Fatal(err)
		}
		b.until(srv.ID, idle(to))
	}
	if err := b.m.ResetState(t.Context(), srv.ID, launcher.VMError); err != nil {
		t.Fatal(err)
	}
	if err := b.m.PowerOff(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	b.until(srv.ID, idle(launcher.VMStopped))
	if err := b.m.ResetState(t.Context(), srv.ID, launcher.VMActive); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, idle(launcher.VMStopped)); got.Running() {
		t.Error("it is said to run")
	}
}

// TestWorkGoesOnInTheNextEngine closes the engine at moments of each kind of work.
func TestWorkGoesOnInTheNextEngine(t *testing.T) {
	large := launcher.Flavor{Name: "large", VCPUs: 1, Memory: 256 << 20, Disk: 128 << 20}
	for name, c := range map[string]struct {
		do func(b *bench, id string) error
		ok func(launcher.Server) bool
	}{
		"nothing": {func(*bench, string) error { return nil }, active},
		"reboot":  {func(b *bench, id string) error { return b.m.Reboot(t.Context(), id, false) }, active},
		"hard":    {func(b *bench, id string) error { return b.m.Reboot(t.Context(), id, true) }, active},
		"pause":   {func(b *bench, id string) error { return b.m.Pause(t.Context(), id) }, idle(launcher.VMPaused)},
		"stop":    {func(b *bench, id string) error { return b.m.PowerOff(t.Context(), id) }, idle(launcher.VMStopped)},
		"rebuild": {func(b *bench, id string) error {
			return b.m.Rebuild(t.Context(), id, func(*launcher.Server) error { return nil })
		}, active},
		"resize":   {func(b *bench, id string) error { return b.m.Resize(t.Context(), id, large) }, idle(launcher.VMResized)},
		"deletion": {func(b *bench, id string) error { return b.m.DeleteLater(t.Context(), id) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			for range 5 {
				srv := b.counting()
				if err := c.do(b, srv.ID); err != nil {
					t.Fatal(err)
				}
				b.reopen()
				if c.ok != nil {
					b.until(srv.ID, c.ok)
				} else if _, err := b.m.Server(srv.ID); !errors.Is(err, launcher.ErrNotFound) {
					b.until(srv.ID, func(s launcher.Server) bool { return s.VMState == launcher.VMDeleted })
				}
			}
		})
	}
}

// TestBootGoesOnInTheNextEngine closes the engine while servers come up.
func TestBootGoesOnInTheNextEngine(t *testing.T) {
	b := newBench(t)
	var ids []string
	for range 6 {
		ids = append(ids, b.create(launcher.Spec{Command: []string{"/count"}}).ID)
		b.reopen()
	}
	for _, id := range ids {
		b.until(id, active)
	}
}

func TestProjectsServers(t *testing.T) {
	b := newBench(t)
	ctx := launcher.WithCaller(t.Context(), launcher.Caller{Request: "req-1", Project: "p", User: "u"})
	srv, err := b.m.CreateFor(ctx, launcher.NewServer{Spec: launcher.Spec{Image: b.image, Command: []string{"/count"}}, Project: "p", User: "u"})
	if err != nil {
		t.Fatal(err)
	}
	b.until(srv.ID, active)
	if err := b.m.Delete(ctx, srv.ID); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	gone := b.m.Deleted()
	if len(gone) != 1 || gone[0].ID != srv.ID || gone[0].Status() != "DELETED" || gone[0].Terminated.IsZero() {
		t.Errorf("deleted are %+v", gone)
	}
	if names := b.did(srv.ID); !slices.Equal(names, []string{"delete", "create"}) {
		t.Errorf("recorded are %v", names)
	}
	if err := b.store.Remove(t.Context(), srv.ID); err != nil { // nothing else is to be left
		t.Fatal(err)
	}

	lost, err := b.m.CreateFor(ctx, launcher.NewServer{Spec: launcher.Spec{Image: b.image}, NoHost: "No valid host was found."})
	if err != nil || lost.Status() != "ERROR" || lost.Fault != "No valid host was found." {
		t.Errorf("without a host it is %+v, %v", lost, err)
	}
}
