//go:build guest

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/slipway-vm/slipway/launcher/events"
)

// typed is a call of slipway in a terminal.
type typed struct {
	*command
	terminal *os.File
}

// startTyped calls slipway in a terminal of 33 rows and 77 columns.
func (s *state) startTyped(args ...string) *typed {
	s.t.Helper()
	c := &command{t: s.t, args: args, ended: make(chan struct{}), began: time.Now()}
	c.cmd = exec.Command(filepath.Join(bin, "slipway"), args...)
	c.cmd.Env = s.env
	master, err := pty.StartWithSize(c.cmd, &pty.Winsize{Rows: 33, Cols: 77})
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(&c.stdout, master)
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	limit := time.AfterFunc(deadline, func() { _ = c.cmd.Process.Kill() })
	s.t.Cleanup(func() {
		limit.Stop()
		_ = c.cmd.Process.Kill()
		<-c.ended
		_ = master.Close()
	})
	return &typed{c, master}
}

func (c *typed) types(keys string) {
	c.t.Helper()
	if _, err := c.terminal.WriteString(keys); err != nil {
		c.t.Error(err)
	}
}

const detachKeys = "\x10\x11" // ctrl-p, ctrl-q

// A terminal is left by its detach keys and joined again, by whoever comes; what
// runs in it goes on.
func TestDetachAndAttach(t *testing.T) {
	s := newState(t)
	b := s.startTyped("boot", "-it", "--name", "tty", "--stop-timeout", "1s", busybox, "sh")
	b.types("stty size; echo $((6*7))\n")
	b.expect("33 77")
	b.expect("42")
	b.types(detachKeys)
	b.wait().exits(0)
	b.await(&b.stdout, "detached")

	a := s.startTyped("server", "attach", "tty")
	a.types("echo $((7*9))\n")
	a.expect("63")
	if strings.Contains(a.stdout.String(), "42") {
		t.Error("attach shows what was written before")
	}
	if err := pty.Setsize(a.terminal, &pty.Winsize{Rows: 20, Cols: 50}); err != nil {
		t.Fatal(err)
	}
	eventually(t, deadline, func() error {
		a.types("stty size\n")
		time.Sleep(200 * time.Millisecond)
		if !strings.Contains(a.stdout.String(), "20 50") {
			return fmt.Errorf("terminal: %q", tail(a.stdout.String()))
		}
		return nil
	})

	// A command that was detached runs on by itself.
	e := s.startTyped("server", "exec", "-it", "--detach-keys", "ctrl-a,x", "tty", "sh", "-c", "echo up; read x; sleep 2; echo done > /tmp/done")
	e.expect("up")
	e.types("\n\x01x")
	e.wait().exits(0)
	s.run("server", "exec", "-d", "tty", "sh", "-c", "sleep 2; echo done > /tmp/by-itself").ok().says("")
	eventually(t, deadline, func() error {
		if r := s.run("server", "exec", "tty", "cat", "/tmp/done", "/tmp/by-itself"); r.stdout != "done\ndone\n" {
			return fmt.Errorf("%q, %q", r.stdout, r.stderr)
		}
		return nil
	})

	a.types("exit 5\n")
	a.wait().exits(5)
	s.run("server", "attach", "tty").exits(1).complains("does not run", "start it first")
	s.run("boot", "--detach-keys", "ctrl-", "-it", busybox).exits(codeSlipway).complains("ctrl-LETTER")

	var seen []string
	list := s.run("server", "events", "--since", "1h", "--until", "0s", "--filter", "server=tty", "-f", "json").ok().stdout
	for line := range strings.Lines(list) {
		var e events.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Name != "tty" || e.Time.IsZero() || len(e.Server) != 36 {
			t.Errorf("event %+v", e)
		}
		seen = append(seen, string(e.Action))
	}
	for _, sequence := range [][]string{
		{"create", "start", "detach", "attach", "resize", "die"},
		{"create", "attach", "detach"}, // maybe before it starts, as with docker
		{"start", "exec_create", "exec_start", "exec_detach", "exec_create", "exec_die"},
	} {
		rest := seen
		for _, action := range sequence {
			for len(rest) > 0 && rest[0] != action {
				rest = rest[1:]
			}
			if len(rest) == 0 {
				t.Errorf("no %s of %v in %v", action, sequence, seen)
				break
			}
		}
	}
}

// Events are told as they happen, and remembered through the engine's end.
func TestEvents(t *testing.T) {
	s := newState(t)
	live := s.start("server", "events", "--filter", "event=die", "--filter", "event=stop", "--filter", "event=kill", "--filter", "event=destroy")
	eventually(t, deadline, func() error { _, err := os.Stat(filepath.Join(s.dir, "engine.sock")); return err })
	time.Sleep(time.Second) // it has asked by then, or else the test fails
	s.run("boot", "-d", "--name", "one", "--stop-timeout", "1s", busybox, "sh", "-c", "trap 'exit 7' USR1; while :; do echo tick; sleep 0.1; done").ok()
	n := s.start("server", "attach", "--no-stdin", "one")
	n.expect("tick") // it takes signals now
	n.signal(syscall.SIGUSR1)
	n.wait().exits(7)
	live.expect("exitCode=7")
	s.run("server", "start", "one").ok()
	s.run("server", "stop", "one").ok()
	live.expect("exitCode=137")
	s.run("server", "delete", "one").ok()
	live.expect(" destroy ")
	live.signal(syscall.SIGKILL)
	live.wait()
	if err := endEngine(s.dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := s.run("server", "events", "--since", "2020-01-01", "--until", "0s").ok()
	var actions []string
	for line := range strings.Lines(r.stdout) {
		if f := strings.Fields(line); len(f) > 3 {
			actions = append(actions, f[2])
		}
	}
	if got := strings.Join(actions, " "); got != "create start kill die start kill kill die stop destroy" {
		t.Errorf("events: %s\n%s", got, r.stdout)
	}
	var signals []string
	for _, match := range regexp.MustCompile(`\ssignal=(\d+)\)`).FindAllStringSubmatch(r.stdout, -1) {
		signals = append(signals, match[1])
	}
	// The attached's, the stop's, the one at its grace period's end, and what it died of.
	if got := strings.Join(signals, " "); got != "10 15 9 9" {
		t.Errorf("signals: %s\n%s", got, r.stdout)
	}
	s.run("server", "events", "--filter", "colour=red").exits(1).complains("colour=red", "server=NAME")
}
