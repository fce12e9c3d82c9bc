// Package launchertest stands in for what a Manager works with: a Hypervisor
// whose guests are goroutines behind a real agent, a Store that can fail, and
// images with a program in them. It proves the manager's own logic; that real
// guests do the same is for tests that boot them.
package launchertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// Program is what a guest's entrypoint does. It returns when ctx ends, which is
// what SIGKILL does to it, or before.
type Program func(ctx context.Context, p *Process) agent.Exit

// Process is an entrypoint as its program sees it.
type Process struct {
	Spec guest.Spec
	// Stop is closed when the stop signal arrives.
	Stop   <-chan struct{}
	output *agent.OutputLog
}

// Write writes to a stream, waiting for the host where it is behind.
func (p *Process) Write(ctx context.Context, s agent.Stream, text string) {
	_ = p.output.Append(ctx, s, []byte(text))
}

// Hypervisor runs programs as guests. It outlives managers, as a real one does.
// It implements launcher.Hypervisor.
type Hypervisor struct {
	// Programs are found by the first argument of an entrypoint.
	Programs map[string]Program
	// Commands are what can be executed beside an entrypoint, by the first argument:
	// they are given their whole input, and return their status and what they say. One
	// that is nil is not in the image.
	Commands map[string]func(input string) (code int, said string)
	// StartError makes Start fail, PauseError Pause and Unpause.
	StartError, PauseError error
	// Mute makes guests that never answer; DieEarly makes them end before that.
	Mute, DieEarly bool
	// Late tells of each domain's start only after an end, as if of one before.
	Late bool
	// Gate holds Start up until it is closed.
	Gate chan struct{}

	mu       sync.Mutex
	started  int
	guests   map[string]*fakeGuest
	watchers []func(launcher.DomainEvent)
}

type fakeGuest struct {
	name   string
	paused bool
	off    context.CancelFunc
	ended  chan struct{}
	listen net.Listener
	nics   []domain.NIC
}

// Start implements launcher.Hypervisor.
func (h *Hypervisor) Start(start context.Context, d domain.Spec) error {
	if h.StartError != nil {
		return h.StartError
	}
	if h.Gate != nil {
		<-h.Gate
	}
	if _, err := d.XML(); err != nil {
		return err
	}
	standby := slices.Contains(strings.Fields(d.CommandLine), guest.ArgStandby)
	if !standby {
		if _, err := readSpec(d.Share); err != nil {
			return err
		}
	}
	_ = os.Remove(d.AgentSocket)
	l, err := new(net.ListenConfig).Listen(start, "unix", d.AgentSocket)
	if err != nil {
		return err
	}
	ctx, off := context.WithCancel(context.Background())
	g := &fakeGuest{name: d.Name, off: off, ended: make(chan struct{}), listen: l}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.guests[d.Name] != nil {
		off()
		return errors.Join(fmt.Errorf("domain %s exists", d.Name), l.Close())
	}
	if h.guests == nil {
		h.guests = map[string]*fakeGuest{}
	}
	h.guests[d.Name] = g
	h.started++
	go h.live(ctx, g, d.Share, standby)
	return nil
}

func readSpec(share string) (spec guest.Spec, err error) {
	b, err := os.ReadFile(filepath.Join(share, guest.SpecFile))
	if err == nil {
		err = json.Unmarshal(b, &spec)
	}
	return spec, err
}

// live is a guest from its start to its power-off.
func (h *Hypervisor) live(ctx context.Context, g *fakeGuest, share string, standby bool) {
	defer h.gone(g)
	if h.Late {
		h.tell(g.name, launcher.PowerShutdown)
	}
	h.tell(g.name, launcher.PowerRunning)
	if h.DieEarly {
		return
	}
	if h.Mute {
		<-ctx.Done()
		return
	}
	c := &control{commands: h.Commands, off: g.off, stop: make(chan struct{}), began: time.Now(), standby: standby, server: make(chan struct{})}
	s := &agent.Server{Control: c, Output: agent.NewOutputLog(0), Events: agent.NewEventLog()}
	go func() { _ = s.Serve(ctx, &port{l: g.listen, ctx: ctx}) }()
	fail := func(why string) {
		s.Output.End(agent.Stdout)
		s.Output.End(agent.Stderr)
		s.Events.Append(agent.Event{Type: agent.EventFailed, Exit: &agent.Exit{Code: 127, Err: why}})
		<-ctx.Done()
	}
	if standby {
		select {
		case <-c.server:
		case <-ctx.Done():
			return
		}
	}
	spec, err := readSpec(share)
	if err != nil {
		fail(err.Error())
		return
	}
	program := h.Programs[spec.Args[0]]
	if program == nil {
		fail(spec.Args[0] + ": no such program")
		return
	}
	running, kill := context.WithCancel(ctx)
	c.run(kill)
	s.Events.Append(agent.Event{Type: agent.EventStarted, At: time.Since(c.began), PID: 1, Timeline: agent.Timeline{{Step: agent.StepInit}}})
	exit := program(running, &Process{Spec: spec, Stop: c.stop, output: s.Output})
	if running.Err() != nil {
		exit = agent.Exit{Code: 137, Signal: 9}
	}
	c.end()
	kill()
	s.Output.End(agent.Stdout)
	s.Output.End(agent.Stderr)
	s.Events.Append(agent.Event{Type: agent.EventExited, Exit: &exit})
	<-ctx.Done()
}

func (h *Hypervisor) gone(g *fakeGuest) {
	_ = g.listen.Close()
	h.mu.Lock()
	delete(h.guests, g.name)
	h.mu.Unlock()
	close(g.ended)
	h.tell(g.name, launcher.PowerShutdown)
}

