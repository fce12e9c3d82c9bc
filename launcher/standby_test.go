package launcher_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/output"
)

// newStandbyBench is a bench whose engine keeps a guest standing by.
func newStandbyBench(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.standby = 1
	b.reopen()
	return b
}

// standsBy waits for a guest to stand by and returns the ID that its server will have.
func (b *bench) standsBy() string {
	b.t.Helper()
	b.waitFor("a guest to stand by", func() bool { return b.m.Standby() == 1 })
	found, err := os.ReadDir(filepath.Join(b.dir, "servers"))
	if err != nil {
		b.t.Fatal(err)
	}
	var ids []string
	for _, e := range found {
		if !slices.ContainsFunc(b.m.Servers(), func(s launcher.Server) bool { return s.ID == e.Name() }) {
			ids = append(ids, e.Name())
		}
	}
	if len(ids) != 1 {
		b.t.Fatalf("there are %q beside the servers", ids)
	}
	return ids[0]
}

func (b *bench) waitFor(what string, ok func() bool) {
	b.t.Helper()
	for limit := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// hello checks that a server has run /hello to its end.
func (b *bench) hello(id string) {
	b.t.Helper()
	srv := b.until(id, settled)
	stdout, stderr := b.output(id, output.Query{Stdout: true, Stderr: true, Tail: -1})
	if srv.Exit == nil || srv.Exit.Code != 3 || stdout != "out\n" || stderr != "err\n" {
		b.t.Errorf("it wrote %q and %q and ended %+v", stdout, stderr, srv.Exit)
	}
}

func TestStandby(t *testing.T) {
	b := newStandbyBench(t)
	first := b.create(launcher.Spec{})
	b.hello(first.ID)
	for range 2 {
		id, started := b.standsBy(), b.hv.Started()
		srv := b.create(launcher.Spec{})
		if srv.ID != id {
			t.Errorf("server %s has not taken guest %s", srv.ID, id)
		}
		b.hello(id)
		if n := b.hv.Started() - started; n != 0 {
			t.Errorf("%d guests were started for it", n)
		}
	}
	// Those that have run before have a guest of their own.
	b.standsBy()
	if err := b.m.Start(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	b.until(first.ID, func(s launcher.Server) bool { return s.Run == 2 && settled(s) })
	if n := b.m.Standby(); n != 1 {
		t.Errorf("%d guests stand by after another start", n)
	}
}

// What is asked for decides which guest a server has, and which the next one will.
func TestStandbyOfAnotherKind(t *testing.T) {
	b := newStandbyBench(t)
	b.hello(b.create(launcher.Spec{}).ID)
	tiny := b.standsBy()
	srv := b.create(launcher.Spec{Flavor: "small"})
	if srv.ID == tiny {
		t.Error("the server has a guest with less memory than was asked for")
	}
	b.hello(srv.ID)
	b.waitFor("the guest of another kind to go", func() bool {
		_, err := os.Stat(filepath.Join(b.dir, "servers", tiny))
		return errors.Is(err, os.ErrNotExist)
	})
	small := b.standsBy()
	if srv := b.create(launcher.Spec{Flavor: "small"}); srv.ID != small {
		t.Errorf("server %s has not taken guest %s", srv.ID, small)
	}
	b.hello(small)
}

// A guest whose like is not started any more is taken, since that shows late, but not
// used.
func TestStandbyOutdated(t *testing.T) {
	b := newStandbyBench(t)
	b.hello(b.create(launcher.Spec{}).ID)
	id, started := b.standsBy(), b.hv.Started()
	b.kernels.Path = "/test/other"
	if srv := b.create(launcher.Spec{}); srv.ID != id {
		t.Errorf("server %s has not taken guest %s", srv.ID, id)
	}
	b.hello(id)
	if n := b.hv.Started() - started; n != 1 {
		t.Errorf("%d guests were started for it", n)
	}
	b.standsBy()
}

// A guest that ends while it stands by is nobody's loss.
func TestStandbyEnds(t *testing.T) {
	b := newStandbyBench(t)
	b.hello(b.create(launcher.Spec{}).ID)
	id := b.standsBy()
	b.die(id)
	b.waitFor("the guest to be gone", func() bool {
		_, err := os.Stat(filepath.Join(b.dir, "servers", id))
		return b.m.Standby() == 0 && errors.Is(err, os.ErrNotExist)
	})
	b.hello(b.create(launcher.Spec{}).ID)
}

// A server that cannot be made takes its guest with it.
func TestStandbyOfServerNotMade(t *testing.T) {
	b := newStandbyBench(t)
	b.hello(b.create(launcher.Spec{}).ID)
	id := b.standsBy()
	full := errors.New("no space left")
	b.store.Fail = func(*launcher.Server) error { return full }
	if _, err := b.m.Create(t.Context(), launcher.Spec{Image: b.image}, nil); !errors.Is(err, full) {
		t.Errorf("created without a record: %v", err)
	}
	b.store.Fail = nil
	if _, err := os.Stat(filepath.Join(b.dir, "servers", id)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	// One whose root cannot be made has an end like others.
	srv := b.create(launcher.Spec{})
	b.hello(srv.ID)
	id = b.standsBy()
	if srv = b.create(launcher.Spec{Image: "oci:/nowhere"}); srv.ID != id {
		t.Errorf("server %s has not taken guest %s", srv.ID, id)
	}
	if srv = b.until(id, settled); srv.VMState != launcher.VMError {
		t.Errorf("without an image it is %s", srv.VMState)
	}
	next := b.standsBy()
	if domains, _ := b.hv.Domains(t.Context()); next == id || len(domains) != 1 {
		t.Errorf("after it guest %s stands by, of domains %v", next, domains)
	}
}

// An engine that has died between a server's creation and its guest's assignment cannot
// have told the guest of it.
func TestStandbyOfDeadEngine(t *testing.T) {
	b := newStandbyBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/count"}})
	b.until(srv.ID, active)
	b.close()
	all, err := b.store.Servers(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	s := all[0]
	s.Standby, s.VMState, s.TaskState, s.Launched = true, launcher.VMBuilding, launcher.TaskSpawning, time.Time{}
	if err := b.store.Save(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	started := b.hv.Started()
	b.open()
	b.until(srv.ID, active)
	if n := b.hv.Started() - started; n != 1 {
		t.Errorf("%d guests were started for it", n)
	}
}
