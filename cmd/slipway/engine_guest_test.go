//go:build guest

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// A detached server goes on when its engine is killed, more than once, and the
// next engine has all of its output and the end of it.
func TestServerOutlivesEngine(t *testing.T) {
	for _, root := range []string{"virtiofs", "9p"} {
		t.Run(root, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			s.run("boot", "--detach", "--root", root, "--name", "counter", busybox, "sh", "-c",
				`n=0; while [ ! -e /stop ]; do n=$((n+1)); echo $n; [ $((n%100)) = 0 ] && { echo $n >&2; sleep 0.1; };
				[ $n = 6000 ] && touch /stop; done; exit 42`).ok()
			for range 2 {
				time.Sleep(time.Second)
				s.killEngine()
				time.Sleep(500 * time.Millisecond) // it writes while nobody listens
				s.run("server", "list", "-f", "value", "-c", "Name").ok().says("counter\n")
			}
			r := s.run("server", "logs", "--follow", "counter").ok()
			counted(t, "stdout", r.stdout, 1, 6000)
			counted(t, "stderr", r.stderr, 100, 60)
			eventually(t, 30*time.Second, func() error {
				r := s.run("server", "show", "counter", "-f", "value", "-c", "status", "-c", "exit_code")
				if r.stdout != "SHUTOFF\n42\n" {
					return fmt.Errorf("status and exit code are %q", r.stdout)
				}
				return nil
			})
			s.run("server", "delete", "counter").ok()
			s.clean()
		})
	}
}

// counted fails the test unless lines are the multiples of step up to the nth.
func counted(t *testing.T, what, lines string, step, n int) {
	t.Helper()
	next := step
	for line := range strings.Lines(lines) {
		if strings.TrimSpace(line) != strconv.Itoa(next) {
			t.Errorf("%s goes on with %q, want %d", what, line, next)
			return
		}
		next += step
	}
	if last := n * step; next != last+step {
		t.Errorf("%s ends before %d, want %d", what, next, last)
	}
}

// A server whose end no engine saw is found ended by the next one.
func TestEndWithoutEngine(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("boot", "--detach", "--name", "brief", busybox, "sh", "-c", "echo one; sleep 1; echo two; exit 9").ok()
	s.killEngine()
	time.Sleep(2 * time.Second)
	s.run("server", "logs", "--follow", "brief").ok().says("one\ntwo\n")
	// Its guest is gone, with no word to anyone.
	s.run("boot", "--detach", "--name", "lost", busybox, "sh", "-c", "echo on; exec sleep 1000").ok()
	s.start("server", "logs", "--follow", "lost").expect("on\n")
	s.killEngine()
	for pid, args := range traces.Processes() {
		if strings.HasPrefix(filepath.Base(args[0]), "qemu") && strings.Contains(strings.Join(args, " "), s.dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	r := s.run("server", "list", "-f", "value", "-c", "Name", "-c", "Status", "-c", "Exit Code").ok()
	if want := "brief SHUTOFF 9\nlost SHUTOFF 125\n"; r.stdout != want {
		t.Errorf("servers %q, want %q", r.stdout, want)
	}
	s.run("server", "logs", "lost").ok().says("on\n")
	s.deleteAll()
	s.clean()
}

// A guest that dies is no reason for its engine to do so, and is said to have.
func TestGuestDies(t *testing.T) {
	t.Parallel()
	s := newState(t)
	c := s.start("boot", busybox, "sh", "-c", "echo on; exec sleep 1000")
	c.expect("on\n")
	for pid, args := range traces.Processes() {
		if strings.HasPrefix(filepath.Base(args[0]), "qemu") && strings.Contains(strings.Join(args, " "), s.dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	c.wait().exits(codeSlipway).complains("the guest ended unexpectedly: QEMU crashed or was killed")
	s.run("server", "list", "-f", "value", "-c", "Status", "-c", "Exit Code").ok().says("SHUTOFF 125\n")
	s.deleteAll()
	s.clean()
}

// A guest without its file system daemon would wait for its files forever.
func TestVirtiofsdDies(t *testing.T) {
	t.Parallel()
	s := newState(t)
	c := s.start("boot", "--root", "virtiofs", busybox, "sh", "-c", "echo on; exec sleep 1000")
	c.expect("on\n")
	killed := 0
	for pid, args := range traces.Processes() {
		if filepath.Base(args[0]) == "virtiofsd" && strings.Contains(strings.Join(args, " "), s.dir) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killed++
		}
	}
	if killed == 0 {
		t.Error("there is no virtiofsd")
	}
	c.wait().exits(codeSlipway).complains("virtiofsd")
	s.run("server", "list", "-f", "value", "-c", "Status", "-c", "Exit Code").ok().says("SHUTOFF 125\n")
	s.deleteAll()
	s.clean()
}

// Any number of calls at once start one engine from nothing, and it serves all.
func TestManyCalls(t *testing.T) {
	t.Parallel()
	s := newState(t)
	together := func(n int, args ...string) []*result {
		results := make([]*result, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { results[i] = s.run(args...) })
		}
		wg.Wait()
		return results
	}
	for range 3 {
		for _, r := range together(8, "server", "list", "-f", "value") {
			r.ok().says("")
		}
		if pids := engines(s.dir); len(pids) != 1 {
			t.Errorf("engines %v, want one", pids)
		}
		s.killEngine()
	}
	for _, r := range together(3, "boot", "--rm", busybox, "echo", "one of three") {
		r.ok().says("one of three\n")
	}
	if pids := engines(s.dir); len(pids) != 1 {
		t.Errorf("engines %v, want one", pids)
	}
	s.clean()
}

// An engine with nothing to do ends, one with a server does not, and the next call
// starts another. It keeps nothing of its caller's open.
func TestIdleEngine(t *testing.T) {
	t.Parallel()
	s := newState(t, "SLIPWAY_ENGINE_IDLE_TIMEOUT=1s")
	gone := func() {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			if pids := engines(s.dir); len(pids) > 0 {
				return fmt.Errorf("engine %v is still there", pids)
			}
			return nil
		})
	}
	s.run("boot", "--detach", "--name", "busy", busybox, "sh", "-c", "exec sleep 1000").ok()
	first := engines(s.dir)
	time.Sleep(4 * time.Second)
	if now := engines(s.dir); len(first) != 1 || len(now) != 1 || now[0] != first[0] {
		t.Errorf("engines %v have become %v while a server runs", first, now)
	}
	s.run("server", "delete", "busy").ok()
	gone()
	s.run("server", "list", "-f", "value").ok().says("")
	gone()
	for range 3 { // as it is about to go
		s.run("server", "list", "-f", "value").ok().says("")
		time.Sleep(900 * time.Millisecond)
	}
}

