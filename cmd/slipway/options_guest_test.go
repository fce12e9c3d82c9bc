//go:build guest

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// show returns a fact of a server.
func (s *state) show(server, fact string) string {
	s.t.Helper()
	return strings.TrimSpace(s.run("server", "show", "-f", "value", "-c", fact, server).ok().stdout)
}

// awaitFact waits until a fact of a server is what is wanted.
func (s *state) awaitFact(server, fact, want string) {
	s.t.Helper()
	eventually(s.t, deadline, func() error {
		if got := s.show(server, fact); got != want {
			return fmt.Errorf("%s is %s, want %s", fact, got, want)
		}
		return nil
	})
}

// What the flags ask of an entrypoint's surroundings is so, for the entrypoint and
// for what is executed beside it.
func TestOptions(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const look = `grep -E 'CapBnd|CapEff|NoNewPrivs|Groups' /proc/self/status; ulimit -Sn; ulimit -Hn
		cat /proc/self/oom_score_adj`
	const confined = "Groups:\t55 \nCapEff:\t0000000000001001\nCapBnd:\t0000000000001001\nNoNewPrivs:\t1\n100\n200\n500\n"
	s.run("boot", "-d", "--name", "limited", "--read-only", "--tmpfs", "/srv:size=1m,mode=700", "--cap-drop", "all",
		"--cap-add", "NET_ADMIN,CAP_CHOWN", "--security-opt", "no-new-privileges", "--ulimit", "nofile=100:200",
		"--sysctl", "net.core.somaxconn=77", "--pids-limit", "40", "--shm-size", "8M", "--add-host", "db:10.1.2.3",
		"--dns", "10.9.9.9", "--dns-search", "example.test", "--dns-option", "ndots:2", "--oom-score-adj", "500",
		"--group-add", "55", "--label", "tier=front", "--workdir", "/made", busybox,
		"sh", "-c", look+`; touch /x /srv/y; ls /srv; stat -c %a /srv; grep ' /dev/shm ' /proc/mounts | grep -o 'size=[0-9k]*'
		cat /proc/sys/net/core/somaxconn /sys/fs/cgroup/pids.max /etc/resolv.conf; grep 'db$' /etc/hosts
		echo mine >>/etc/hosts; mkdir /sys/fs/cgroup/own; exec sleep 1000`).ok()
	eventually(t, deadline, func() error {
		got := s.run("server", "logs", "limited").ok()
		want := confined + "y\n700\nsize=8192k\n77\n40\nnameserver 10.9.9.9\nsearch example.test\noptions ndots:2\n10.1.2.3\tdb\n"
		if got.stdout != want {
			return fmt.Errorf("stdout %q, want %q", got.stdout, want)
		}
		for _, refused := range []string{"touch: /x: Read-only", "/etc/hosts: Read-only", "/sys/fs/cgroup/own': Read-only"} {
			if !strings.Contains(got.stderr, refused) {
				return fmt.Errorf("no %q in %q", refused, got.stderr)
			}
		}
		return nil
	})
	s.run("server", "exec", "limited", "sh", "-c", look).ok().says(confined)
	for fact, want := range map[string]string{
		"read_only": "true", "tmpfs": "/srv:size=1m,mode=700", "cap_drop": "all", "cap_add": "NET_ADMIN, CAP_CHOWN",
		"no_new_privileges": "true", "ulimits": "nofile=100:200", "sysctls": "net.core.somaxconn=77", "pids_limit": "40",
		"shm_size": "8MiB", "hosts": "db:10.1.2.3", "dns": "10.9.9.9", "labels": "tier=front", "restart_policy": "no",
	} {
		if got := s.show("limited", fact); got != want {
			t.Errorf("%s is %q, want %q", fact, got, want)
		}
	}
	s.run("server", "delete", "limited").ok()
}

// Without flags it is as with docker, and --privileged takes the bounds away.
func TestOptionDefaults(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const look = `grep -E 'CapEff|NoNewPrivs' /proc/self/status; ulimit -n; tr "\0" "\n" </proc/1/cmdline | head -n 1
		mkdir /sys/fs/cgroup/own 2>/dev/null && echo own; [ -c /dev/kmsg ] && echo kmsg
		for f in null zero full random urandom tty ptmx fd stdin stdout stderr shm mqueue pts; do [ -e /dev/$f ] || echo no $f; done`
	s.run("boot", "--rm", busybox, "sh", "-c", look).ok().
		says("CapEff:\t00000000a80425fb\nNoNewPrivs:\t0\n1048576\nsh\n")
	s.run("boot", "--rm", "--user", "app", busybox, "sh", "-c", "grep -E 'CapEff|CapBnd' /proc/self/status").ok().
		says("CapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n")
	s.run("boot", "--rm", "--privileged", "--init", "--user", "0", busybox, "sh", "-c", look).ok().
		says("CapEff:\t000001ffffffffff\nNoNewPrivs:\t0\n1048576\nslipway-init\nown\nkmsg\n")
}

