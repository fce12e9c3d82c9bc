//go:build guest

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/client"
)

// held is what a server's guest and the engine hold.
type held struct {
	processes, available uint64 // in the guest: processes, bytes of memory
	files, threads       int    // of the engine
}

func (s *state) held(ctx context.Context, c *client.Client, pid int) held {
	s.t.Helper()
	stats, err := c.Stats(ctx, "load")
	if err != nil {
		s.t.Fatal(err)
	}
	files, err1 := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	threads, err2 := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err := errors.Join(err1, err2); err != nil {
		s.t.Fatal(err)
	}
	return held{stats.Processes, stats.MemoryAvailable, len(files), len(threads)}
}

// A thousand commands one after another, and fifty at once, leave nothing in the
// guest or in the engine.
func TestExecLoad(t *testing.T) {
	s := newState(t)
	s.run("boot", "-d", "--name", "load", "--stop-timeout", "1s", busybox, "sleep", "100000").ok()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c := client.New(filepath.Join(s.dir, "engine.sock"))
	info, err := c.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	call := func(i int) error {
		var out, errs bytes.Buffer
		exit, err := c.Exec(ctx, "load", agent.ExecRequest{Args: []string{"sh", "-c", `read x; echo "$x"; echo "$x" >&2; exit 3`}},
			agent.ExecIO{Stdin: strings.NewReader(fmt.Sprintln("call", i)), Stdout: &out, Stderr: &errs})
		if want := fmt.Sprintln("call", i); err != nil || exit.Code != 3 || out.String() != want || errs.String() != want {
			return fmt.Errorf("call %d: %+v, %w; %q, %q", i, exit, err, out.String(), errs.String())
		}
		return nil
	}
	atOnce := func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				if err := call(i); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	atOnce(50) // what is kept for good is there after that
	before := s.held(ctx, c, info.PID)
	begin := time.Now()
	for i := range 1000 {
		if err := call(i); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("1000 calls one after another took %s", time.Since(begin))
	atOnce(50)
	eventually(t, deadline, func() error {
		after := s.held(ctx, c, info.PID)
		switch {
		case after.processes > before.processes:
			return fmt.Errorf("%d processes in the guest, %d before", after.processes, before.processes)
		case after.available+(16<<20) < before.available:
			return fmt.Errorf("%d bytes of the guest's memory are available, %d before", after.available, before.available)
		case after.files > before.files+4:
			return fmt.Errorf("the engine has %d files, %d before", after.files, before.files)
		case after.threads > before.threads+8:
			return fmt.Errorf("the engine has %d threads, %d before", after.threads, before.threads)
		}
		return nil
	})
}

// Stats come from the guest and from the host, once or again and again.
func TestStats(t *testing.T) {
	s := newState(t)
	s.run("boot", "-d", "--name", "busy", "--stop-timeout", "1s", busybox, "sh", "-c", "while :; do :; done").ok()
	r := s.run("server", "stats", "--no-stream", "-f", "json", "busy").ok()
	var list []map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v: %s", err, r.stdout)
	}
	for _, column := range []string{"CPU %", "CPU Seconds", "Memory", "Memory Total", "Processes", "Disk Total", "Host CPU %", "Host Memory"} {
		if n, ok := list[0][column].(float64); !ok || n <= 0 {
			t.Errorf("%s is %v", column, list[0][column])
		}
	}
	c := s.start("server", "stats", "-f", "value", "-c", "Server")
	c.expect("busy\nbusy\n")
	c.signal(syscall.SIGINT)
	c.wait()
	s.run("server", "freeze", "busy").ok()
	s.run("server", "stats", "--no-stream", "-f", "value", "-c", "CPU %", "busy").ok().says("0\n")
	s.run("server", "thaw", "busy").ok()
	s.run("server", "stats", "--no-stream", "nosuch").exits(1).complains("nosuch")
}

// A privileged command has what its entrypoint was denied.
func TestExecPrivileged(t *testing.T) {
	s := newState(t)
	s.run("boot", "-d", "--name", "bare", "--cap-drop", "ALL", "--stop-timeout", "1s", busybox, "sleep", "100000").ok()
	bounding := []string{"bare", "grep", "CapBnd", "/proc/self/status"}
	s.run(append([]string{"server", "exec"}, bounding...)...).ok().says("CapBnd:\t0000000000000000\n")
	if got := s.run(append([]string{"server", "exec", "--privileged"}, bounding...)...).ok().stdout; !strings.HasSuffix(got, "ffffffff\n") {
		t.Errorf("privileged: %q", got)
	}
}
