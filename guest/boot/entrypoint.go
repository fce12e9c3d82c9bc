package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// entrypoint is the running process of the image.
type entrypoint struct {
	pid    int
	signal syscall.Signal // that asks it to stop
	grace  time.Duration
	stdin  *os.File // nil without input; the terminal's master with one
	tty    bool
	began  time.Time
	kills  uint64 // by the kernel for want of memory, before it
	ended  chan struct{}
	exit   agent.Exit // valid when ended is closed
	// timedOut says that it was killed for its grace period's end.
	timedOut atomic.Bool
}

func exitCode(err error) int {
	var start *agent.StartError
	if errors.As(err, &start) {
		return start.Code
	}
	return process.ExitFailure
}

// stageConfig is what the stage, the child that becomes the entrypoint, gets from
// init, as a line of JSON. The specification follows it as it came with the seed.
type stageConfig struct {
	Share string `json:"share"`
	Etc   string `json:"etc"` // directory of files to lay over /etc
	// Hostname and Env stand for those of the specification.
	Hostname string   `json:"hostname"`
	Env      []string `json:"env"`
	// First says that the entrypoint has not run yet: its root is as the host has seen it,
	// and is to be configured as the seed says.
	First bool `json:"first,omitempty"`
}

// stageReport is what the stage says: warnings, and then, where it does not get to
// the entrypoint's execve, why.
type stageReport struct {
	Warning string        `json:"warning,omitempty"`
	Failure *stageFailure `json:"failure,omitempty"`
}

type stageFailure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// StageArg is the argument that makes slipway-init the stage.
const StageArg = "entrypoint"

// Descriptors of the stage beside the standard streams.
const (
	stageConfigFD = 3
	stageReportFD = 4
	// With a terminal: a socket by which the stage sends its master.
	stageTerminalFD = 5
)

func (g *guestState) startEntrypoint() error {
	g.awaitClock()
	if g.configures() {
		// Its mounts and swap may ask for them, and nothing in a guest loads modules by itself.
		if err := g.modules.loadAll([]string{"virtio_blk", "isofs", "loop"}); err != nil {
			return err
		}
	}
	st, err := g.launch()
	if err != nil {
		return err
	}
	go func() {
		if err := g.supervise(st); err != nil {
			g.fail(err)
		} else if g.cmdline.alone() {
			g.end()
		}
	}()
	return nil
}

// launch starts the entrypoint, for the first time or again.
func (g *guestState) launch() (*stage, error) {
	sig, err := share.ParseSignal(g.spec.StopSignal)
	if err != nil {
		return nil, err
	}
	grace := g.spec.Grace
	if grace == 0 {
		grace = share.DefaultGrace
	}
	cgroup, err := makeCgroup(entryCgroup)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	if err := limitProcesses(entryCgroup, g.spec.PidsLimit); err != nil {
		return nil, err
	}
	st, err := g.takeStage(cgroup)
	if err != nil {
		return nil, err
	}
	failure, err := st.wait(stageConfig{
		Share: shareDir, Etc: etcDir, First: g.entry == nil,
		Hostname: g.spec.Hostname, Env: g.spec.Env,
	}, g.seedSpec, g.warn)
	if err != nil {
		return nil, err
	}
	if failure != nil {
		<-st.ended
		st.discard()
		return nil, &agent.StartError{Code: failure.Code, Message: failure.Message}
	}
	if err := st.takeTerminal(); err != nil {
		return nil, err
	}
	if g.spec.InitMode == share.InitSystem && g.spec.StopSignal == "" {
		sig = systemStopSignal(st.pid)
	}
	g.started(&entrypoint{pid: st.pid, signal: sig, grace: grace, stdin: st.stdin, tty: g.spec.TTY,
		began: time.Now(), kills: oomKills(entryCgroup), ended: make(chan struct{})})
	return st, nil
}

// started makes e the entrypoint, and tells the host.
func (g *guestState) started(e *entrypoint) {
	g.mu.Lock()
	again := g.entry != nil
	g.entry = e
	stop := g.stop
	event := agent.Event{Type: agent.EventStarted, At: sinceBoot(), PID: e.pid, Restarts: g.restarts}
	if !again {
		go g.greet(e.pid)
		g.timeline = append(g.timeline, agent.Timing{Step: agent.StepStarted, At: event.At})
		event.Timeline = append(agent.Timeline(nil), g.timeline...)
	}
	g.mu.Unlock()
	g.events.Append(event)
	if stop != nil { // asked for while it was on its way
		_ = g.stopEntrypoint(e, *stop)
	}
	if h := g.spec.Healthcheck.Defaults(); h.Enabled() {
		go g.watchHealth(e, h)
	}
}

// stage is the child on its way to the entrypoint.
type stage struct {
	pid    int
	ended  <-chan unix.WaitStatus
	config *os.File
	report *os.File
	stdin  *os.File
	out    [2]*os.File
	socket *os.File // that the terminal comes by
	pumps  sync.WaitGroup
}

func (s *stage) discard() { closeAll(append(s.out[:], s.stdin, s.socket)) }

// takeTerminal makes the terminal, if there is one, the stage's input and
// output.
func (s *stage) takeTerminal() error {
	if s.socket == nil {
		return nil
	}
	defer s.socket.Close()
	master, err := receiveTerminal(s.socket)
	if err != nil {
		return err
	}
	closeAll(append(s.out[:], s.stdin))
	s.stdin, s.out = master, [2]*os.File{master, nil}
	return nil
}

