package launcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/launchertest"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

const prefix = "test-"

// bench is a state directory with a fake hypervisor, whose manager can be closed
// and opened again.
type bench struct {
	t     *testing.T
	dir   string
	hv    *launchertest.Hypervisor
	store *launchertest.Store
	image string
	limit int64 // on the bytes of layer images
	// standby is how many guests stand by.
	standby int
	kernels launchertest.Kernels
	m       *launcher.Manager
	roots   *rootfs.Store
}

var programs = map[string]launchertest.Program{
	"/hello": func(ctx context.Context, p *launchertest.Process) agent.Exit {
		p.Write(ctx, agent.Stdout, "out\n")
		p.Write(ctx, agent.Stderr, "err\n")
		return agent.Exit{Code: 3}
	},
	"/count": func(ctx context.Context, p *launchertest.Process) agent.Exit {
		for i := 0; ; i++ {
			p.Write(ctx, agent.Stdout, fmt.Sprintln(i))
			select {
			case <-p.Stop:
				p.Write(ctx, agent.Stdout, "stopped\n")
				return agent.Exit{Code: 143, Signal: 15}
			case <-ctx.Done():
				return agent.Exit{}
			case <-time.After(time.Millisecond):
			}
		}
	},
	"/deaf": func(ctx context.Context, _ *launchertest.Process) agent.Exit {
		<-ctx.Done()
		return agent.Exit{}
	},
}

