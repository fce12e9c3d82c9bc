//go:build guest

package main

import (
	"fmt"
	"testing"
	"time"
)

// A reboot ends the entrypoint by its stop signal or, hard, by nothing, and keeps the
// disk. One that has stopped starts.
func TestReboot(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("boot", "-d", "--name", "again", "--stop-timeout", "1m", busybox, "sh", "-c",
		`trap 'echo asked; exit 3' TERM; echo x >>/lives; echo life $(wc -l </lives); while :; do sleep 0.1; done`).ok()
	says := func(want string) {
		t.Helper()
		eventually(t, deadline, func() error {
			if got := s.run("server", "logs", "again").ok().stdout; got != want {
				return fmt.Errorf("logs %q, want %q", got, want)
			}
			return nil
		})
	}
	says("life 1\n")
	s.run("server", "reboot", "again").ok()
	says("life 1\nasked\nlife 2\n")
	s.run("server", "reboot", "--hard", "again").ok()
	says("life 1\nasked\nlife 2\nlife 3\n")
	s.run("server", "stop", "again").ok()
	s.run("server", "restart", "again").ok()
	says("life 1\nasked\nlife 2\nlife 3\nasked\nlife 4\n")
	s.awaitFact("again", "status", "ACTIVE")
	s.run("server", "reboot", "--hard", "--soft", "again").exits(1)
	s.run("server", "reboot", "nothing").exits(1).complains("nothing")
}

// What is paused does nothing, and goes on.
func TestPause(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("boot", "-d", "--name", "still", busybox, "sh", "-c", `while :; do echo tick; sleep 0.1; done`).ok()
	s.run("server", "pause", "still").ok()
	s.awaitFact("still", "status", "PAUSED")
	before := s.run("server", "logs", "still").ok().stdout
	time.Sleep(time.Second)
	if after := s.run("server", "logs", "still").ok().stdout; after != before {
		t.Errorf("it goes on while it is paused:\n%s", after[len(before):])
	}
	s.run("server", "pause", "still").exits(1).complains("still", "paused")
	s.run("server", "unpause", "still").ok()
	s.awaitFact("still", "status", "ACTIVE")
	s.start("server", "logs", "--follow", "--tail", "0", "still").expect("tick\n")

	s.run("server", "set", "--name", "moves", "still").ok()
	s.run("server", "set", "--name", "no name", "moves").exits(1).complains("no name", "letters")
	s.run("server", "set", "moves").exits(1).complains("--name", "--root")
	s.run("server", "exec", "moves", "hostname").ok().says("still\n")
	s.run("server", "rm", "moves").ok()
}
