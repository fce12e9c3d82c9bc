package boot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// shareDir is where the share is mounted: by init, or, in a guest of another system,
// by that.
var shareDir = "/share"

// failureWait is how long a guest whose boot failed waits for a host to have
// heard of it. An entrypoint's end is waited for without limit; but a guest
// that never ran one has nothing to keep.
const failureWait = 10 * time.Second

// guestState is what the steps of a boot hand to one another and what the
// agent's calls see.
type guestState struct {
	cmdline cmdline
	spec    *share.Spec
	// seedSpec is spec as it came.
	seedSpec []byte
	modules  *loader
	later    []string // modules to load when the entrypoint runs
	reaper   *reaper
	output   *agent.OutputLog
	events   *agent.EventLog

	mu         sync.Mutex
	instanceID string
	timeline   agent.Timeline
	entry      *entrypoint // the latest; nil until started
	restarts   int
	final      bool           // the entrypoint will not be restarted
	stopped    chan struct{}  // closed with final
	stop       *time.Duration // the grace of a stop that was asked for
	ended      bool           // the entrypoint has ended or will never start
	reboot     bool           // the server is to boot again once it has ended
	console    *os.File       // that shows what the entrypoint writes; nil: none

	pumps *sync.WaitGroup // of the latest life; supervise's
	wrote sync.Once       // the first output
	clock clock

	assigned struct { // of a guest that stands by
		sync.Once
		done chan struct{}
	}
	ahead *stage // started while it stood by

	powerOff  chan struct{}
	once      sync.Once
	rebooting atomic.Bool // instead of powering off
}

// Main is PID 1. It does not return. A panic in it is one of the kernel's too,
// which under panic=-1 ends the guest.
func Main() {
	start := sinceBoot()
	if os.Getpid() != 1 {
		logf("this program is PID 1 of a guest and nothing else")
		os.Exit(2)
	}
	g := newGuest()
	g.timeline = agent.Timeline{{Step: agent.StepInit, At: start}}
	// The main thread stays out of everything: threads that join other
	// namespaces end with what they did, and this one cannot end.
	go func() {
		if err := guarded(g.run); err != nil {
			g.fail(err)
		}
	}()
	<-g.powerOff
	if g.rebooting.Load() {
		reboot()
	}
	powerOff()
}

func newGuest() *guestState {
	g := &guestState{
		reaper:   newReaper(),
		output:   agent.NewOutputLog(0),
		events:   agent.NewEventLog(),
		stopped:  make(chan struct{}),
		clock:    newClock(),
		powerOff: make(chan struct{}),
	}
	g.assigned.done = make(chan struct{})
	return g
}

// guarded makes an error of a panic of ours, which is to be told like any other
// failure.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			logf("panic: %v\n%s", v, debug.Stack())
			err = fmt.Errorf("panic in slipway-init: %v", v)
		}
	}()
	return f()
}

// run makes the boot's steps in order.
func (g *guestState) run() error {
	if err := mountEarly(); err != nil {
		return err
	}
	var err error
	if g.cmdline, err = readCommandLine(); err != nil {
		return err
	}
	if g.cmdline.probe {
		fmt.Printf("%s, %d ms after the machine's start\n", share.ProbeLine, g.begun().Milliseconds())
		powerOff()
	}
	go g.reaper.run()
	steps := []struct {
		name string
		run  func() error
		mark string
	}{
		{"load modules", g.loadModules, agent.StepModules},
		{"open the agent's port", g.serveAgent, agent.StepAgent},
		{"mount the share", g.mountShare, agent.StepRoot},
		{"stand by", g.standBy, ""},
		{"ask who this is", g.askSource, ""},
		{"read the seed", g.readSeed, ""},
		{"set up the guest", g.setUp, ""},
		{"keep leases", g.keepLeases, ""},
		{"start the entrypoint", g.startEntrypoint, ""},
	}
	for _, step := range steps {
		if g.cmdline.debug {
			logf("%s", step.name)
		}
		if err := step.run(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if step.mark != "" {
			g.mark(step.mark)
		}
	}
	go g.loadRemaining()
	return nil
}

// fail reports why the boot has ended, and ends it.
func (g *guestState) fail(err error) {
	logf("%v", err)
	wait := failureWait
	if g.cmdline.alone() {
		logf("%s", share.ConsoleEndLine(exitCode(err)))
		if g.spec != nil {
			wait = max(wait, g.spec.Linger)
		}
	}
	g.finish(agent.Event{Type: agent.EventFailed, Exit: &agent.Exit{Code: exitCode(err), Err: err.Error()}})
	g.endOutput()
	var start *agent.StartError
	if g.cmdline.alone() || !errors.As(err, &start) {
		time.AfterFunc(wait, g.requestPowerOff)
	}
}

// finish records the entrypoint's end.
func (g *guestState) finish(e agent.Event) {
	g.mark(agent.StepEnded)
	g.mu.Lock()
	g.ended = true
	e.At = sinceBoot()
	e.Timeline = append(agent.Timeline(nil), g.timeline...)
	g.mu.Unlock()
	g.events.Append(e)
}

func (g *guestState) mark(step string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timeline = append(g.timeline, agent.Timing{Step: step, At: sinceBoot()})
}

func (g *guestState) requestPowerOff() { g.once.Do(func() { close(g.powerOff) }) }

func (g *guestState) readSeed() error {
	data, err := os.ReadFile(filepath.Join(shareDir, share.SpecFile))
	if err != nil {
		return err
	}
	if g.spec, err = share.ParseSpec(data); err != nil {
		return err
	}
	g.seedSpec = data
	g.restarts = g.spec.Restart.Count
	if g.spec.InstanceID == "" || g.spec.Hostname == "" {
		if err := g.readMetaData(); err != nil {
			return err
		}
	}
	if g.spec.InitMode == share.InitSystem {
		g.spec.Env = append(g.spec.Env, systemEnv(g.spec.InstanceID)...)
		g.console = os.Stdout
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.instanceID = g.spec.InstanceID
	return nil
}

// readMetaData completes the spec by the seed's meta-data, if there is one.
func (g *guestState) readMetaData() error {
	data, err := os.ReadFile(filepath.Join(shareDir, share.SeedDir, metaDataFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if g.spec.InstanceID == "" {
		g.spec.InstanceID = metaValue(data, "instance-id")
	}
	if g.spec.Hostname == "" {
		g.spec.Hostname = metaValue(data, "local-hostname")
	}
	return nil
}

func (g *guestState) serveAgent() error {
	if g.cmdline.alone() {
		go g.watchPowerButton()
		return nil
	}
	port, err := openPort(share.AgentPort)
	if err != nil {
		return err
	}
	server := &agent.Server{Control: (*control)(g), Output: g.output, Events: g.events}
	g.clock.hosted = port.hosted
	go func() {
		err := server.Serve(context.Background(), port)
		// Without its agent nobody could ever end this guest in order.
		logf("agent: %v", err)
		g.requestPowerOff()
	}()
	return nil
}

// entered is the time-stamp counter at PID 1's first instruction, see tsc_amd64.s; QEMU
// has it begin at nought.
var entered uint64

// begun is when PID 1 was started: since the machine's start where the counter and its
// frequency are known, else since the kernel began to keep time.
func (g *guestState) begun() time.Duration {
	if khz := g.cmdline.tscKHz; khz > 0 && entered > 0 {
		return time.Duration(entered/khz) * time.Millisecond
	}
	return g.timeline[0].At
}

func sinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// logf writes to the console, which init's standard streams are.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, share.ConsolePrefix+format+"\n", args...)
}
