//go:build guest

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// These tests use the built programs as a user does, with real guests. Each has a
// state directory of its own, so that it can count what is left in the end.

// What TestMain prepares for all tests.
var (
	bin      string // directory of the programs
	imageDir string // directory of the test images
	busybox  string // the reference of the image that most tests boot
	scratch  string // short: state directories lie in it
	prepared string // a state directory to begin with: kernel, capabilities

	testKernel string // the name of the kernel in it
)

// deadline is for one command on a busy machine. No test relies on reaching it.
const deadline = 3 * time.Minute

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "cmd/slipway:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (_ int, err error) {
	bin, imageDir = os.Getenv("SLIPWAY_TEST_BIN"), os.Getenv("SLIPWAY_TEST_IMAGES")
	// On a call of go test by hand, Debian's kernel will do.
	kernel := cmp.Or(os.Getenv("SLIPWAY_TEST_KERNEL"), os.Getenv("SLIPWAY_TEST_KERNEL_DEB"))
	for _, f := range []struct{ variable, path string }{
		{"SLIPWAY_TEST_BIN", filepath.Join(bin, "slipway")},
		{"SLIPWAY_TEST_BIN", filepath.Join(bin, "slipwayd")},
		{"SLIPWAY_TEST_BIN", filepath.Join(bin, "slipway-init")},
		{"SLIPWAY_TEST_KERNEL", kernel},
		{"SLIPWAY_TEST_IMAGES", filepath.Join(imageDir, "busybox", "index.json")},
	} {
		if _, err := os.Stat(f.path); err != nil {
			return 0, fmt.Errorf("%s, %w: run these tests with `make test`", f.variable, err)
		}
	}
	busybox = "oci:" + filepath.Join(imageDir, "busybox")
	if scratch, err = os.MkdirTemp("/tmp", "slw"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	prepared = filepath.Join(scratch, "p")
	// The doctor finds out what would cost the first boot of each test seconds.
	for _, args := range [][]string{{"kernel", "import", kernel}, {"host", "doctor"}} {
		cmd := exec.Command(filepath.Join(bin, "slipway"), args...)
		cmd.Env = environ(prepared)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%s: %w\n%s", cmd, err, out)
		} else if args[0] == "kernel" {
			testKernel, _, _ = strings.Cut(string(out), " ")
		}
	}
	if err := endEngine(prepared, syscall.SIGTERM); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// environ is the environment of programs under test: nothing of the user's own
// settings, and no guests but those that tests have asked for.
func environ(stateDir string, more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "SLIPWAY_") && !strings.HasPrefix(e, "DOCKER_") {
			env = append(env, e)
		}
	}
	return append(append(env, "HOME="+scratch, "SLIPWAY_STATE_DIR="+stateDir, "SLIPWAY_BOOT_STANDBY=0"), more...)
}

// state is a state directory and how to call slipway on it.
type state struct {
	t   *testing.T
	dir string
	env []string
	// files are what calls have open besides the standard ones, from 3.
	files []*os.File
	// under is a command that runs slipway, where one is to.
	under []string
	// program is the slipway that is called, where it is not that of bin.
	program string
	// standby says that guests stand by until the engine ends.
	standby bool
	// patience is for calls that take longer than deadline.
	patience time.Duration
}

// as is the state for another test, a part of this one's.
func (s *state) as(t *testing.T) *state {
	c := *s
	c.t = t
	return &c
}

var numbered struct {
	sync.Mutex
	n int
}

// newState makes a state directory with a kernel and no engine. When the test has
// ended there must be nothing of its servers once they are deleted.
func newState(t *testing.T, env ...string) *state {
	t.Helper()
	s := &state{t: t, dir: newDir(t)}
	s.env = environ(s.dir, env...)
	for _, sub := range []string{"kernels", "libvirt/cache"} {
		link(t, filepath.Join(prepared, sub), filepath.Join(s.dir, sub))
	}
	link(t, filepath.Join(prepared, "host.json"), filepath.Join(s.dir, "host.json"))
	t.Cleanup(s.end)
	return s
}

