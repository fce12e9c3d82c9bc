//go:build guest

package vmtest

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

// clockTolerance is how far a guest's clock may be off that a host looks after.
const clockTolerance = 50 * time.Millisecond

// checkClock fails the test where the guest's clock is off by more than can be
// excused by how long it took to ask.
func checkClock(ctx context.Context, t *testing.T, c *agent.Client, when string) {
	t.Helper()
	offset, slack, err := c.Clock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: ahead by %s, give or take %s", when, offset, slack)
	if offset.Abs() > clockTolerance+slack {
		t.Errorf("%s the clock is ahead by %s, give or take %s", when, offset, slack)
	}
}

// A guest's clock is right, stays right, and is set right again when the guest did
// not run for a while: because its process was stopped, or its processors.
func TestClock(t *testing.T) {
	ctx := deadline(t)
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "sleep", "600000"}}})
	c := r.dial(ctx)
	sync := func() time.Duration {
		t.Helper()
		moved, err := c.SyncClock(ctx, clockTolerance)
		if err != nil {
			t.Fatal(err)
		}
		return moved
	}
	sync()
	checkClock(ctx, t, c, "after the boot")
	time.Sleep(3 * time.Second)
	checkClock(ctx, t, c, "after a while")

	const pause = 2 * time.Second
	if err := r.qemu.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pause)
	if err := r.qemu.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	sync()
	checkClock(ctx, t, c, "after a stopped process")

	r.tell("stop")
	time.Sleep(pause)
	r.tell("cont")
	if moved := sync(); moved > -pause/2 {
		t.Errorf("after held processors the clock was moved by %s: were they held?", -moved)
	}
	checkClock(ctx, t, c, "after held processors")
}

// tell gives QEMU's monitor a command.
func (r *running) tell(command string) {
	r.t.Helper()
	conn, err := net.Dial("unix", r.monitor)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	prompt := func() {
		r.t.Helper()
		var seen []byte
		for b := make([]byte, 256); len(seen) < 7 || string(seen[len(seen)-7:]) != "(qemu) "; {
			n, err := conn.Read(b)
			if err != nil {
				r.t.Fatalf("QEMU's monitor: %v after %q", err, seen)
			}
			seen = append(seen, b[:n]...)
		}
	}
	prompt()
	if _, err := conn.Write([]byte(command + "\n")); err != nil {
		r.t.Fatal(err)
	}
	prompt()
}
