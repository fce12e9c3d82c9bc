package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
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
	ended  chan struct{}
	exit   agent.Exit // valid when ended is closed
}

func exitCode(err error) int {
	var start *agent.StartError
	if errors.As(err, &start) {
		return start.Code
	}
	return process.ExitFailure
}

// stageConfig is what the stage, the child that becomes the entrypoint, gets
// from init.
type stageConfig struct {
	Share string      `json:"share"`
	Etc   string      `json:"etc"` // directory of files to lay over /etc
	Spec  *share.Spec `json:"spec"`
}

// stageFailure is what the stage answers where it does not get to the
// entrypoint's execve.
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
	sig, err := share.ParseSignal(g.spec.StopSignal)
	if err != nil {
		return err
	}
	grace := g.spec.Grace
	if grace == 0 {
		grace = share.DefaultGrace
	}
	cgroup, err := makeCgroup(entryCgroup)
	if err != nil {
		return err
	}
	defer cgroup.Close()
	st, err := g.forkStage(cgroup)
	if err != nil {
		return err
	}
	failure, err := st.wait(stageConfig{Share: shareDir, Etc: etcDir, Spec: g.spec})
	if err != nil {
		return err
	}
	if failure != nil {
		<-st.ended
		st.discard()
		return &agent.StartError{Code: failure.Code, Message: failure.Message}
	}
	if err := st.takeTerminal(); err != nil {
		return err
	}
	g.mark(agent.StepStarted)
	g.mu.Lock()
	g.entry = &entrypoint{pid: st.pid, signal: sig, grace: grace, stdin: st.stdin, tty: g.spec.TTY, ended: make(chan struct{})}
	event := agent.Event{Type: agent.EventStarted, At: sinceBoot(), PID: st.pid,
		Timeline: append(agent.Timeline(nil), g.timeline...)}
	g.mu.Unlock()
	g.events.Append(event)
	go g.watch(st)
	return nil
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
func (g *guestState) forkStage(cgroup *os.File) (*stage, error) {
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
	if g.spec.Stdin && !g.spec.TTY {
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
	if g.spec.TTY {
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
func (s *stage) wait(config stageConfig) (*stageFailure, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	_, err = s.config.Write(data)
	s.config.Close()
	if err != nil {
		return nil, fmt.Errorf("configure the stage: %w", err)
	}
	answer, err := io.ReadAll(s.report)
	s.report.Close()
	if err != nil {
		return nil, fmt.Errorf("read the stage's report: %w", err)
	}
	if len(answer) == 0 {
		return nil, nil // closed by a successful execve
	}
	var failure stageFailure
	if err := json.Unmarshal(answer, &failure); err != nil {
		return nil, fmt.Errorf("read the stage's report %q: %w", answer, err)
	}
	return &failure, nil
}

// watch keeps the entrypoint's output and records its end.
func (g *guestState) watch(st *stage) {
	var first sync.Once
	for i, f := range st.out {
		if f == nil {
			g.output.End(agent.Stdout + agent.Stream(i))
			continue
		}
		go g.pump(agent.Stdout+agent.Stream(i), f, &first)
	}
	exit := exitOf(<-st.ended)
	exit.OOMKilled = oomKilled(entryCgroup)
	g.entry.exit = exit
	close(g.entry.ended)
	g.finish(agent.Event{Type: agent.EventExited, PID: st.pid, Exit: &exit})
}

// pump moves one stream of output into the log.
func (g *guestState) pump(s agent.Stream, f *os.File, first *sync.Once) {
	defer f.Close()
	defer g.output.End(s)
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			first.Do(func() { g.mark(agent.StepOutput) })
			if g.output.Append(context.Background(), s, buf[:n]) != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
