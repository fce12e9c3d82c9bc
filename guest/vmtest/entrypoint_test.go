//go:build guest

package vmtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

func TestEntrypoint(t *testing.T) {
	for _, test := range []struct {
		name   string
		spec   guest.Spec
		files  map[string]string
		stdout string // exact
		stderr string // exact
		exit   agent.Exit
		errHas string // part of exit.Err
	}{
		{
			name: "exit status",
			spec: guest.Spec{Args: []string{"probe", "exit", "7"}},
			exit: agent.Exit{Code: 7},
		},
		{
			name: "environment",
			spec: guest.Spec{Args: []string{"probe", "env"}, Env: []string{"A=1", "B=x=y", "A=2"}, User: "app"},
			stdout: "A=2\nB=x=y\nHOME=/home/app\nHOSTNAME=web\n" +
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		},
		{
			name:   "user by name",
			spec:   guest.Spec{Args: []string{"/bin/probe", "id"}, User: "app", Dir: "/made/up"},
			stdout: "pid=1 uid=1000 gid=1001 groups=[10 20] dir=/made/up host=web files=1048576\n",
		},
		{
			name:   "user and group by number",
			spec:   guest.Spec{Args: []string{"../bin/probe", "id"}, User: "77:88", Dir: "/etc", Hostname: "other"},
			stdout: "pid=1 uid=77 gid=88 groups=[] dir=/etc host=other files=1048576\n",
		},
		{
			name:   "standard streams",
			spec:   guest.Spec{Args: []string{"probe", "err", "oops"}, User: "app"},
			stderr: "oops\n",
		},
		{
			name: "reopened stdout",
			spec: guest.Spec{Args: []string{"probe", "write", "/dev/stdout", "hello"}, User: "app"}, stdout: "hello",
		},
		{
			name: "stdin is empty",
			spec: guest.Spec{Args: []string{"probe", "stdin"}},
		},
		{
			name:   "not found",
			spec:   guest.Spec{Args: []string{"nothing"}},
			exit:   agent.Exit{Code: 127},
			errHas: "not found in $PATH",
		},
		{
			name:   "not executable",
			spec:   guest.Spec{Args: []string{"/etc/passwd"}},
			exit:   agent.Exit{Code: 126},
			errHas: "permission denied",
		},
		{
			name:   "not executable format",
			spec:   guest.Spec{Args: []string{"broken"}},
			files:  map[string]string{"root/bin/broken": "\x7fELF nothing else"},
			exit:   agent.Exit{Code: 126},
			errHas: "exec format error",
		},
		{
			name:   "missing interpreter",
			spec:   guest.Spec{Args: []string{"script"}},
			files:  map[string]string{"root/bin/script": "#!/bin/nosuch\n"},
			exit:   agent.Exit{Code: 127},
			errHas: "no such file",
		},
		{
			name:   "unknown user",
			spec:   guest.Spec{Args: []string{"probe", "id"}, User: "nobody"},
			exit:   agent.Exit{Code: 125},
			errHas: "nobody",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, vm{spec: test.spec, files: test.files})
			if got.stdout != test.stdout || got.stderr != test.stderr {
				t.Errorf("stdout %q, stderr %q, want %q, %q", got.stdout, got.stderr, test.stdout, test.stderr)
			}
			if !strings.Contains(got.exit.Err, test.errHas) || (got.exit.Err != "") != (test.errHas != "") {
				t.Errorf("exit error %q, want it to contain %q", got.exit.Err, test.errHas)
			}
			got.exit.Err = ""
			if got.exit != test.exit {
				t.Errorf("exit %+v, want %+v", got.exit, test.exit)
			}
		})
	}
}

