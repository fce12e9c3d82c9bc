package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The benchmark of what is done in a running server, beside a container of the same
// image that podman runs: a command executed and awaited, and a file copied in and
// out, each by one call of the command line.

const (
	guestExecs    = 10 // in each run
	guestCopySize = 16 << 20
)

// inhabitant is something that runs the image and can be reached into.
type inhabitant interface {
	exec(ctx context.Context) error
	copyIn(ctx context.Context, from, to string) error
	copyOut(ctx context.Context, from, to string) error
}

// inside is what was measured of an inhabitant.
type inside struct{ execs, ins, outs []time.Duration }

func runGuest(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeBelow(dir)) }()
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	s := &slipway{options: o}
	defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx))) }()
	progress("a server and a container of the same image")
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.run(ctx, s.bootArgs([]string{"-d", "--name", "bench", "--stop-timeout", "1s"}, "sleep", "1000000")...); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.run(context.WithoutCancel(ctx), "server", "delete", "bench")) }()
	p := &container{dir: dir}
	defer func() { err = errors.Join(err, p.remove(context.WithoutCancel(ctx))) }()
	if err := p.start(ctx, o.image, []string{"--network", "none"}, "sleep", "1000000"); err != nil {
		return err
	}
	data := filepath.Join(dir, "data")
	b := make([]byte, guestCopySize)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b)
	if err := os.WriteFile(data, b, 0o600); err != nil {
		return err
	}
	var ours, theirs inside
	for i := range o.runs {
		progress(fmt.Sprintf("run %d of %d: exec, copy in, copy out", i+1, o.runs))
		if err := errors.Join(ours.run(ctx, resident{s}, data, data+".slipway"), theirs.run(ctx, p, data, data+".podman")); err != nil {
			return err
		}
	}
	reportInside(os.Stdout, o, ours, theirs, "podman "+versionOf(ctx, "podman"))
	return nil
}

// run measures one turn.
func (m *inside) run(ctx context.Context, in inhabitant, data, back string) error {
	for range guestExecs {
		if err := measure(&m.execs, func() error { return in.exec(ctx) }); err != nil {
			return err
		}
	}
	if err := measure(&m.ins, func() error { return in.copyIn(ctx, data, "/srv/data") }); err != nil {
		return err
	}
	if err := measure(&m.outs, func() error { return in.copyOut(ctx, "/srv/data", back) }); err != nil {
		return err
	}
	return errors.Join(runCommand(ctx, "cmp", data, back), os.Remove(back))
}

func measure(times *[]time.Duration, do func() error) error {
	begin := time.Now()
	err := do()
	*times = append(*times, time.Since(begin))
	return err
}

// resident is the server of the benchmark.
type resident struct{ s *slipway }

func (r resident) exec(ctx context.Context) error {
	return r.s.run(ctx, "server", "exec", "bench", "true")
}

func (r resident) copyIn(ctx context.Context, from, to string) error {
	return r.s.run(ctx, "server", "cp", from, "bench:"+to)
}

func (r resident) copyOut(ctx context.Context, from, to string) error {
	return r.s.run(ctx, "server", "cp", "bench:"+from, to)
}

// container is a container of podman's, in a store of its own. Its runtime is runc, since crun refuses hosts that mount both versions
// of cgroups.
type container struct{ dir string }

func (c *container) podman(ctx context.Context, args ...string) error {
	return finish(exec.CommandContext(ctx, "podman", append([]string{
		"--root", filepath.Join(c.dir, "root"), "--runroot", filepath.Join(c.dir, "run"), "--tmpdir", filepath.Join(c.dir, "libpod"),
		"--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc",
	}, args...)...))
}

// start runs a command in the image, by way of an archive, which has a name that podman
// takes.
func (c *container) start(ctx context.Context, image string, flags []string, command ...string) error {
	if !strings.HasPrefix(image, "oci:") {
		image = "docker://" + image
	}
	if err := acceptAll(c.dir); err != nil {
		return err
	}
	archive, policy := filepath.Join(c.dir, "image.tar"), filepath.Join(c.dir, "policy.json")
	if err := runCommand(ctx, "skopeo", "--policy", policy, "copy", "-q", image, "docker-archive:"+archive+":bench:latest"); err != nil {
		return err
	}
	if err := c.podman(ctx, "load", "-q", "--signature-policy", policy, "-i", archive); err != nil {
		return err
	}
	// The limits that it would set by itself may be above its own.
	run := append([]string{"run", "-d", "--name", "bench", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}, flags...)
	return c.podman(ctx, append(append(run, "docker.io/library/bench:latest"), command...)...)
}

func (c *container) exec(ctx context.Context) error { return c.podman(ctx, "exec", "bench", "true") }

func (c *container) copyIn(ctx context.Context, from, to string) error {
	return c.podman(ctx, "cp", from, "bench:"+to)
}

func (c *container) copyOut(ctx context.Context, from, to string) error {
	return c.podman(ctx, "cp", "bench:"+from, to)
}

// remove ends the container, if it was started, and unmounts the store.
func (c *container) remove(ctx context.Context) error {
	err := c.podman(ctx, "rm", "-f", "-i", "-t", "0", "bench")
	_ = unix.Unmount(filepath.Join(c.dir, "root/overlay"), unix.MNT_DETACH)
	return err
}

func reportInside(w io.Writer, o options, ours, theirs inside, peer string) {
	fmt.Fprintf(w, "\nIn a running server: image %s, %d runs of %d executions and a copy of %d MiB each way, medians\n\n",
		o.image, o.runs, guestExecs, guestCopySize>>20)
	t := newTable(w)
	fmt.Fprintf(t, "\tslipway\t%s\tratio\t\n", peer)
	row := func(name string, a, b []time.Duration, show func(time.Duration) string) {
		x, y := median(slices.Sorted(slices.Values(a))), median(slices.Sorted(slices.Values(b)))
		fmt.Fprintf(t, "%s\t%s\t%s\t%.2f\t\n", name, show(x), show(y), x.Seconds()/y.Seconds())
	}
	row("exec true", ours.execs, theirs.execs, func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) })
	rate := func(d time.Duration) string { return fmt.Sprintf("%.1f MB/s", guestCopySize/1e6/d.Seconds()) }
	row("copy in (ratio of times)", ours.ins, theirs.ins, rate)
	row("copy out (ratio of times)", ours.outs, theirs.outs, rate)
	t.Flush()
}