// forkStage executes init again, in the entrypoint's namespaces.
func (g *guestState) forkStage(cgroup *os.File, spec *share.Spec) (*stage, error) {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	s := &stage{}
	stdin, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if spec.Stdin && !spec.TTY {
		stdin.Close()
		if stdin, s.stdin, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	theirs = append(theirs, stdin)
	pipe := func() (r, w *os.File) {
		if err == nil {
			r, w, err = os.Pipe()
		}
		return r, w
	}
	var stdout, stderr, config, report *os.File
	s.out[0], stdout = pipe()
	s.out[1], stderr = pipe()
	config, s.config = pipe()
	s.report, report = pipe()
	if err != nil {
		return nil, err
	}
	theirs = append(theirs, stdout, stderr, config, report)
	if spec.TTY {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		s.socket = os.NewFile(uintptr(pair[0]), "terminal")
		theirs = append(theirs, os.NewFile(uintptr(pair[1]), "terminal"))
	}
	var files []uintptr
	for _, f := range theirs {
		files = append(files, f.Fd())
	}
	s.pid, s.ended, err = g.reaper.start(func() (int, error) {
		return syscall.ForkExec("/proc/self/exe", []string{"slipway-init", StageArg}, &syscall.ProcAttr{
			Env:   []string{},
			Files: files,
			Sys: &syscall.SysProcAttr{
				Cloneflags:  unix.CLONE_NEWPID | unix.CLONE_NEWNS,
				Setsid:      true,
				UseCgroupFD: true,
				CgroupFD:    int(cgroup.Fd()),
			},
		})
	})
	return s, err
}

// wait hands the stage its configuration and waits until it has executed the
// entrypoint or says why not.
func (s *stage) wait(config stageConfig, spec []byte, warn func(string)) (*stageFailure, error) {
	line, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	_, err = s.config.Write(slices.Concat(line, []byte("\n"), spec))
	s.config.Close()
	if err != nil {
		return nil, fmt.Errorf("configure the stage: %w", err)
	}
	defer s.report.Close()
	for reports := json.NewDecoder(s.report); ; {
		var r stageReport
		err := reports.Decode(&r)
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil // closed by a successful execve
		case err != nil:
			return nil, fmt.Errorf("read the stage's report: %w", err)
		case r.Failure != nil:
			return r.Failure, nil
		}
		warn(r.Warning)
	}
}

// supervise stays with the entrypoint, and restarts it, until it has ended for
// good.
func (g *guestState) supervise(st *stage) error {
	var backoff share.Backoff
	for {
		exit := g.live(st)
		ran := time.Since(g.entry.began)
		count, again := g.wantsRestart(exit)
		if !again {
			g.finish(agent.Event{Type: agent.EventExited, PID: st.pid, Exit: &exit})
			g.endOutput()
			return nil
		}
		wait := backoff.Next(ran)
		g.events.Append(agent.Event{Type: agent.EventRestarting, At: sinceBoot(), PID: st.pid, Exit: &exit, Restarts: count, Wait: wait})
		// Nothing of one life's output may come after the next one's.
		st.pumps.Wait()
		select {
		case <-time.After(wait):
		case <-g.stopped:
		}
		if !g.restartable() {
			g.finish(agent.Event{Type: agent.EventExited, PID: st.pid, Exit: &exit})
			g.endOutput()
			return nil
		}
		var err error
		if st, err = g.launch(); err != nil {
			return fmt.Errorf("restart the entrypoint: %w", err)
		}
	}
}

// wantsRestart counts the restart that an entrypoint's end calls for, if it
// does.
func (g *guestState) wantsRestart(exit agent.Exit) (count int, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.final || exit.Reboot || !g.spec.Restart.Wanted(exit.Code, g.restarts) {
		return g.restarts, false
	}
	g.restarts++
	return g.restarts, true
}

func (g *guestState) restartable() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.final
}

// forbidRestart makes the entrypoint's next end the last.
func (g *guestState) forbidRestart() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.final {
		g.final = true
		close(g.stopped)
	}
}

// live keeps what the entrypoint writes and waits for its end.
func (g *guestState) live(st *stage) agent.Exit {
	for i, f := range st.out {
		if f != nil {
			st.pumps.Go(func() { g.pump(agent.Stdout+agent.Stream(i), f) })
		}
	}
	// All that can still write to a stream ends with the pid namespace, and the
	// pumps soon after.
	g.pumps = &st.pumps
	exit := g.exitOf(<-st.ended)
	e := g.entry
	exit.OOMKilled = oomKills(entryCgroup) > e.kills
	exit.TimedOut = e.timedOut.Load()
	e.exit = exit
	close(e.ended)
	if st.stdin != nil && st.stdin != st.out[0] {
		st.stdin.Close()
	}
	return exit
}

// endOutput ends both streams when all of the last life's output is in the log.
func (g *guestState) endOutput() {
	if g.pumps != nil {
		g.pumps.Wait()
	}
	g.output.End(agent.Stdout)
	g.output.End(agent.Stderr)
}

// keep holds output for the host; without one it goes to the console.
func (g *guestState) keep(s agent.Stream, data []byte) error {
	if g.cmdline.alone() {
		_, err := os.Stdout.Write(data)
		return err
	}
	g.showOnConsole(data)
	return g.output.Append(context.Background(), s, data)
}

// pump moves one stream of output into the log.
func (g *guestState) pump(s agent.Stream, f *os.File) {
	defer f.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			g.wrote.Do(func() { g.mark(agent.StepOutput) })
			if g.keep(s, buf[:n]) != nil {
				return
			}
		}
		if err != nil && !g.hungUp(err) {
			return
		}
	}
}
