//go:build guest

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// systemTime bounds what an init takes to boot or to stop on a busy machine.
const systemTime = 4 * time.Minute

// TestSystem boots an image that brings systemd to its login prompt, reboots it from
// inside, and stops it.
func TestSystem(t *testing.T) {
	t.Parallel()
	image := filepath.Join(imageDir, "systemd")
	if _, err := os.Stat(image); err != nil {
		t.Fatalf("SLIPWAY_TEST_IMAGES, %v: run this test with `make test`", err)
	}
	s := newState(t)
	s.run("boot", "-d", "--name", "sys", "--vcpus", "2", "oci:"+image).ok()
	s.awaitPrompt("sys", 1)
	// What is shown by the terminal is on the console too.
	if console := s.run("server", "logs", "--console", "sys").ok().stdout; !strings.Contains(console, "sys login: ") {
		t.Errorf("no prompt on the console:\n%s", tail(console))
	}
	s.run("server", "exec", "sys", "systemctl", "is-system-running", "--wait").ok().says("running\n")
	s.run("server", "exec", "sys", "systemctl", "--failed", "--plain", "--no-legend").ok().says("")
	id := strings.ReplaceAll(s.show("sys", "id"), "-", "")
	s.run("server", "exec", "sys", "sh", "-c",
		"systemd-detect-virt --container; cat /etc/machine-id /proc/1/comm; hostname; tty </dev/console; stat -f -c %T /run /tmp").
		ok().says("container-other\n" + id + "\nsystemd\nsys\n/dev/console\ntmpfs\ntmpfs\n")
	// Its cgroup is its own to divide, and nothing above can be seen.
	s.run("server", "exec", "sys", "systemd-run", "--quiet", "--wait", "--pipe", "-p", "MemoryMax=64M", "sh", "-c",
		`d=/sys/fs/cgroup$(sed s/^0::// /proc/self/cgroup); cat $d/memory.max`).ok().says("67108864\n")
	boot := s.run("server", "exec", "sys", "cat", "/proc/sys/kernel/random/boot_id").ok().stdout
	s.run("server", "exec", "sys", "touch", "/root/kept")
	s.run("server", "exec", "sys", "systemctl", "reboot") // ends with the guest
	s.awaitPrompt("sys", 2)
	if again := s.run("server", "exec", "sys", "sh", "-c", "ls /root; cat /proc/sys/kernel/random/boot_id").ok().stdout; again == "kept\n"+boot || !strings.HasPrefix(again, "kept\n") {
		t.Errorf("after the reboot %q, before %q", again, boot)
	}
	s.run("server", "stop", "sys").ok()
	if got := s.show("sys", "status") + s.show("sys", "exit_code"); got != "SHUTOFF0" {
		t.Errorf("stopped: %s", got)
	}
	if log := s.run("server", "logs", "sys").ok().stdout; !strings.Contains(log, "shutdown.target") || !strings.Contains(log, "Halting system.") {
		t.Errorf("it was not shut down in order:\n%s", tail(log))
	}
}

// awaitPrompt waits for a server's nth login prompt.
func (s *state) awaitPrompt(server string, n int) {
	s.t.Helper()
	eventually(s.t, systemTime, func() error {
		log := s.run("server", "logs", server).stdout
		if got := strings.Count(log, " login: "); got < n {
			return fmt.Errorf("%d prompts of %d:\n%s", got, n, tail(log))
		}
		return nil
	})
}

// TestInitMode has flags, labels and names say what an entrypoint is.
func TestInitMode(t *testing.T) {
	t.Parallel()
	s := newState(t)
	const facts = `tr '\0' '\n' </proc/1/environ | grep ^container=; stat -f -c %T /run; test -t 0 && echo terminal; exit 3`
	// The shell is none, but gets what an init does; it ends as any entrypoint.
	system := "container=slipway\r\ntmpfs\r\nterminal\r\n"
	s.run("boot", "--init-mode", "system", busybox, "sh", "-c", facts).exits(3).says(system)
	labelled := ociLayout(t, configured(t, func(c *v1.Config) { c.Labels = map[string]string{"slipway:init_mode": "system"} }))
	s.run("boot", labelled, "sh", "-c", facts).exits(3).says(system)
	s.run("boot", "--init-mode", "entrypoint", labelled, "sh", "-c", "test -t 0 || echo none").ok().says("none\n")
	// Busybox's own init powers off by another signal than systemd.
	init := layered(t, configured(t, func(*v1.Config) {}), map[string]string{"etc/inittab": "::sysinit:/bin/echo is up\n"})
	s.run("boot", "-d", "--name", "bb", "--init-mode", "system", ociLayout(t, init), "/bin/init").ok()
	eventually(t, systemTime, func() error {
		if log := s.run("server", "logs", "bb").stdout; !strings.Contains(log, "is up") {
			return fmt.Errorf("log %q", log)
		}
		return nil
	})
	s.run("server", "stop", "bb").ok()
	if got := s.show("bb", "init_mode") + s.show("bb", "exit_code"); got != "system0" {
		t.Errorf("stopped: %s", got)
	}
	s.run("boot", "--init-mode", "system", "--user", "app", busybox, "true").exits(125).complains("runs as root", "--user root")
	s.run("boot", "--init-mode", "system", "--init", busybox, "true").exits(125).complains("leave out --init")
	s.run("boot", "--init-mode", "x", busybox, "true").exits(125).complains("entrypoint or system")
}