// tell calls the watchers.
func (h *Hypervisor) tell(name string, state launcher.PowerState) {
	h.mu.Lock()
	watchers := h.watchers
	h.mu.Unlock()
	for _, f := range watchers {
		f(launcher.DomainEvent{Domain: name, State: state})
	}
}

// Destroy implements launcher.Hypervisor.
func (h *Hypervisor) Destroy(_ context.Context, name string) error {
	h.mu.Lock()
	g := h.guests[name]
	h.mu.Unlock()
	if g != nil {
		g.off()
		<-g.ended
	}
	return nil
}

// Domains implements launcher.Hypervisor.
func (h *Hypervisor) Domains(context.Context) (map[string]launcher.PowerState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[string]launcher.PowerState{}
	for name := range h.guests {
		found[name] = launcher.PowerRunning
		if h.guests[name].paused {
			found[name] = launcher.PowerPaused
		}
	}
	return found, nil
}

// Pause implements launcher.Pauser; the guest's program goes on all the same.
func (h *Hypervisor) Pause(_ context.Context, name string) error {
	return h.hold(name, true, launcher.PowerPaused)
}

// Unpause implements launcher.Pauser.
func (h *Hypervisor) Unpause(_ context.Context, name string) error {
	return h.hold(name, false, launcher.PowerRunning)
}

func (h *Hypervisor) hold(name string, paused bool, state launcher.PowerState) error {
	if h.PauseError != nil {
		return h.PauseError
	}
	h.mu.Lock()
	g := h.guests[name]
	if g != nil {
		g.paused = paused
	}
	h.mu.Unlock()
	if g == nil {
		return fmt.Errorf("domain %s: %w", name, launcher.ErrNotFound)
	}
	h.tell(name, state)
	return nil
}

// AttachInterface implements launcher.Hotplugger.
func (h *Hypervisor) AttachInterface(_ context.Context, name string, n domain.NIC) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[name]
	if g == nil {
		return fmt.Errorf("domain %s: %w", name, launcher.ErrNotFound)
	}
	g.nics = append(g.nics, n)
	return nil
}

// DetachInterface implements launcher.Hotplugger.
func (h *Hypervisor) DetachInterface(_ context.Context, name, mac string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.guests[name]; g != nil {
		g.nics = slices.DeleteFunc(g.nics, func(n domain.NIC) bool { return n.MAC == mac })
	}
	return nil
}

// NICs are the interfaces that a running domain has.
func (h *Hypervisor) NICs(name string) []domain.NIC {
	h.mu.Lock()
	defer h.mu.Unlock()
	if g := h.guests[name]; g != nil {
		return slices.Clone(g.nics)
	}
	return nil
}

// Watch implements launcher.Hypervisor.
func (h *Hypervisor) Watch(f func(launcher.DomainEvent)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = append(h.watchers, f)
}

// Started is how many guests have been started.
func (h *Hypervisor) Started() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started
}

// Forget drops the watchers, as the end of their process does.
func (h *Hypervisor) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = nil
}

// control is the guest's side of those calls that the manager makes by itself; a
// call of another kind panics.
type control struct {
	agent.Control

	commands map[string]func(string) (int, string)
	off      func()
	began    time.Time

	mu      sync.Mutex
	kill    func()
	running bool
	stopped bool
	stop    chan struct{}

	standby  bool
	assigned sync.Once
	server   chan struct{} // closed once it is assigned
}

func (c *control) run(kill func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill, c.running = kill, true
}

func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running = false
}

func (c *control) Hello() agent.Hello {
	hello := agent.Hello{Version: agent.Version, Kernel: "fake", Standby: c.standby}
	select {
	case <-c.server:
		hello.Standby = false
	default:
	}
	return hello
}

func (c *control) SetClock(time.Time) {}

func (c *control) Assign(time.Time) { c.assigned.Do(func() { close(c.server) }) }

func (c *control) SetInterfaces([]share.Interface) error { return nil }

func (c *control) Clock(time.Duration) (time.Time, error) { return time.Now(), nil }

func (c *control) Freeze() error { return nil }

func (c *control) Thaw() error { return nil }

func (c *control) Signal(sig int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.running:
		return agent.ErrNotRunning
	case sig == 9:
		c.kill()
	case !c.stopped:
		c.stopped = true
		close(c.stop)
	}
	return nil
}

func (c *control) Stop(grace time.Duration) (int, error) {
	if err := c.Signal(15); err != nil {
		return 0, err
	}
	time.AfterFunc(max(0, grace), func() { _ = c.Signal(9) })
	return 15, nil
}

func (c *control) Shutdown() (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return nil, agent.ErrRunning
	}
	return c.off, nil
}

// port is the guest's end of a socket that one host at a time connects to: it
// reads as ended each time the host goes, and goes on with the next.
type port struct {
	l   net.Listener
	ctx context.Context //nolint:containedctx // a port lives as long as its guest

	mu   sync.Mutex
	conn net.Conn
}

func (p *port) current() (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		c, err := p.l.Accept()
		if err != nil {
			return nil, err
		}
		p.conn = c
		context.AfterFunc(p.ctx, func() { _ = c.Close() })
	}
	return p.conn, nil
}

func (p *port) Read(b []byte) (int, error) {
	c, err := p.current()
	if err != nil {
		return 0, err
	}
	n, err := c.Read(b)
	if err != nil {
		p.mu.Lock()
		p.conn = nil
		p.mu.Unlock()
		_ = c.Close()
		if p.ctx.Err() == nil {
			err = io.EOF
		}
	}
	return n, err
}

func (p *port) Write(b []byte) (int, error) {
	c, err := p.current()
	if err != nil {
		return 0, err
	}
	n, err := c.Write(b)
	if err != nil && p.ctx.Err() == nil {
		return len(b), nil // lost with the host, as on the real port
	}
	return n, err
}