func newBench(t *testing.T) *bench {
	t.Helper()
	// Short, since sockets lie below it.
	dir, err := os.MkdirTemp("/tmp", "slw") //nolint:usetesting // t.TempDir is too long
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		t: t, dir: dir,
		hv:    &launchertest.Hypervisor{Programs: programs},
		store: &launchertest.Store{},
		image: launchertest.Image(t, v1.Config{Cmd: []string{"/hello"}}, "hello", "count", "deaf", "lost"),
	}
	b.open()
	t.Cleanup(func() {
		for _, s := range b.m.Servers() {
			if err := b.m.Delete(context.WithoutCancel(t.Context()), s.ID); err != nil {
				t.Error(err)
			}
		}
		if b.standby == 0 {
			b.empty()
		}
		err := b.m.Close()
		b.empty() // what stood by has ended with the engine
		if err := errors.Join(err, b.roots.Close(), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) open() {
	b.t.Helper()
	ctx := b.t.Context()
	roots, err := rootfs.Open(ctx, rootfs.Config{Dir: filepath.Join(b.dir, "rootfs")})
	if err != nil {
		b.t.Fatal(err)
	}
	b.roots = roots
	pulled, err := images.Open(images.Config{Dir: filepath.Join(b.dir, "images")})
	if err != nil {
		b.t.Fatal(err)
	}
	b.m, err = launcher.New(ctx, launcher.Config{
		Dir: filepath.Join(b.dir, "servers"), Images: pulled, Roots: roots,
		Kernels: &b.kernels, Host: launchertest.Host{},
		Hypervisor: b.hv, DomainPrefix: prefix, Store: b.store, Init: "/test/init",
		Flavors: []launcher.Flavor{
			{Name: "tiny", VCPUs: 1, Memory: 128 << 20, Disk: 64 << 20},
			{Name: "small", VCPUs: 1, Memory: 256 << 20, Disk: 64 << 20},
		},
		MaxImages: b.limit, Standby: b.standby,
		DefaultFlavor: "tiny", StopGrace: 100 * time.Millisecond, BootTimeout: 20 * time.Second,
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// reopen is what the end of an engine and the start of the next do.
func (b *bench) reopen() {
	b.t.Helper()
	b.close()
	b.open()
}

// close is what the end of an engine does.
func (b *bench) close() {
	b.t.Helper()
	if err := errors.Join(b.m.Close(), b.roots.Close()); err != nil {
		b.t.Fatal(err)
	}
	b.hv.Forget()
}

// empty checks that nothing of any server is left.
func (b *bench) empty() {
	b.t.Helper()
	if doms, _ := b.hv.Domains(context.Background()); len(doms) > 0 {
		b.t.Errorf("domains left: %v", doms)
	}
	if found, err := os.ReadDir(filepath.Join(b.dir, "servers")); err != nil || len(found) > 0 {
		b.t.Errorf("servers left: %v, %v", found, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		b.t.Fatal(err)
	}
	if bytes.Contains(mounts, []byte(b.dir)) {
		b.t.Errorf("mounts left below %s:\n%s", b.dir, mounts)
	}
	if recs, _ := b.store.Servers(context.Background()); len(recs) > 0 {
		b.t.Errorf("%d records left", len(recs))
	}
}

func (b *bench) create(spec launcher.Spec) launcher.Server {
	b.t.Helper()
	if spec.Image == "" {
		spec.Image = b.image
	}
	srv, err := b.m.Create(b.t.Context(), spec, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return srv
}

// until waits for a server to be as ok says.
func (b *bench) until(ref string, ok func(launcher.Server) bool) launcher.Server {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	var last launcher.Server
	enough := errors.New("enough")
	err := b.m.Watch(ctx, ref, func(s launcher.Server) error {
		if last = s; ok(s) {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) && last.VMState != launcher.VMDeleted {
		b.t.Fatalf("server %s is %s (%s): %v", ref, last.VMState, last.TaskState, err)
	}
	return last
}

func active(s launcher.Server) bool {
	return s.VMState == launcher.VMActive && s.TaskState == launcher.TaskNone
}

func settled(s launcher.Server) bool {
	return s.TaskState == launcher.TaskNone && s.VMState != launcher.VMActive && s.VMState != launcher.VMBuilding
}

func (b *bench) output(ref string, q output.Query) (stdout, stderr string) {
	b.t.Helper()
	err := b.m.Output(b.t.Context(), ref, q, func(r output.Record) error {
		if r.Stream == output.Stdout {
			stdout += string(r.Data)
		} else {
			stderr += string(r.Data)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return stdout, stderr
}

func TestServerRunsToItsEnd(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Name: "web"})
	if srv.Status() != "BUILD" || srv.TaskState != launcher.TaskScheduling && srv.TaskState != launcher.TaskSpawning {
		t.Errorf("a new server is %s (%s)", srv.Status(), srv.TaskState)
	}
	got := b.until("web", settled)
	if got.VMState != launcher.VMStopped || got.Exit == nil || got.Exit.Code != 3 {
		t.Errorf("ended as %s with %+v", got.VMState, got.Exit)
	}
	if stdout, stderr := b.output("web", output.All()); stdout != "out\n" || stderr != "err\n" {
		t.Errorf("output %q and %q", stdout, stderr)
	}
	if got.Accel != "tcg" || got.Kernel != "test" || got.ImageDigest == "" || got.Timeline.Total == 0 {
		t.Errorf("record lacks facts: %+v", got)
	}
}

func TestStopIsGentleThenHard(t *testing.T) {
	b := newBench(t)
	for program, code := range map[string]int{"/count": 143, "/deaf": 137} {
		srv := b.create(launcher.Spec{Command: []string{program}})
		b.until(srv.ID, active)
		if err := b.m.Stop(t.Context(), srv.ID, nil); err != nil {
			t.Fatal(err)
		}
		got, err := b.m.Server(srv.ID)
		if err != nil || got.VMState != launcher.VMStopped || got.Exit.Code != code {
			t.Errorf("%s: stopped as %s with %+v, %v; want %d", program, got.VMState, got.Exit, err, code)
		}
	}
}

// The end of a domain may be told when its server's next boot has begun.
func TestEndToldLate(t *testing.T) {
	b := newBench(t)
	b.hv.Late = true
	srv := b.create(launcher.Spec{Command: []string{"/count"}})
	if got := b.until(srv.ID, func(s launcher.Server) bool { return active(s) || settled(s) }); got.VMState != launcher.VMActive {
		t.Errorf("server is %s: %s", got.VMState, got.Fault)
	}
}

func TestTimeoutStops(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/count"}, Timeout: 50 * time.Millisecond})
	if got := b.until(srv.ID, settled); got.Exit == nil || got.Exit.Code != 143 {
		t.Errorf("ended with %+v", got.Exit)
	}
}

func TestAutoRemove(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{AutoRemove: true})
	got := b.until(srv.ID, func(s launcher.Server) bool { return s.VMState == launcher.VMDeleted })
	if got.Exit == nil || got.Exit.Code != 3 {
		t.Errorf("its last record has exit %+v", got.Exit)
	}
	b.empty()
}

// TestAllActions has every action meet every state it can meet at rest.
func TestAllActions(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	actions := map[string]func(string) error{
		"start":  func(ref string) error { return b.m.Start(ctx, ref) },
		"stop":   func(ref string) error { return b.m.Stop(ctx, ref, nil) },
		"signal": func(ref string) error { return b.m.Signal(ctx, ref, "TERM") },
		"root":   func(ref string) error { return b.m.SetRootMode(ctx, ref, "block") },
		"delete": func(ref string) error { return b.m.Delete(ctx, ref) },
	}
	states := map[string]func() string{
		"active": func() string {
			srv := b.create(launcher.Spec{Command: []string{"/count"}})
			b.until(srv.ID, active)
			return srv.ID
		},
		"stopped": func() string {
			srv := b.create(launcher.Spec{})
			b.until(srv.ID, settled)
			return srv.ID
		},
		"error": func() string {
			srv := b.create(launcher.Spec{Kernel: "nosuch"})
			b.until(srv.ID, settled)
			return srv.ID
		},
	}
	allowed := map[string]bool{
		"active stop": true, "active signal": true, "active delete": true,
		"stopped start": true, "stopped root": true, "stopped delete": true,
		"error start": true, "error root": true, "error delete": true,
	}
	for state, enter := range states {
		for action, do := range actions {
			ref := enter()
			err := do(ref)
			var refused *launcher.StateError
			switch want := allowed[state+" "+action]; {
			case want && err != nil:
				t.Errorf("%s of an %s server: %v", action, state, err)
			case !want && !errors.As(err, &refused):
				t.Errorf("%s of an %s server is not refused: %v", action, state, err)
			case !want && !errors.Is(err, launcher.ErrConflict):
				t.Errorf("%v does not match ErrConflict", err)
			}
		}
	}
}

func TestFailedBoots(t *testing.T) {
	for name, c := range map[string]struct {
		spec launcher.Spec
		set  func(*bench)
		code int
		says string
	}{
		"no such image":      {launcher.Spec{Image: "oci:/nonexistent"}, nil, 125, "/nonexistent"},
		"no such kernel":     {launcher.Spec{Kernel: "nosuch"}, nil, 125, "slipway kernel import"},
		"too little memory":  {launcher.Spec{Memory: 16 << 20}, nil, 125, "needs 64 MiB"},
		"no such command":    {launcher.Spec{Command: []string{"nosuch"}}, nil, 127, "nosuch"},
		"no such user":       {launcher.Spec{User: "nobody"}, nil, 125, "nobody"},
		"no such volume":     {launcher.Spec{Volumes: []launcher.Volume{{Host: "/nonexistent", Guest: "/v"}}}, nil, 125, "/nonexistent"},
		"refused by libvirt": {launcher.Spec{}, func(b *bench) { b.hv.StartError = errors.New("no way") }, 125, "no way"},
		"dies at once":       {launcher.Spec{}, func(b *bench) { b.hv.DieEarly = true }, 125, "ended unexpectedly"},
		"fails in the guest": {launcher.Spec{Command: []string{"/lost"}}, nil, 127, "no such program"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			if c.set != nil {
				c.set(b)
			}
			srv := b.create(c.spec)
			got := b.until(srv.ID, settled)
			if got.VMState != launcher.VMError || got.FaultCode != c.code || !strings.Contains(got.Fault, c.says) {
				t.Errorf("server is %s with code %d and fault %q", got.VMState, got.FaultCode, got.Fault)
			}
			c.spec.RemoveFailed = true
			srv = b.create(c.spec)
			b.until(srv.ID, func(s launcher.Server) bool { return s.VMState == launcher.VMDeleted })
		})
	}
}

// TestRecordsThatCannotBeSaved fails each save of a boot in turn.
func TestRecordsThatCannotBeSaved(t *testing.T) {
	for n := range 6 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := newBench(t)
			saves := 0
			b.store.Fail = func(*launcher.Server) error {
				if saves++; saves == n+1 {
					return errors.New("disk full")
				}
				return nil
			}
			srv, err := b.m.Create(t.Context(), launcher.Spec{Image: b.image, RemoveFailed: true}, nil)
			if err == nil {
				b.until(srv.ID, settled)
			} else if n > 0 {
				t.Error(err)
			}
			for _, srv := range b.m.Servers() {
				if err := b.m.Delete(t.Context(), srv.ID); err != nil {
					t.Error(err)
				}
			}
			b.empty()
		})
	}
}

func TestDeleteAtAnyMoment(t *testing.T) {
	b := newBench(t)
	for i := range 20 {
		srv := b.create(launcher.Spec{Command: []string{"/count"}})
		time.Sleep(time.Duration(i) * 2 * time.Millisecond)
		if err := b.m.Delete(t.Context(), srv.ID); err != nil {
			t.Fatal(err)
		}
		b.empty()
	}
}

func TestConcurrentDeletes(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/count"}, AutoRemove: true})
	b.until(srv.ID, active)
	errs := make(chan error, 5)
	for range 5 {
		go func() { errs <- b.m.Delete(t.Context(), srv.ID) }()
	}
	for range 5 {
		if err := <-errs; err != nil && !errors.Is(err, launcher.ErrNotFound) {
			t.Error(err)
		}
	}
	b.empty()
}

func TestOutlivesTheEngine(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/count"}})
	b.until(srv.ID, active)
	for range 5 {
		time.Sleep(20 * time.Millisecond)
		b.reopen()
	}
	b.until(srv.ID, active)
	if err := b.m.Stop(t.Context(), srv.ID, nil); err != nil {
		t.Fatal(err)
	}
	stdout, _ := b.output(srv.ID, output.All())
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for n, line := range lines[:len(lines)-1] {
		if line != fmt.Sprint(n) {
			t.Fatalf("line %d is %q", n, line)
		}
	}
	if lines[len(lines)-1] != "stopped" {
		t.Errorf("the last line is %q", lines[len(lines)-1])
	}
}

func TestEndsWithoutAnEngine(t *testing.T) {
	b := newBench(t)
	kept := b.create(launcher.Spec{Command: []string{"/deaf"}})
	removed := b.create(launcher.Spec{Command: []string{"/deaf"}, AutoRemove: true})
	for _, s := range []launcher.Server{kept, removed} {
		b.until(s.ID, active)
	}
	b.close()
	for _, s := range []launcher.Server{kept, removed} {
		if err := b.hv.Destroy(t.Context(), prefix+s.ID); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	got, err := b.m.Server(kept.ID)
	if err != nil || got.VMState != launcher.VMStopped || got.Exit == nil || got.Exit.Reason == "" {
		t.Errorf("server is %s with %+v, %v", got.VMState, got.Exit, err)
	}
	if _, err := b.m.Server(removed.ID); !errors.Is(err, launcher.ErrNotFound) {
		t.Errorf("the other one is still there: %v", err)
	}
}

// TestUnknownThingsAreRemoved opens a state directory with what a crash can leave.
func TestUnknownThingsAreRemoved(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{Command: []string{"/deaf"}})
	b.until(srv.ID, active)
	b.close()
	if err := b.store.Remove(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.empty()
}

func TestStartAgainKeepsTheDisk(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{})
	b.until(srv.ID, settled)
	upper := filepath.Join(b.dir, "servers", srv.ID, "upper.img")
	before, err := os.Stat(upper)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.m.Start(t.Context(), srv.ID); err != nil {
		t.Fatal(err)
	}
	got := b.until(srv.ID, settled)
	after, err := os.Stat(upper)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the disk is another: %v", err)
	}
	all, _ := b.output(srv.ID, output.All())
	last, _ := b.output(srv.ID, output.Query{Stdout: true, Run: got.Run, Tail: -1})
	if got.Run != 2 || all != "out\nout\n" || last != "out\n" {
		t.Errorf("run %d, all output %q, the last run's %q", got.Run, all, last)
	}
}

// A root on disks has no mount on the host, the guest's seed in an archive.
func TestRootOnDisks(t *testing.T) {
	b := newBench(t)
	srv := b.create(launcher.Spec{RootMode: "block", Command: []string{"/count"}})
	b.until(srv.ID, active)
	dir := filepath.Join(b.dir, "servers", srv.ID)
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(dir)) {
		t.Errorf("%v, mounted:\n%s", err, mounts)
	}
	disk, err := os.ReadFile(filepath.Join(dir, "base0.vmdk"))
	if err != nil || strings.Count(string(disk), "RW ") != 2 {
		t.Errorf("%v, not a seed and a layer:\n%s", err, disk)
	}
	seed, err := os.ReadFile(filepath.Join(dir, "seed.tar"))
	if err != nil || len(seed)%4096 != 0 || !bytes.Contains(seed, []byte("process.json")) || !bytes.Contains(seed, []byte("disks.json")) {
		t.Errorf("%v, a seed of %d bytes", err, len(seed))
	}
}

func TestDeleteImage(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	srv := b.create(launcher.Spec{})
	b.until(srv.ID, settled)
	list, err := b.m.Images(ctx)
	if err != nil || len(list) != 1 {
		t.Fatalf("images: %v, %v", list, err)
	}
	if err := b.m.DeleteImage(ctx, b.image, false); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("deleting an image in use: %v", err)
	}
	if err := b.m.DeleteImage(ctx, b.image, true); err != nil {
		t.Fatal(err)
	}
	// The server goes on with its layers.
	if err := b.m.Start(ctx, srv.ID); err != nil {
		t.Fatal(err)
	}
	if got := b.until(srv.ID, settled); got.VMState != launcher.VMStopped {
		t.Errorf("started again it is %s: %s", got.VMState, got.Fault)
	}
	if err := b.m.Delete(ctx, srv.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.m.Pull(ctx, b.image, "", nil, func(launcher.PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	if err := b.m.DeleteImage(ctx, b.image, false); err != nil {
		t.Fatal(err)
	}
	layers, err := filepath.Glob(filepath.Join(b.dir, "rootfs/layers/*.erofs"))
	if err != nil || len(layers) > 0 {
		t.Errorf("layers left: %v, %v", layers, err)
	}
}

func TestPruneImages(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	other := launchertest.Image(t, v1.Config{Cmd: []string{"/hello"}}, "hello")
	if _, err := b.m.Pull(ctx, other, "", nil, func(launcher.PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	srv := b.create(launcher.Spec{})
	b.until(srv.ID, settled)
	if p, err := b.m.PruneImages(ctx, false); err != nil || p.Layers != 0 {
		t.Errorf("nothing to prune: %+v, %v", p, err)
	}
	release, err := b.roots.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := b.m.PruneImages(ctx, false); err != nil || !p.Busy {
		t.Errorf("during a pull: %+v, %v", p, err)
	}
	release()
	p, err := b.m.PruneImages(ctx, true)
	if err != nil || p.Busy || p.Layers != 1 || p.Bytes == 0 || len(p.Images) != 1 || p.Images[0] != other {
		t.Errorf("one image without servers: %+v, %v", p, err)
	}
	if err := b.m.VerifyImage(ctx, b.image); err != nil {
		t.Error(err)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	if _, err := b.m.Pull(ctx, b.image, "", nil, func(launcher.PullProgress) {}); err != nil {
		t.Fatal(err)
	}
	if err := b.m.VerifyImage(ctx, b.image); err != nil {
		t.Fatal(err)
	}
	layers, err := filepath.Glob(filepath.Join(b.dir, "rootfs/layers/*.erofs"))
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers: %v, %v", layers, err)
	}
	data, err := os.ReadFile(layers[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(layers[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layers[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.m.VerifyImage(ctx, b.image); !errors.Is(err, rootfs.ErrCorrupt) || !strings.Contains(err.Error(), "pull it again") {
		t.Errorf("a flipped bit: %v", err)
	}
	img, err := b.m.Pull(ctx, b.image, "", nil, func(launcher.PullProgress) {})
	if err != nil || !img.New {
		t.Errorf("pulled again: new %v, %v", img.New, err)
	}
	if err := b.m.VerifyImage(ctx, b.image); err != nil {
		t.Errorf("after it was pulled again: %v", err)
	}
}

func TestImagesBeyondTheLimit(t *testing.T) {
	b := newBench(t)
	b.limit = 1 // any two images are too much
	b.reopen()
	ctx := t.Context()
	for n := range 3 {
		image := launchertest.Image(t, v1.Config{Cmd: []string{"/hello"}}, "hello", fmt.Sprint("file", n))
		if _, err := b.m.Pull(ctx, image, "", nil, func(launcher.PullProgress) {}); err != nil {
			t.Fatal(err)
		}
		list, err := b.m.Images(ctx)
		if err != nil || len(list) != 1 || list[0].Reference != image {
			t.Fatalf("after pull %d: %v, %v", n, list, err)
		}
	}
}

func TestNames(t *testing.T) {
	b := newBench(t)
	one := b.create(launcher.Spec{Name: "same"})
	b.create(launcher.Spec{Name: "same"})
	if _, err := b.m.Server("same"); !errors.Is(err, launcher.ErrConflict) {
		t.Errorf("a name of two servers: %v", err)
	}
	for _, ref := range []string{one.ID, one.ID[:8]} {
		if got, err := b.m.Server(ref); err != nil || got.ID != one.ID {
			t.Errorf("%s: %v, %v", ref, got.ID, err)
		}
	}
	for _, s := range b.m.Servers() {
		b.until(s.ID, settled)
	}
}
