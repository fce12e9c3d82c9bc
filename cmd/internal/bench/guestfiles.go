package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/rootfs"
)

// The file-system benchmark does the same work, with the same busybox, in a guest
// of each root mode and on an overlay of the host's own, and boots a guest of each
// beside the floor. The work is timed from the host, the call that begins it
// included; a call that does nothing stands beside it.

// fileWork is what is done in a directory that holds tree.tar, in this order.
var fileWork = []struct{ name, script string }{
	{"nothing", "true"},
	{"untar 1000 files of 4 KiB", "rm -rf tree && mkdir tree && tar -C tree -xf tree.tar && sync"},
	{"read them, out of no cache of the guest's", "find tree -type f -exec cat {} + >/dev/null"},
	{"read them again", "find tree -type f -exec cat {} + >/dev/null"},
	{"write 64 MiB to the disk", "dd if=/dev/zero of=big bs=1M count=64 conv=fsync 2>/dev/null"},
}

// dropCaches is done before the guest reads, in guests alone: the host's cache is
// everybody's.
const dropCaches = "sync; echo 3 >/proc/sys/vm/drop_caches"

// treeArchive is the archive that the work begins with.
func treeArchive(name string) error {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	body := bytes.Repeat([]byte("0123456789abcde\n"), 256)
	for i := range 1000 {
		h := &tar.Header{Name: fmt.Sprintf("%d/%d", i/50, i), Mode: 0o644, Size: int64(len(body))}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o600)
}

// place is somewhere that the work is done.
type place struct {
	name string
	// call makes a command of a shell's.
	call func(ctx context.Context, script string) *exec.Cmd
	// drop empties the place's own cache.
	drop bool
	took [][]time.Duration // by work
}

func (p *place) work(ctx context.Context) error {
	for i, w := range fileWork {
		if i == 2 && p.drop {
			if err := finish(p.call(ctx, dropCaches)); err != nil {
				return err
			}
		}
		begin := time.Now()
		if err := finish(p.call(ctx, w.script)); err != nil {
			return fmt.Errorf("%s, %s: %w", p.name, w.name, err)
		}
		p.took[i] = append(p.took[i], time.Since(begin))
	}
	return nil
}

func runFileSystems(ctx context.Context, o options) (err error) {
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	s := &slipway{options: o}
	defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx))) }()
	progress("importing the kernel and the image; the first boot")
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if err := s.bootEachMode(ctx); err != nil {
		return err
	}
	archive := filepath.Join(o.state, "tree.tar")
	if err := treeArchive(archive); err != nil {
		return err
	}
	host, err := newHostOverlay(ctx, o.state, archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeBelow(host.dir)) }()
	places := []*place{host.place()}
	for _, mode := range rootfs.Modes {
		server, err := s.bootFor(ctx, mode.Name, archive)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.run(context.WithoutCancel(ctx), "server", "delete", mode.Name)) }()
		places = append(places, server)
	}
	for i := range o.runs {
		for _, sub := range places {
			progress(fmt.Sprintf("run %d of %d: files on %s", i+1, o.runs, sub.name))
			if err := sub.work(ctx); err != nil {
				return err
			}
		}
	}
	reportFiles(os.Stdout, o, places)
	return nil
}

// bootEachMode measures boots of each root mode beside the floor.
func (s *slipway) bootEachMode(ctx context.Context) error {
	_, fl, err := s.measureMemory(ctx)
	if err != nil {
		return err
	}
	var bare []times
	boots := make([][]times, len(rootfs.Modes))
	for i := range s.runs {
		progress(fmt.Sprintf("run %d of %d: bare QEMU, a boot of each root mode", i+1, s.runs))
		t, err := fl.run(ctx)
		if err != nil {
			return err
		}
		bare = append(bare, t)
		for j, mode := range rootfs.Modes {
			one := *s
			one.root = mode.Name
			if t, err = one.boot(ctx); err != nil {
				return err
			}
			boots[j] = append(boots[j], t)
		}
	}
	first := func(t times) time.Duration { return t.first }
	t := newTable(os.Stdout)
	fmt.Fprintln(t, "until the first byte of output\tmedian\tmin\tmax\tratio\t")
	row(t, "bare QEMU, init's line", bare, bare, first)
	for j, mode := range rootfs.Modes {
		row(t, "slipway boot --root "+mode.Name, boots[j], bare, first)
	}
	fmt.Fprintln(t, "\t\t\t\t\t")
	return t.Flush()
}

// bootFor boots a server to work in.
func (s *slipway) bootFor(ctx context.Context, mode, archive string) (*place, error) {
	o := *s
	o.root = mode
	if err := o.run(ctx, o.bootArgs([]string{"--detach", "--name", mode}, "sleep", "100000")...); err != nil {
		return nil, err
	}
	if err := s.run(ctx, "server", "exec", mode, "mkdir", "/bench"); err != nil {
		return nil, err
	}
	if err := s.run(ctx, "server", "cp", archive, mode+":/bench/tree.tar"); err != nil {
		return nil, err
	}
	return &place{
		name: mode, drop: true, took: make([][]time.Duration, len(fileWork)),
		call: func(ctx context.Context, script string) *exec.Cmd {
			return s.command(ctx, "server", "exec", mode, "sh", "-c", "cd /bench && "+script)
		},
	}, nil
}

// hostOverlay is the host's own overlayfs, of directories on a new ext4.
type hostOverlay struct{ dir, root string }

func newHostOverlay(ctx context.Context, below, archive string) (_ *hostOverlay, err error) {
	h := &hostOverlay{dir: filepath.Join(below, "overlay")}
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		return nil, err
	}
	fs, err := newFileSystem(ctx, h.dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeBelow(h.dir))
		}
	}()
	h.root = filepath.Join(h.dir, "root")
	for _, d := range []string{h.root, filepath.Join(fs.dir, "lower"), filepath.Join(fs.dir, "upper"), filepath.Join(fs.dir, "work")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", fs.dir)
	if err := runCommand(ctx, "mount", "-t", "overlay", "-o", options, "bench", h.root); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(archive)
	if err != nil {
		return nil, err
	}
	return h, os.WriteFile(filepath.Join(h.root, "tree.tar"), b, 0o600)
}

func (h *hostOverlay) place() *place {
	return &place{
		name: "the host's overlayfs", took: make([][]time.Duration, len(fileWork)),
		call: func(ctx context.Context, script string) *exec.Cmd {
			// Not the whole machine's file systems.
			script = "sync() { busybox sync -f .; }; " + script
			cmd := exec.CommandContext(ctx, "busybox", "sh", "-c", script)
			cmd.Dir = h.root
			return cmd
		},
	}
}

func reportFiles(w io.Writer, o options, places []*place) {
	fmt.Fprintf(w, "Files, %d runs, medians; in brackets over the host's\n\n", o.runs)
	t := newTable(w)
	for _, s := range places {
		fmt.Fprintf(t, "\t%s", s.name)
	}
	fmt.Fprintln(t, "\t")
	for i, work := range fileWork {
		fmt.Fprint(t, work.name)
		floor := median(slices.Sorted(slices.Values(places[0].took[i])))
		for _, s := range places {
			took := median(slices.Sorted(slices.Values(s.took[i])))
			fmt.Fprintf(t, "\t%.3f s (%.1f)", took.Seconds(), took.Seconds()/floor.Seconds())
		}
		fmt.Fprintln(t, "\t")
	}
	t.Flush()
}