// The engine does not hold on to what its caller had open, such as a lock.
func TestEngineKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	s := newState(t)
	held, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	s.files = []*os.File{held}
	s.run("server", "list").ok()
	for _, pid := range engines(s.dir) {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if target, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name())); target == held.Name() {
				t.Errorf("the engine has its caller's file open as %s", e.Name())
			}
		}
	}
}

// Two state directories know nothing of each other.
func TestTwoStateDirectories(t *testing.T) {
	t.Parallel()
	a, b := newState(t), newState(t)
	a.run("boot", "--detach", "--name", "same", busybox, "sh", "-c", "echo a; exec sleep 1000").ok()
	b.run("server", "list", "-f", "value").ok().says("")
	b.run("image", "list", "-f", "value").ok().says("")
	b.run("boot", "--rm", "--name", "same", busybox, "echo", "b").ok().says("b\n")
	b.run("server", "delete", "same").exits(1).complains("same")
	b.run("image", "delete", busybox).ok()
	b.killEngine()
	b.clean()
	a.run("server", "logs", "same").ok().says("a\n")
	a.run("server", "show", "same", "-f", "value", "-c", "status").ok().says("ACTIVE\n")
}

// A server goes on when its caller is killed, and ends as it was asked to.
func TestServerOutlivesCaller(t *testing.T) {
	t.Parallel()
	s := newState(t)
	c := s.start("boot", "--rm", "--name", "kept", busybox, "sh", "-c", "echo one; sleep 3; echo two")
	c.expect("one\n")
	c.signal(syscall.SIGKILL)
	c.wait()
	s.run("server", "show", "kept", "-f", "value", "-c", "status").ok().says("ACTIVE\n")
	s.run("server", "logs", "--follow", "kept").ok().says("one\ntwo\n")
	eventually(t, 20*time.Second, func() error {
		if r := s.run("server", "list", "-f", "value"); r.stdout != "" {
			return fmt.Errorf("it was to be removed: %s", r.stdout)
		}
		return nil
	})
	s.clean()
}
