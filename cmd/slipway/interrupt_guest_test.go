//go:build guest

package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/launcher"
)

// steps are the places of a boot that a test can bring it to and hold it at: what
// holds it, and what it says there.
var steps = []struct {
	name string
	hold string // requests to the registry that are not answered
	says string
}{
	{"resolving", "/manifests/", "resolving"},
	{"fetching the config", "/blobs/", "resolving"},
	{"fetching a layer", "/blobs/layer", "fetching"},
	{"running", "", "ready"},
}

// holdAt starts to boot an image and returns when the boot is at the step.
func holdAt(t *testing.T, s *state, h *hub, ref, layer string, step int, flags ...string) *command {
	t.Helper()
	at := steps[step]
	h.through(nil)
	if at.hold != "" {
		h.through(stuck(t, strings.Replace(at.hold, "/layer", "/"+layer, 1)))
	}
	args := append([]string{"boot", "--progress", "plain"}, flags...)
	c := s.start(append(args, ref, "sh", "-c", "echo ready; exec sleep 1000")...)
	if at.hold == "" {
		c.expect(at.says)
		return c
	}
	c.expectProgress(at.says)
	eventually(t, 20*time.Second, func() error {
		if part := strings.TrimSuffix(at.hold, "layer"); h.asked(part) == 0 {
			return fmt.Errorf("nobody has asked for %s", part)
		}
		return nil
	})
	return c
}

// testHub serves the test image and says what its one layer is called.
func testHub(t *testing.T) (h *hub, ref, layer string) {
	t.Helper()
	img := testImage(t)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	h = newHub(t)
	return h, h.push(t, "test/busybox", img), digest.String()
}

// A boot that is interrupted while it waits for something ends soon, and leaves
// nothing.
func TestInterruptAtStep(t *testing.T) {
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			for _, flags := range [][]string{nil, {"--detach"}} {
				if flags != nil && step.hold == "" {
					continue // it would have come back
				}
				s := newState(t)
				h, ref, layer := testHub(t)
				c := holdAt(t, s, h, ref, layer, i, append(flags, "--stop-timeout", "1s", "--rm")...)
				begin := time.Now()
				c.signal(syscall.SIGINT)
				r := c.wait()
				if want := map[bool]int{true: codeSlipway, false: 137}[step.hold != ""]; r.code != want {
					t.Errorf("exit status %d, want %d: %s", r.code, want, r.stderr)
				}
				if step.hold != "" {
					r.complains("interrupted")
				}
				if took := time.Since(begin); took > 15*time.Second {
					t.Errorf("it took %s", took)
				}
				s.run("server", "list", "-f", "value").ok().says("")
				s.clean()
			}
		})
	}
}

// An engine that is killed while a server boots leaves what the next one finds and
// puts in order.
func TestKillEngineAtStep(t *testing.T) {
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			h, ref, layer := testHub(t)
			c := holdAt(t, s, h, ref, layer, i)
			s.killEngine()
			c.wait().exits(codeSlipway).complains("the engine has gone")
			h.through(nil)
			s.settled()
			if step.hold == "" {
				s.run("server", "list", "-f", "value", "-c", "Status").ok().says("ACTIVE\n")
			}
			s.deleteAll()
			s.clean()
			s.run("boot", "--rm", ref, "echo", "again").ok().says("again\n")
			s.clean()
		})
	}
}

// settled fails the test unless every server is at rest and whole: it runs, or it
// has stopped, or it failed and says why.
func (s *state) settled() {
	s.t.Helper()
	for line := range strings.Lines(s.run("server", "list", "-f", "value", "-c", "ID", "-c", "Status").ok().stdout) {
		id, status, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch status {
		case "ACTIVE", "SHUTOFF":
		case "ERROR":
			if fault := s.run("server", "show", id, "-f", "value", "-c", "fault").ok().stdout; len(fault) < 10 {
				s.t.Errorf("server %s failed: %s", id, fault)
			}
		case "BUILD":
			// The guest ran already; it goes on to its entrypoint or fails.
			eventually(s.t, deadline, func() error {
				r := s.run("server", "show", id, "-f", "value", "-c", "status")
				if r.code == 0 && r.stdout == "BUILD\n" {
					return fmt.Errorf("server %s is still %s", id, r.stdout)
				}
				return nil
			})
		default:
			s.t.Errorf("server %s is %s", id, status)
		}
	}
}

