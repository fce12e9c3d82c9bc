//go:build guest

package vmtest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// memory is how much of the host's memory QEMU has, in MiB.
func (r *running) memory() int {
	r.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.qemu.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		r.t.Fatal(err)
	}
	return kib >> 10
}

// Memory that a guest's processes have given back goes back to the host.
func TestMemoryGivenBack(t *testing.T) {
	const size = 200
	ctx := deadline(t)
	r := boot(t, vm{memory: 512, spec: guest.Spec{Args: []string{"probe", "forget", strconv.Itoa(size), "1000"}}})
	c := r.dial(ctx)
	r.waitFor(ctx, c, "taken")
	taken := r.memory()
	r.waitFor(ctx, c, "given back")
	now := r.memory()
	for now > taken-size*3/4 {
		select {
		case <-time.After(100 * time.Millisecond):
			now = r.memory()
		case <-ctx.Done():
			t.Fatalf("the host has given %d MiB, and %d when they were in use", now, taken)
		}
	}
	t.Logf("%d MiB in use, then %d", taken, now)
	if _, err := c.Stop(ctx, 0); err != nil {
		t.Error(err)
	}
	r.finish(ctx, c)
}
