//go:build guest

package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// trapping says which signals it gets, ends at the one that ends it, and
// otherwise never.
const trapping = `for s in INT TERM USR1; do trap "echo got $s" $s; done
	trap 'echo got QUIT; exit 3' QUIT; echo ready; while :; do sleep 0.05; done`

// Signals to the caller reach the entrypoint as its stop signal; whoever does not
// heed that is stopped hard, after a while or when asked again.
func TestSignals(t *testing.T) {
	tests := []struct {
		name   string
		stop   string // the image's stop signal
		flags  []string
		script string
		send   []syscall.Signal
		code   int
		says   string
		atMost time.Duration
	}{
		{
			name: "SIGINT is the default stop signal", script: `trap 'echo got TERM; exit 4' TERM; echo ready; while :; do sleep 0.05; done`,
			send: []syscall.Signal{syscall.SIGINT}, code: 4, says: "ready\ngot TERM\n",
		},
		{
			name: "SIGTERM is the image's stop signal", stop: "SIGQUIT", script: trapping,
			send: []syscall.Signal{syscall.SIGTERM}, code: 3, says: "ready\ngot QUIT\n",
		},
		{
			name: "--stop-signal instead of the image's", stop: "USR1", flags: []string{"--stop-signal", "QUIT"}, script: trapping,
			send: []syscall.Signal{syscall.SIGTERM}, code: 3, says: "ready\ngot QUIT\n",
		},
		{
			name: "hard end after the grace period", flags: []string{"--stop-timeout", "1s"}, script: trapping,
			send: []syscall.Signal{syscall.SIGINT}, code: 137, says: "ready\ngot TERM\n",
		},
		{
			name: "no grace", flags: []string{"--stop-timeout", "0s"}, script: trapping,
			send: []syscall.Signal{syscall.SIGINT}, code: 137, atMost: 20 * time.Second,
		},
		{
			name: "asked twice", stop: "USR1", flags: []string{"--stop-timeout", "10m"}, script: trapping,
			send: []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, code: 137, says: "ready\ngot USR1\n", atMost: 20 * time.Second,
		},
		{
			name: "time limit", flags: []string{"--timeout", "2s", "--stop-timeout", "1s"}, script: trapping,
			code: 137, says: "ready\ngot TERM\n", atMost: 20 * time.Second,
		},
		{
			name: "a signal of its own", script: `echo ready; kill -SEGV $$; sh -c 'kill -SEGV $$'; exit $?`,
			code: 139, says: "ready\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			ref := busybox
			if tt.stop != "" {
				ref = ociLayout(t, configured(t, func(c *v1.Config) { c.StopSignal = tt.stop }))
			}
			args := append([]string{"boot", "--rm"}, tt.flags...)
			c := s.start(append(args, ref, "sh", "-c", tt.script)...)
			c.expect("ready\n")
			begin := time.Now()
			for i, sig := range tt.send {
				if i > 0 {
					c.expect("got ") // the first one has arrived
				}
				c.signal(sig)
			}
			r := c.wait().exits(tt.code)
			if tt.says != "" {
				r.says(tt.says)
			}
			if took := time.Since(begin); tt.atMost > 0 && took > tt.atMost {
				t.Errorf("it took %s", took)
			}
			s.clean()
		})
	}
}

// Stopping a detached server is heard by all who watch it, and seen afterwards.
func TestStop(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("boot", "--detach", "--name", "deaf", busybox, "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done").ok()
	follow := s.start("server", "logs", "--follow", "deaf")
	follow.expect("ready\n")
	stop := s.start("server", "stop", "--timeout", "1s", "deaf")
	again := s.start("server", "stop", "--timeout", "1s", "deaf")
	stop.wait().ok()
	if r := again.wait(); r.code != 0 && !strings.Contains(r.stderr, "cannot stop server deaf") {
		t.Errorf("a second stop: %d %s", r.code, r.stderr)
	}
	follow.wait().ok().says("ready\n")
	s.run("server", "show", "deaf", "-f", "value", "-c", "status", "-c", "exit_code").ok().says("SHUTOFF\n137\n")
	s.run("server", "stop", "deaf").exits(1).complains("cannot stop server deaf while it is stopped")
	s.run("server", "start", "--attach", "deaf", "extra").exits(1)
	attached := s.start("server", "start", "--attach", "deaf")
	attached.expect("ready\n")
	s.run("server", "start", "deaf").exits(1).complains("cannot start server deaf while it is active")
	s.run("server", "delete", "deaf").ok()
	attached.wait().exits(codeSlipway).complains("deleted")
	s.clean()
}

// Statuses that tell why there is no entrypoint, docker's.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	s := newState(t)
	empty := t.TempDir()
	tests := []struct {
		name  string
		flags []string
		args  []string
		code  int
		why   []string
	}{
		{"missing", nil, []string{"/bin/nothing"}, 127, []string{"/bin/nothing"}},
		{"missing on the PATH", nil, []string{"nothing"}, 127, []string{"nothing"}},
		{"missing below a file", nil, []string{"/bin/sh/nothing"}, 127, []string{"/bin/sh/nothing"}},
		{"not executable", nil, []string{"/bin/not-executable"}, 126, []string{"/bin/not-executable"}},
		{"a directory", nil, []string{"/bin"}, 126, []string{"/bin"}},
		{"unknown user", []string{"--user", "nobodyknows"}, []string{"true"}, 125, []string{"nobodyknows"}},
		{"unknown group", []string{"--user", "app:nogroupknows"}, []string{"true"}, 125, []string{"nogroupknows"}},
		{"a loop of links", nil, []string{"/bin/loop"}, 126, []string{"/bin/loop"}},
		// These only the guest can find out.
		{"missing interpreter", nil, []string{"no-interpreter"}, 127, []string{"no-interpreter"}},
		{"not a program", nil, []string{"not-a-program"}, 126, []string{"not-a-program"}},
		{"missing beside a volume", []string{"--volume", empty + ":/srv"}, []string{"/srv/nothing"}, 127, []string{"/srv/nothing"}},
		{"user unknown beside a volume", []string{"--volume", empty + ":/srv", "--user", "nobodyknows"}, []string{"true"}, 125, []string{"nobodyknows"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := s.as(t)
			args := append(append([]string{"boot"}, tt.flags...), busybox)
			r := s.run(append(args, tt.args...)...).exits(tt.code).complains(tt.why...).says("")
			if lines := strings.Count(r.stderr, "\n"); lines != 1 {
				t.Errorf("stderr has %d lines: %s", lines, r.stderr)
			}
			s.run("server", "list", "-f", "value").ok().says("")
			s.clean()
		})
	}
}