func TestStop(t *testing.T) {
	t.Run("signals", func(t *testing.T) {
		ctx := deadline(t)
		r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "trap", "quit", "3"}, StopSignal: "SIGQUIT"}})
		c := r.dial(ctx)
		r.waitFor(ctx, c, "ready")
		if err := c.Shutdown(ctx); err == nil {
			t.Error("shut down while the entrypoint runs")
		}
		if err := c.Signal(ctx, "USR1"); err != nil {
			t.Error(err)
		}
		r.waitFor(ctx, c, "user defined signal 1")
		if _, err := c.Stop(ctx, time.Minute); err != nil {
			t.Error(err)
		}
		got := r.finish(ctx, c)
		want := "ready\nsignal user defined signal 1\nsignal quit\n"
		if got.stdout != want || got.exit != (agent.Exit{Code: 3}) {
			t.Errorf("got %+v, want stdout %q", got, want)
		}
	})
	t.Run("kill after grace", func(t *testing.T) {
		ctx := deadline(t)
		r := boot(t, vm{spec: guest.Spec{Args: []string{"probe", "trap"}, Grace: 100 * time.Millisecond}})
		c := r.dial(ctx)
		r.waitFor(ctx, c, "ready")
		if _, err := c.Stop(ctx, -1); err != nil {
			t.Error(err)
		}
		got := r.finish(ctx, c)
		if got.exit != (agent.Exit{Code: 137, Signal: 9, TimedOut: true}) || !strings.Contains(got.stdout, "signal terminated") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestVolumes(t *testing.T) {
	for _, root := range []guest.RootMode{guest.RootVirtioFS, guest.Root9P} {
		t.Run(string(root), func(t *testing.T) {
			got := run(t, vm{
				root: root, volumes: true,
				spec: guest.Spec{
					Args: []string{"probe", "cat", "/data/deep/in", "/srv/only"},
					Mounts: []guest.Mount{
						{Source: "volumes/0", Target: "/data/deep"},
						{Source: "volumes/1", Target: "/link/volume", ReadOnly: true},
						{Source: "volumes/2", Target: "/srv/only", ReadOnly: true},
					},
				},
				files: map[string]string{
					"volumes/0/in": "read-write\n", "volumes/1/in": "read-only\n", "volumes/2": "a file\n",
				},
			})
			if got.stdout != "read-write\na file\n" || got.exit.Code != 0 {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// A target that leads out of the root by a link is taken inside it, and a
// read-only volume cannot be written.
func TestVolumeTargets(t *testing.T) {
	share := filepath.Join(t.TempDir(), "share")
	v := vm{
		share: share,
		spec: guest.Spec{
			Args:   []string{"probe", "write", "/run/slipway/in", "changed"},
			Mounts: []guest.Mount{{Source: "volumes/0", Target: "/up/slipway", ReadOnly: true}},
		},
		files: map[string]string{"volumes/0/in": "read-only\n"},
	}
	writeShare(t, share, v)
	if err := os.Symlink("../../../../run", filepath.Join(share, "root/up")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(share, "root/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := run(t, v)
	if got.exit.Code != 1 || !strings.Contains(got.stderr, "read-only file system") {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(filepath.Join(share, "root/run/slipway")); err != nil {
		t.Error(err)
	}
}

func TestRootPersists(t *testing.T) {
	for _, root := range []guest.RootMode{guest.RootVirtioFS, guest.Root9P} {
		t.Run(string(root), func(t *testing.T) {
			share := filepath.Join(t.TempDir(), "share")
			v := vm{root: root, share: share, spec: guest.Spec{Args: []string{"probe", "write", "/kept", "kept\n"}}}
			writeShare(t, share, v)
			if got := run(t, v); got.exit.Code != 0 {
				t.Fatalf("got %+v", got)
			}
			v.spec.Args = []string{"probe", "cat", "/kept"}
			writeShare(t, share, v)
			if got := run(t, v); got.stdout != "kept\n" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestContainerMounts(t *testing.T) {
	got := run(t, vm{spec: guest.Spec{Args: []string{"probe", "mounts"}}})
	var targets []string
	for line := range strings.Lines(got.stdout) {
		fields := strings.Fields(line)
		targets = append(targets, fields[1]+":"+fields[2])
	}
	want := "/:virtiofs /proc:proc /dev:tmpfs /dev/pts:devpts /dev/shm:tmpfs /dev/mqueue:mqueue " +
		"/sys:sysfs /sys/fs/cgroup:cgroup2 /etc/hostname:tmpfs /etc/hosts:tmpfs"
	if strings.Join(targets, " ") != want {
		t.Errorf("mounts:\n%s\nwant %s", got.stdout, want)
	}
}