// An init passes the stop signal on, reaps, and ends as its entrypoint does.
func TestInit(t *testing.T) {
	t.Parallel()
	s := newState(t)
	c := s.start("boot", "--rm", "--init", "--user", "app", busybox, "sh", "-c",
		`trap 'echo stopped; exit 9' TERM; (sh -c 'sleep 0.1 & echo $!' > /tmp/orphan); sleep 1
		[ -d /proc/$(cat /tmp/orphan) ] && echo zombie; echo ready; while :; do sleep 0.1; done`)
	c.expect("ready\n")
	c.signal(syscall.SIGTERM)
	c.wait().exits(9).says("ready\nstopped\n")
	s.run("boot", "--rm", "--init", busybox, "/bin/not-executable").exits(126)
	s.run("boot", "--rm", "--init", busybox, "sh", "-c", "kill -9 $$").exits(137)
	s.run("boot", "--rm", "--init", busybox, "no-interpreter").exits(127).complains("no-interpreter")
}

// What cannot be is refused by name, before or by the guest, and leaves nothing.
func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for _, tt := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--restart", "sometimes"}, `restart policy "sometimes": use no, on-failure[:N], always or unless-stopped`},
		{[]string{"--restart", "always:3"}, "only on-failure takes a number"},
		{[]string{"--restart", "on-failure:x"}, `"x" is no number`},
		{[]string{"--restart", "always", "--rm"}, "--restart always and --rm exclude each other"},
		{[]string{"--ulimit", "nofile"}, "use NAME=SOFT[:HARD]"},
		{[]string{"--ulimit", "nofile=5:4"}, "ulimit nofile=5:4: the soft limit is above the hard limit"},
		{[]string{"--ulimit", "files=5"}, `ulimit "files": no such resource`},
		{[]string{"--cap-add", "EVERYTHING"}, `capability "EVERYTHING"`},
		{[]string{"--tmpfs", "srv"}, `tmpfs "srv": use an absolute path`},
		{[]string{"--tmpfs", "/srv:huge=always"}, `option "huge=always"`},
		{[]string{"--sysctl", "somaxconn=1"}, "use NAME=VALUE with a dotted name"},
		{[]string{"--sysctl", "net.core.somaxconn"}, "use NAME=VALUE"},
		{[]string{"--sysctl", "net.core.nothing=1"}, "sysctl net.core.nothing: the guest's kernel has no such setting"},
		{[]string{"--sysctl", "net.core.somaxconn=many"}, `does not take the value "many"`},
		{[]string{"--security-opt", "seccomp=my.json"}, "there is no-new-privileges"},
		{[]string{"--oom-score-adj", "1001"}, "use -1000 to 1000"},
		{[]string{"--pids-limit", "-7"}, "or -1 for none"},
		{[]string{"--group-add", "nowhere"}, "group nowhere is not in the image's /etc/group"},
		{[]string{"--add-host", "db"}, "use NAME:ADDRESS"},
		{[]string{"--add-host", "db:here"}, `"here" is not an IP address`},
		{[]string{"--dns", "here"}, `name server "here"`},
		{[]string{"--health-cmd", "true", "--no-healthcheck"}, "excludes the --health flags"},
		{[]string{"--health-cmd", "true", "--health-interval", "1ns"}, "use 1ms or more"},
	} {
		s.run(append(append([]string{"boot"}, tt.flags...), busybox, "true")...).exits(125).complains(tt.want)
	}
	s.clean()
}

// qemu is the process of the state directory's one guest.
func (s *state) qemu() int {
	s.t.Helper()
	for pid, args := range traces.Processes() {
		if strings.HasPrefix(filepath.Base(args[0]), "qemu") && strings.Contains(strings.Join(args, " "), s.dir) {
			return pid
		}
	}
	s.t.Fatal("no guest runs")
	return 0
}

