//go:build guest

package vmtest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/archive"
	"github.com/slipway-vm/slipway/guest/process"
)

func TestCopy(t *testing.T) {
	for _, mode := range []guest.RootMode{guest.RootVirtioFS, guest.Root9P} {
		t.Run(string(mode), func(t *testing.T) {
			r := boot(t, vm{root: mode, spec: guest.Spec{Args: []string{"probe", "trap"}}, files: map[string]string{
				"root/srv/a/file": "content\n",
			}})
			ctx := deadline(t)
			c := r.dial(ctx)
			r.waitFor(ctx, c, "ready")

			dir := t.TempDir()
			big := make([]byte, 8<<20)
			chacha(1).Read(big)
			write(t, filepath.Join(dir, "tree/deep/big"), string(big))
			file := filepath.Join(dir, "tree/deep/big")
			if err := errors.Join(
				os.Symlink("../../../../etc/shadow", filepath.Join(dir, "tree/link")),
				os.Lchown(file, 1000, 1001), os.Chmod(file, os.ModeSetuid|0o711), // in this order
			); err != nil {
				t.Fatal(err)
			}
			// The guest's 9p client keeps whole seconds.
			for _, name := range []string{"tree/link", "tree/deep/big", "tree/deep", "tree"} {
				times := []unix.Timespec{{Sec: 1500000000}, {Sec: 1500000000}}
				if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
					t.Fatal(err)
				}
			}
			host, err := process.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer host.Close()
			var in bytes.Buffer
			if err := archive.Write(ctx, host, "/tree", &in); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if err := c.CopyTo(ctx, "/srv", bytes.NewReader(in.Bytes())); err != nil {
				t.Fatal(err)
			}
			t.Logf("in: %.1f MB/s", 8/time.Since(start).Seconds())
			info, err := c.Stat(ctx, "/srv/tree/deep/big")
			if err != nil || info.Size != int64(len(big)) || info.Mode != 0o711|os.ModeSetuid {
				t.Errorf("copied file %+v, err %v", info, err)
			}
			start = time.Now()
			var out bytes.Buffer
			if err := c.CopyFrom(ctx, "/srv/tree", false, &out); err != nil {
				t.Fatal(err)
			}
			t.Logf("out: %.1f MB/s", 8/time.Since(start).Seconds())
			if !bytes.Equal(out.Bytes(), in.Bytes()) {
				t.Errorf("%d bytes came back for %d", out.Len(), in.Len())
			}
			if err := c.CopyFrom(ctx, "/nothing", false, &out); !errors.Is(err, agent.ErrNotFound) {
				t.Errorf("copy a missing file: %v", err)
			}
		})
	}
}

func TestStats(t *testing.T) {
	_, c := resident(t, guest.Spec{User: "app"})
	ctx := deadline(t)
	s, err := c.Stats(ctx)
	if err != nil || s.CPU <= 0 || s.CPUs != 1 || s.Memory == 0 || s.MemoryTotal < 100<<20 || s.Processes == 0 ||
		s.DiskTotal == 0 || s.At <= 0 {
		t.Errorf("stats %+v, err %v", s, err)
	}
	list, err := c.Top(ctx)
	if err != nil || len(list) != 1 {
		t.Fatalf("processes %+v, err %v", list, err)
	}
	if p := list[0]; p.PID != 1 || p.UID != 1000 || p.Command != "probe trap terminated 0" || p.Memory == 0 {
		t.Errorf("process %+v", p)
	}
}

func TestFreeze(t *testing.T) {
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "seq", "100000", "5"}}})
	ctx := deadline(t)
	c := r.dial(ctx)
	r.waitFor(ctx, c, "\n5\n")
	if err := c.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	before, err := c.Stats(ctx)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	after, err := c.Stats(ctx)
	if err != nil || after.CPU != before.CPU {
		t.Errorf("frozen processes have run: %v then %v, err %v", before.CPU, after.CPU, err)
	}
	if err := c.Thaw(ctx); err != nil {
		t.Fatal(err)
	}
	r.waitFor(ctx, c, "\n100\n")
	if err := c.Freeze(ctx); err != nil {
		t.Fatal(err)
	}
	// Stopping thaws.
	if _, err := c.Stop(ctx, 0); err != nil {
		t.Fatal(err)
	}
	// The probe dies of SIGTERM if it gets that far.
	if got := r.finish(ctx, c); got.exit.Signal != 9 && got.exit.Code != 2 {
		t.Errorf("exit %+v", got.exit)
	}
}

func TestOutOfMemory(t *testing.T) {
	got := run(t, vm{spec: guest.Spec{Args: []string{"probe", "eat"}}})
	if !got.exit.OOMKilled || got.exit.Signal != 9 || got.exit.Code != 137 {
		t.Errorf("exit %+v", got.exit)
	}
	if got := run(t, vm{spec: guest.Spec{Args: []string{"probe", "exit", "137"}}}); got.exit.OOMKilled {
		t.Errorf("exit %+v", got.exit)
	}
}

// The host kernel's console has the guest kernel's messages and init's, and
// nothing of the entrypoint's.
func TestConsole(t *testing.T) {
	r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "both", "secret-out", "secret-err", "0"}}, extra: []string{guest.ArgDebug}})
	ctx := deadline(t)
	r.finish(ctx, r.dial(ctx))
	if text := r.consoleText(); strings.Contains(text, "secret") || !strings.Contains(text, "slipway-init: mount the share") {
		t.Errorf("console:\n%s", text)
	}
}
