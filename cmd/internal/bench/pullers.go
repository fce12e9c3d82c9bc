package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A puller is one way to get an image from a registry to where it can be run.
type puller interface {
	// open makes everything ready for the first pull that is to end up in dir,
	// which is empty.
	open(ctx context.Context, o options, dir string) error
	pull(ctx context.Context, ref string) error
	// rest waits until what open and earlier pulls have begun is over.
	rest(ctx context.Context) error
	// close ends what open started, also where open failed.
	close(ctx context.Context) error
}

// A rememberer knows how much memory it took.
type rememberer interface {
	// forget makes peak begin anew, and gives what is resident now.
	forget(ctx context.Context) (int64, error)
	peak(ctx context.Context) (int64, error)
}

// subject is what is measured.
type subject struct {
	name  string
	floor bool
	needs []string // programs
	run   func(context.Context, *imageBench, *pullImage) (sample, error)
}

// unfit says why a subject is not measured, if it is not.
func (s subject) unfit() string {
	var missing []string
	for _, program := range s.needs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	if len(missing) > 0 {
		return "not installed: " + strings.Join(missing, ", ")
	}
	return ""
}

func pulls(p puller) func(context.Context, *imageBench, *pullImage) (sample, error) {
	return func(ctx context.Context, b *imageBench, img *pullImage) (sample, error) {
		return b.pullFresh(ctx, p, img)
	}
}

// allSubjects are the floors, Slipway and the others, in the order of the tables.
func allSubjects(ctx context.Context, o options) []subject {
	all := floors()
	return append(all,
		subject{name: "slipway image pull", run: pulls(&slipwayPuller{})},
		subject{name: "slipway image pull, with the engine's start", run: pulls(&slipwayPuller{cold: true})},
		subject{
			name: "containerd " + versionOf(ctx, "containerd") + ", overlayfs", needs: []string{"containerd", "ctr"},
			run: pulls(&containerdPuller{snapshotter: "overlayfs"}),
		},
		subject{
			name:  "containerd " + versionOf(ctx, program(o.containerd, "containerd")) + ", EROFS, igzip, four unpacks",
			needs: []string{program(o.containerd, "containerd"), program(o.containerd, "ctr"), program(o.containerd, "mkfs.erofs"), "igzip"},
			run:   pulls(&containerdPuller{dir: o.containerd, snapshotter: "erofs", config: fourUnpacks}),
		},
		subject{
			name: "podman " + versionOf(ctx, "podman") + ", overlay", needs: []string{"podman"},
			run: pulls(&podmanPuller{}),
		},
		subject{
			name:  "skopeo " + versionOf(ctx, "skopeo") + " + umoci " + versionOf(ctx, "umoci"),
			needs: []string{"skopeo", "umoci"}, run: pulls(&umociPuller{}),
		},
	)
}

// versionOf is the version that a program says it has; nothing where it is not
// installed.
func versionOf(ctx context.Context, program string) string {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return ""
	}
	return version(string(out))
}

// version finds the version in "NAME version VERSION" and "NAME URL VERSION", and
// drops what a distribution has added.
func version(said string) string {
	fields := strings.Fields(said)
	if len(fields) < 3 {
		return ""
	}
	v := fields[2]
	if i := strings.IndexAny(v, "+~"); i >= 0 {
		v = v[:i]
	}
	return v
}

// slipwayPuller pulls as a person does, through the command line.
type slipwayPuller struct {
	cold bool // no engine runs before
	s    *slipway
}

func (p *slipwayPuller) open(ctx context.Context, o options, dir string) error {
	o.state = filepath.Join(dir, "state")
	p.s = &slipway{options: o}
	if p.cold {
		return nil
	}
	return p.s.run(ctx, "image", "list")
}

func (p *slipwayPuller) rest(ctx context.Context) error {
	if p.cold {
		return p.close(ctx)
	}
	return p.settle(ctx)
}

// settle waits until the engine, which asks QEMU for its abilities when it has
// started, runs no other program for a while.
func (p *slipwayPuller) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for quiet := 0; quiet < 10; quiet++ {
		select {
		case <-ctx.Done():
			return fmt.Errorf("engine does not settle: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
		pid, err := p.s.enginePID(ctx)
		if err != nil {
			return err
		}
		running, err := p.s.processes()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(running, func(r process) bool { return r.pid != pid }) {
			quiet = 0
		}
	}
	return nil
}

func (p *slipwayPuller) pull(ctx context.Context, ref string) error {
	return p.s.run(ctx, "image", "pull", "--progress", "none", ref)
}

// close settles first, since an engine that ends while it asks QEMU leaves that
// behind.
func (p *slipwayPuller) close(ctx context.Context) error {
	return errors.Join(p.settle(ctx), p.s.stopEngine(ctx))
}

func (p *slipwayPuller) forget(ctx context.Context) (int64, error) {
	if p.cold {
		return 0, nil
	}
	pid, err := p.s.enginePID(ctx)
	if err != nil {
		return 0, err
	}
	// proc(5): 5 resets the peak to what is resident now.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	return status(pid, "VmRSS")
}

func (p *slipwayPuller) peak(ctx context.Context) (int64, error) {
	pid, err := p.s.enginePID(ctx)
	if err != nil {
		return 0, err
	}
	return status(pid, "VmHWM")
}

// status is a size of a process, in bytes.
func status(pid int, name string) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

// podmanPuller pulls into a store of its own.
type podmanPuller struct{ dir string }

func (p *podmanPuller) open(_ context.Context, _ options, dir string) error {
	p.dir = dir
	return acceptAll(dir)
}

func (p *podmanPuller) pull(ctx context.Context, ref string) error {
	cmd := exec.CommandContext(ctx, "podman", "--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"),
		"--tmpdir", filepath.Join(p.dir, "libpod"), "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
		"pull", "--quiet", "--tls-verify=false", "--signature-policy", filepath.Join(p.dir, "policy.json"), ref)
	// Layers are kept there while they are fetched.
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(p.dir, "tmp"))
	return finish(cmd)
}

func (p *podmanPuller) rest(context.Context) error { return nil }

func (p *podmanPuller) close(context.Context) error { return nil }

// umociPuller copies an image to an OCI layout and unpacks that to a tree.
type umociPuller struct {
	dir   string
	pulls int
}

func (p *umociPuller) open(_ context.Context, _ options, dir string) error {
	p.dir = dir
	return acceptAll(dir)
}

func (p *umociPuller) pull(ctx context.Context, ref string) error {
	p.pulls++
	at := fmt.Sprintf("%s:%d", filepath.Join(p.dir, "layout"), p.pulls)
	cmd := exec.CommandContext(ctx, "skopeo", "--policy", filepath.Join(p.dir, "policy.json"),
		"copy", "--quiet", "--src-tls-verify=false", "docker://"+ref, "oci:"+at)
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(p.dir, "tmp"))
	if err := finish(cmd); err != nil {
		return err
	}
	return runCommand(ctx, "umoci", "unpack", "--image", at, filepath.Join(p.dir, fmt.Sprintf("bundle%d", p.pulls)))
}

func (p *umociPuller) rest(context.Context) error { return nil }

func (p *umociPuller) close(context.Context) error { return nil }

// acceptAll writes the policy that those want who may verify signatures, and makes
// the directory for their temporary files.
func acceptAll(dir string) error {
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "policy.json"), []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o600),
		os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
}