// The order in which a boot with --progress plain says where it is; the beginning
// says nothing.
var course = []string{
	"", launcher.StepResolve, launcher.StepFetch, launcher.StepClone, launcher.StepDefine, launcher.StepGuest, "ready",
}

// moment is a while after a step of a boot has been reached.
type moment struct {
	step  int
	later time.Duration
}

func (m moment) String() string { return fmt.Sprintf("%s after %q", m.later, course[m.step]) }

// moments returns when to disturb boots: each step has its turn, in random order,
// and twice, since some are short and others have parts that do not show.
func moments(t *testing.T) []moment {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var all []moment
	for i := range 2 * len(course) {
		m := moment{i % len(course), time.Duration(random.Int64N(int64(150 * time.Millisecond)))}
		if course[m.step] == launcher.StepGuest {
			m.later *= 10 // the longest by far
		}
		all = append(all, m)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// wait returns when the call has come to a moment of its boot, or has ended. A
// step that is too short to be seen is over when a later one is seen.
func (m moment) wait(c *command) {
	reached := func() bool {
		said := c.stderr.String() + c.stdout.String()
		return slices.ContainsFunc(course[m.step:], func(step string) bool { return strings.Contains(said, step) })
	}
	for !reached() {
		select {
		case <-c.ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
	time.Sleep(m.later)
}

// A boot that is interrupted at any moment leaves nothing.
func TestInterruptAnytime(t *testing.T) {
	t.Parallel()
	s := newState(t)
	for _, m := range moments(t) {
		c := s.start("boot", "--rm", "--progress", "plain", "--stop-timeout", "0s", busybox, "sh", "-c", "echo ready; exec sleep 1000")
		m.wait(c)
		c.signal(syscall.SIGINT)
		r := c.wait()
		t.Logf("%s: %d, at %q", m, r.code, lastLine(r.stderr))
		// -1: the signal came before the program could take it.
		if r.code != codeSlipway && r.code != 137 && r.code != -1 {
			t.Errorf("%s: exit status %d: %s", m, r.code, r.stderr)
		}
		s.run("server", "list", "-f", "value").ok().says("")
		s.clean()
		if t.Failed() {
			return
		}
	}
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// An engine that is killed at any moment of a boot leaves what the next one puts
// in order, and base images stay whole.
func TestKillEngineAnytime(t *testing.T) {
	t.Parallel()
	s := newState(t)
	s.run("image", "pull", "--quiet", busybox).ok()
	before := digests(t, filepath.Join(s.dir, "rootfs", "layers"))
	for _, m := range moments(t) {
		c := s.start("boot", "--progress", "plain", busybox, "sh", "-c", "echo ready; exec sleep 1000")
		m.wait(c)
		s.killEngine()
		// Before it had asked, it started another engine and went on.
		if r := c.interruptible(); r != nil {
			t.Logf("%s: %d, at %q", m, r.code, lastLine(r.stderr))
		}
		s.settled()
		s.deleteAll()
		s.clean()
		if t.Failed() {
			return
		}
	}
	if after := digests(t, filepath.Join(s.dir, "rootfs", "layers")); !maps.Equal(before, after) {
		t.Errorf("layers before:\n%v\nafter:\n%v", before, after)
	}
	s.run("boot", "--rm", busybox, "echo", "again").ok().says("again\n")
}

// interruptible returns the result of a call that is to end by itself soon. One
// that has found another engine instead is interrupted.
func (c *command) interruptible() *result {
	c.t.Helper()
	select {
	case <-c.ended:
		return c.wait().exits(codeSlipway)
	case <-time.After(2 * time.Second):
	}
	c.signal(syscall.SIGINT)
	c.signal(syscall.SIGINT)
	c.wait()
	return nil
}

// Ctrl-C at a stuck registry ends a pull as well, and what had arrived is no
// obstacle to the next one.
func TestInterruptPull(t *testing.T) {
	t.Parallel()
	s := newState(t)
	h, ref, layer := testHub(t)
	h.through(stuck(t, "/blobs/"+layer))
	c := s.start("image", "pull", ref)
	eventually(t, 20*time.Second, func() error {
		if h.asked(layer) == 0 {
			return fmt.Errorf("nobody has asked for the layer")
		}
		return nil
	})
	c.signal(syscall.SIGINT)
	if r := c.wait(); r.code == 0 {
		t.Errorf("exit status 0: %s", r.stdout)
	}
	s.clean()
	s.run("image", "list", "-f", "value").ok().says("")
	h.through(func(next http.Handler) http.Handler { return next })
	s.run("image", "pull", ref).ok()
}
