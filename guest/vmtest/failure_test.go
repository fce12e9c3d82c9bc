//go:build guest

package vmtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

func (r *running) consoleText() string {
	data, err := os.ReadFile(r.console)
	if err != nil {
		r.t.Error(err)
	}
	return string(data)
}

// A guest whose init fails says why on the console and to the host, and powers
// off.
func TestInitFailure(t *testing.T) {
	for _, test := range []struct {
		name string
		v    vm
		prep func(t *testing.T, share string)
		want string
	}{
		{
			name: "no specification",
			prep: func(t *testing.T, share string) { os.Remove(filepath.Join(share, guest.SpecFile)) },
			want: "process.json: no such file",
		},
		{
			name: "newer specification",
			prep: func(t *testing.T, share string) {
				write(t, filepath.Join(share, guest.SpecFile), `{"version": 99, "args": ["x"]}`)
			},
			want: "version 99",
		},
		{
			name: "root of another kind",
			v:    vm{extra: []string{"slipway.root=9p:slipway"}},
			want: "mount the share",
		},
		{
			name: "specification cut short",
			prep: func(t *testing.T, share string) {
				write(t, filepath.Join(share, guest.SpecFile), `{"version": 1, "args": ["x"`)
			},
			want: "read the seed",
		},
		{
			name: "kernel setting unknown",
			v: vm{spec: guest.Spec{Args: []string{"probe", "id"},
				Options: guest.Options{Sysctls: map[string]string{"net.nothing.here": "1"}}}},
			want: "net.nothing.here",
		},
		{
			name: "root missing",
			prep: func(t *testing.T, share string) { os.RemoveAll(filepath.Join(share, guest.RootDir)) },
			want: "bind the root",
		},
		{
			name: "volume missing",
			v: vm{spec: guest.Spec{Args: []string{"probe", "id"},
				Mounts: []guest.Mount{{Source: "volumes/3", Target: "/data"}}}},
			want: "mount volume on /data",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := deadline(t)
			test.v.share = filepath.Join(t.TempDir(), "share")
			writeShare(t, test.v.share, test.v)
			if test.prep != nil {
				test.prep(t, test.v.share)
			}
			r := boot(t, test.v)
			got := r.finish(ctx, r.dial(ctx))
			if got.exit.Code != 125 || !strings.Contains(got.exit.Err, test.want) {
				t.Errorf("exit %+v, want %q", got.exit, test.want)
			}
			if !strings.Contains(r.consoleText(), test.want) {
				t.Errorf("the console does not say %q", test.want)
			}
		})
	}
}

// A guest that no host can reach, and one that does not get to init, say so on the
// console and end as well.
func TestFailureOnConsole(t *testing.T) {
	for _, test := range []struct {
		name, want string
		v          vm
	}{
		{"no port", "open the agent's port", vm{mute: true}},
		{"no init", "Kernel panic", vm{extra: []string{"rdinit=/nothing"}}},
		{"unknown root mode", "unknown root mode", vm{extra: []string{"slipway.root=floppy:0"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := boot(t, test.v)
			r.wait(deadline(t))
			if !strings.Contains(r.consoleText(), test.want) {
				t.Errorf("the console does not say %q", test.want)
			}
		})
	}
}

// Without a host to hear of it, a guest that could not boot powers off anyway.
func TestInitFailureUnheard(t *testing.T) {
	share := filepath.Join(t.TempDir(), "share")
	writeShare(t, share, vm{})
	os.Remove(filepath.Join(share, guest.SpecFile))
	r := boot(t, vm{share: share})
	r.wait(deadline(t))
}

func TestProbe(t *testing.T) {
	for _, machine := range []guest.Machine{guest.MachineMicroVM, guest.MachinePC} {
		t.Run(string(machine), func(t *testing.T) {
			r := boot(t, vm{machine: machine, extra: []string{guest.ArgProbe}})
			r.wait(deadline(t))
			if !strings.Contains(r.consoleText(), guest.ProbeLine) {
				t.Error("no probe line on the console")
			}
		})
	}
}

// A guest whose entrypoint has ended stays until a host has everything, also
// when none came for a while.
func TestWaitsForHost(t *testing.T) {
	ctx := deadline(t)
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "echo", "kept for you"}}})
	select {
	case err := <-r.exited:
		t.Fatal("the guest ended by itself:", err)
	case <-time.After(6 * time.Second):
	}
	c := r.dial(ctx)
	if _, err := c.Wait(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Shutdown(ctx); err == nil {
		t.Fatal("shut down with output that nobody has seen")
	}
	if err := c.Signal(ctx, "TERM"); err == nil {
		t.Error("signalled an entrypoint that has ended")
	}
	c.Close()
	if got := r.finish(ctx, r.dial(ctx)); got.stdout != "kept for you\n" {
		t.Errorf("got %+v", got)
	}
}

// An engine that has crashed comes back again and again while output flows.
func TestReconnects(t *testing.T) {
	ctx := deadline(t)
	const size = 2 << 20
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "random", "2097152", "5"}}})
	var out [3]strings.Builder
	sessions := 0
	for done := false; !done; sessions++ {
		if sessions > 500 {
			t.Fatal("no progress")
		}
		c := r.dial(ctx)
		session, cancel := context.WithCancel(ctx)
		pieces := 0
		err := c.Output(session, agent.Offsets{Stdout: int64(out[1].Len()), Stderr: int64(out[2].Len())},
			func(s agent.Stream, offset int64, data []byte) error {
				if offset != int64(out[s].Len()) {
					t.Errorf("%s at %d, want %d", s, offset, out[s].Len())
				}
				out[s].Write(data)
				if pieces++; pieces == 4+sessions%5 {
					// As when the process is killed: nothing more is said.
					c.Abort()
				}
				return nil
			})
		cancel()
		done = err == nil
		c.Close()
	}
	for stream, seed := range map[agent.Stream]int{agent.Stdout: 5, agent.Stderr: 6} {
		want := make([]byte, size)
		chacha(seed).Read(want)
		if out[stream].String() != string(want) {
			t.Errorf("%s differs", stream)
		}
	}
	t.Logf("%d sessions", sessions)
	c := r.dial(ctx)
	if _, err := c.Wait(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	r.wait(ctx)
}
