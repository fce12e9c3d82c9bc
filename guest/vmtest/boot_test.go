//go:build guest

package vmtest

import (
	"testing"

	"github.com/slipway-vm/slipway/guest"
)

func TestBoot(t *testing.T) {
	for _, v := range []vm{
		{machine: guest.MachineMicroVM, root: guest.RootVirtioFS},
		{machine: guest.MachineMicroVM, root: guest.Root9P},
		{machine: guest.MachinePC, root: guest.RootVirtioFS},
		{machine: guest.MachinePC, root: guest.Root9P},
	} {
		t.Run(string(v.machine)+"/"+string(v.root), func(t *testing.T) {
			got := run(t, v)
			t.Logf("%+v", got)
			want := "pid=1 uid=0 gid=0 groups=[] dir=/ host=web files=1048576\n"
			if got.stdout != want || got.stderr != "" || got.exit.Code != 0 {
				t.Errorf("got %+v, want stdout %q", got, want)
			}
		})
	}
}

// What a kernel says it needs is enough.
func TestLeastMemory(t *testing.T) {
	got := run(t, vm{memory: int((kernel.MinMemory + 1<<20 - 1) >> 20)})
	if got.exit.Code != 0 || got.stdout == "" {
		t.Errorf("got %+v", got)
	}
}