// The guest restarts its entrypoint, the engine a guest that died, and nobody what
// a user has stopped.
func TestRestartPolicy(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("boot", "-d", "--name", "phoenix", "--restart", "always", busybox,
		"sh", "-c", `echo x >>/lives; echo life $(wc -l </lives); [ $(wc -l </lives) -lt 3 ] && exit 5; exec sleep 1000`).ok()
	s.start("server", "logs", "--follow", "phoenix").expect("life 3\n")
	s.awaitFact("phoenix", "restart_count", "2")
	if got := s.show("phoenix", "status"); got != "ACTIVE" {
		t.Errorf("status %s", got)
	}
	// As when the guest's kernel panics or the host's runs out of memory.
	if err := syscall.Kill(s.qemu(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.awaitFact("phoenix", "restart_count", "3")
	s.awaitFact("phoenix", "status", "ACTIVE")
	eventually(t, deadline, func() error {
		if got := s.run("server", "logs", "phoenix").ok().stdout; got != "life 1\nlife 2\nlife 3\nlife 4\n" {
			return fmt.Errorf("output %q", got)
		}
		return nil
	})
	// An engine that finds the guest dead does as if it had seen it.
	pid := s.qemu()
	s.killEngine()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.awaitFact("phoenix", "restart_count", "4")
	s.awaitFact("phoenix", "OS-EXT-STS:task_state", "None")
	s.run("server", "stop", "-t", "0s", "phoenix").ok()
	if err := endEngine(s.dir, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := s.show("phoenix", "status"); got != "SHUTOFF" {
		t.Errorf("status %s", got)
	}
}

// The image's health check is run, and shown.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := newState(t)
	image := ociLayout(t, configured(t, func(c *v1.Config) {
		c.Healthcheck = &v1.HealthConfig{Test: []string{"CMD-SHELL", "echo asked; test -e /well"}, Interval: 300 * time.Millisecond, Retries: 2}
		c.Cmd = []string{"sleep", "1000"}
	}))
	s.run("boot", "-d", "--name", "ward", "--health-start-period", "1h", "--health-start-interval", "200ms", image).ok()
	s.awaitFact("ward", "health", "starting")
	s.run("server", "exec", "ward", "touch", "/well").ok()
	s.awaitFact("ward", "health", "healthy")
	if got := s.run("server", "list", "-f", "value", "-c", "Name", "-c", "Status", "-c", "Health").ok().stdout; got != "ward ACTIVE healthy\n" {
		t.Errorf("list %q", got)
	}
	s.run("server", "exec", "ward", "rm", "/well").ok()
	s.awaitFact("ward", "health", "unhealthy")
	if code, text := s.show("ward", "health_exit_code"), s.show("ward", "health_output"); code != "1" || text != "asked" {
		t.Errorf("exit code %s, output %q", code, text)
	}
	s.run("server", "delete", "ward").ok()
	s.run("boot", "-d", "--name", "fine", "--no-healthcheck", image).ok()
	if got := s.show("fine", "health"); got != "None" {
		t.Errorf("health %s", got)
	}
}

// A guest's clock is right when its entrypoint starts, and is put right when
// it goes wrong.
func TestClock(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const stamp = "touch /dev/shm/now; stat -c %y /dev/shm/now"
	parse := func(text string) time.Time {
		t.Helper()
		at, err := time.Parse("2006-01-02 15:04:05.999999999 -0700", strings.TrimSpace(text))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	// off is how far the guest's clock is from all that it may have said.
	off := func() time.Duration {
		t.Helper()
		begin := time.Now()
		at := parse(s.run("server", "exec", "clock", "sh", "-c", stamp).ok().stdout)
		return max(begin.Sub(at), time.Until(at), 0)
	}
	begin := time.Now()
	s.run("boot", "-d", "--name", "clock", "--cap-add", "SYS_TIME", busybox, "sh", "-c", stamp+"; exec sleep 1000").ok()
	eventually(t, deadline, func() error {
		if s.run("server", "logs", "clock").ok().stdout == "" {
			return errors.New("no output")
		}
		return nil
	})
	first := parse(s.run("server", "logs", "clock").ok().stdout)
	launched, err := time.Parse(time.RFC3339, s.show("clock", "OS-SRV-USG:launched_at"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the entrypoint's first look at the clock: %s after the boot's start, launched in the second that began %s after it",
		first.Sub(begin), launched.Sub(begin))
	if first.Before(begin) || first.After(time.Now()) {
		t.Errorf("the guest began at %s, asked for at %s", first, begin)
	}
	t.Logf("off by %s after the boot", off())
	s.run("server", "exec", "clock", "date", "-s", "2001-02-03 04:05:06").ok()
	if off() < time.Hour {
		t.Log("set right at once")
	}
	eventually(t, deadline, func() error {
		if off := off(); off > time.Second {
			return fmt.Errorf("off by %s", off)
		}
		return nil
	})
}
