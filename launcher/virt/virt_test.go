package virt

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/slipway-vm/slipway/launcher"
)

// openTest opens libvirt's test driver with one domain, called test. A driver
// made from a file is the connection's own; test:///default is shared by all.
func openTest(t *testing.T, prefix string) *Hypervisor {
	t.Helper()
	file := filepath.Join(t.TempDir(), "node.xml")
	const node = `<node><domain type="test"><name>test</name><memory>1024</memory><os><type>hvm</type></os></domain></node>`
	if err := os.WriteFile(file, []byte(node), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Open(Config{URI: "test://" + file, Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestDomainsAreThoseOfThePrefix(t *testing.T) {
	for prefix, want := range map[string]int{"slipway-": 0, "te": 1} {
		doms, err := openTest(t, prefix).Domains(t.Context())
		if err != nil || len(doms) != want {
			t.Errorf("prefix %q: %v, %v", prefix, doms, err)
		}
		for name, state := range doms {
			if name != "test" || state != launcher.PowerRunning {
				t.Errorf("%s is %d", name, state)
			}
		}
	}
}

func TestDestroyOfNothing(t *testing.T) {
	if err := openTest(t, "slipway-").Destroy(t.Context(), "slipway-nosuch"); err != nil {
		t.Error(err)
	}
}

func TestEndIsTold(t *testing.T) {
	h := openTest(t, "own-")
	const xml = `<domain type="test"><name>own-1</name><memory>1024</memory><os><type>hvm</type></os></domain>`
	dom, err := h.conn.DomainCreateXML(xml, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dom.Free() }()
	events := make(chan launcher.DomainEvent, 4)
	h.Watch(func(e launcher.DomainEvent) { events <- e })
	if err := h.Destroy(t.Context(), "own-1"); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case e := <-events:
			if e.State == launcher.PowerRunning {
				continue // its start, told late
			}
			if e.Domain != "own-1" || e.State != launcher.PowerShutdown {
				t.Errorf("told of %+v", e)
			}
			return
		case <-time.After(10 * time.Second):
			t.Fatal("its end was not told")
		}
	}
}

func TestExplain(t *testing.T) {
	for msg, want := range map[string]struct {
		kind error
		says string
	}{
		"no connection driver available for qemu:///embed":      {launcher.ErrUnavailable, "install libvirt-daemon-driver-qemu"},
		"invalid argument: Failed to parse user 'libvirt-qemu'": {launcher.ErrUnavailable, "useradd"},
		"Failed to acquire pid file '/x/driver.pid'":            {launcher.ErrConflict, "another process"},
	} {
		err := explain(libvirt.Error{Message: msg})
		if !errors.Is(err, want.kind) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("%s: %v", msg, err)
		}
	}
}

func TestOpenRefused(t *testing.T) {
	if _, err := Open(Config{URI: EmbedURI, Root: "relative"}); err == nil {
		t.Error("a relative root is taken")
	}
	if _, err := Open(Config{URI: "nosuch:///x"}); err == nil {
		t.Error("a URI of no driver is taken")
	}
}

// TestDaemonsAreReaped has a command start a daemon, as libvirt does, and looks
// whether both end well: the daemon reaped, the command left to who waits for it.
func TestDaemonsAreReaped(t *testing.T) {
	if err := reapDaemons(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	// The leader of the daemon's session is waited for by its own parent.
	script := `setsid sh -c 'sleep 0.2 & echo $! >` + file + `'; exit 3`
	var exit *exec.ExitError
	if err := exec.CommandContext(t.Context(), "sh", "-c", script).Run(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("the command ended with %v", err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the daemon %d is still there", pid)
		}
	}
}