// newDir makes a directory with a short path.
func newDir(t *testing.T) string {
	t.Helper()
	numbered.Lock()
	defer numbered.Unlock()
	numbered.n++
	dir := filepath.Join(scratch, fmt.Sprint(numbered.n))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// link copies a file or tree by hard links: what is in it is replaced, never
// written.
func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-al", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// end deletes what servers the test has left, ends the engine, and counts.
func (s *state) end() {
	log, _ := os.ReadFile(filepath.Join(s.dir, "engine.log"))
	if bytes.Contains(log, []byte("level=ERROR")) {
		s.t.Error("the engine has logged what must not happen")
	}
	if s.t.Failed() {
		s.t.Logf("engine.log:\n%s", log[max(0, len(log)-8<<10):])
		consoles, _ := filepath.Glob(filepath.Join(s.dir, "servers/*/console.log"))
		for _, name := range consoles {
			b, _ := os.ReadFile(name)
			s.t.Logf("%s:\n%s", name, tail(string(b)))
		}
	}
	s.deleteAll()
	if !s.standby {
		s.clean()
	}
	if err := endEngine(s.dir, syscall.SIGTERM); err != nil {
		s.t.Error(err)
	}
	s.clean()
	if err := os.RemoveAll(s.dir); err != nil {
		s.t.Error(err)
	}
}

// deleteAll deletes all servers.
func (s *state) deleteAll() {
	s.t.Helper()
	if ids := strings.Fields(s.run("server", "list", "-f", "value", "-c", "ID").ok().stdout); len(ids) > 0 {
		s.run(append([]string{"server", "delete"}, ids...)...).ok()
	}
}

// result is how a call of slipway ended.
type result struct {
	t              *testing.T
	args           []string
	stdout, stderr string
	code           int
	took           time.Duration
}

// run calls slipway and waits for its end.
func (s *state) run(args ...string) *result {
	s.t.Helper()
	return s.start(args...).wait()
}

// exits fails the test unless the exit status is code.
func (r *result) exits(code int) *result {
	r.t.Helper()
	if r.code != code {
		r.t.Errorf("slipway %q: exit status %d, want %d; stdout:\n%s\nstderr:\n%s", r.args, r.code, code, tail(r.stdout), tail(r.stderr))
	}
	return r
}

func (r *result) ok() *result {
	r.t.Helper()
	return r.exits(0)
}

// says fails the test unless standard output is want.
func (r *result) says(want string) *result {
	r.t.Helper()
	if r.stdout != want {
		r.t.Errorf("slipway %q: stdout %q, want %q; stderr:\n%s", r.args, tail(r.stdout), tail(want), tail(r.stderr))
	}
	return r
}

// complains fails the test unless standard error contains all of want.
func (r *result) complains(want ...string) *result {
	r.t.Helper()
	for _, w := range want {
		if !strings.Contains(r.stderr, w) {
			r.t.Errorf("slipway %q: no %q on stderr:\n%s", r.args, w, tail(r.stderr))
		}
	}
	return r
}

func tail(s string) string {
	const limit = 2000
	if len(s) > limit {
		return "..." + s[len(s)-limit:]
	}
	return s
}

// command is a call of slipway that goes on.
type command struct {
	t              *testing.T
	args           []string
	cmd            *exec.Cmd
	stdout, stderr buffer
	began          time.Time
	ended          chan struct{}
	err            error
}

// start calls slipway. The call is ended with the test at the latest.
func (s *state) start(args ...string) *command {
	s.t.Helper()
	return s.startWith(nil, args...)
}

// startWith calls slipway with an input.
func (s *state) startWith(stdin io.Reader, args ...string) *command {
	s.t.Helper()
	c := &command{t: s.t, args: args, ended: make(chan struct{}), began: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(s.patience, deadline))
	line := slices.Concat(s.under, []string{cmp.Or(s.program, filepath.Join(bin, "slipway"))}, args)
	c.cmd = exec.CommandContext(ctx, line[0], line[1:]...)
	c.cmd.Env, c.cmd.ExtraFiles = s.env, s.files
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = stdin, &c.stdout, &c.stderr
	if err := c.cmd.Start(); err != nil {
		cancel()
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cancel(); <-c.ended })
	go func() {
		defer close(c.ended)
		if c.err = c.cmd.Wait(); ctx.Err() == context.DeadlineExceeded {
			c.err = fmt.Errorf("not ended after %s", cmp.Or(s.patience, deadline))
		}
	}()
	return c
}

func (c *command) wait() *result {
	c.t.Helper()
	<-c.ended
	r := &result{
		t: c.t, args: c.args, stdout: c.stdout.String(), stderr: c.stderr.String(),
		code: c.cmd.ProcessState.ExitCode(), took: time.Since(c.began),
	}
	var exit *exec.ExitError
	if c.err != nil && !errors.As(c.err, &exit) {
		c.t.Errorf("slipway %q: %v; stdout:\n%s\nstderr:\n%s", c.args, c.err, tail(r.stdout), tail(r.stderr))
	}
	return r
}

// lacks is an error unless all of want is in out.
func lacks(out string, want ...string) error {
	for _, w := range want {
		if !strings.Contains(out, w) {
			return fmt.Errorf("no %q in:\n%s", w, out)
		}
	}
	return nil
}

// signal sends the call a signal.
func (c *command) signal(sig syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Errorf("slipway %q: %v", c.args, err)
	}
}

// expect waits until the call has written want to standard output.
func (c *command) expect(want string) {
	c.t.Helper()
	c.await(&c.stdout, want)
}

// expectProgress waits until the call has written want to standard error.
func (c *command) expectProgress(want string) {
	c.t.Helper()
	c.await(&c.stderr, want)
}

func (c *command) await(b *buffer, want string) {
	c.t.Helper()
	for !strings.Contains(b.String(), want) {
		select {
		case <-c.ended:
			if !strings.Contains(b.String(), want) {
				c.t.Fatalf("slipway %q ended (%v) without saying %q; stdout:\n%s\nstderr:\n%s",
					c.args, c.err, want, tail(c.stdout.String()), tail(c.stderr.String()))
			}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

var _ io.Writer = (*buffer)(nil)

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits for what happens by itself, for at most limit.
func eventually(t *testing.T, limit time.Duration, check func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Errorf("after %s: %v", limit, err)
			return
		}
	}
}
