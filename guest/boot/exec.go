package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/process"
)

// sibling is a process that was executed beside the entrypoint.
type sibling struct {
	pid     int
	stdin   *os.File
	outputs [2]*os.File // stdout and stderr, or a terminal
	tty     bool
	ended   chan struct{}
	exit    agent.Exit // valid when ended is closed
	once    sync.Once
}

// Exec implements agent.Control.
func (c *control) Exec(req agent.ExecRequest) (agent.Process, error) {
	g := (*guestState)(c)
	e, err := c.running()
	if err != nil {
		return nil, err
	}
	spec := g.spec
	want := process.Request{
		Args: req.Args, Env: append(slices.Clone(spec.Env), req.Env...), User: req.User, Groups: spec.GroupAdd,
		Dir: req.Dir, Hostname: spec.Hostname, TTY: req.TTY,
	}
	if want.User == "" {
		want.User = spec.User
	}
	if want.Dir == "" {
		want.Dir = spec.Dir
	}
	type result struct {
		p   *sibling
		err error
	}
	done := make(chan result)
	go func() {
		// The thread joins the entrypoint's namespaces and cannot come back:
		// it ends with this goroutine, which stays locked to it.
		runtime.LockOSThread()
		p, err := g.execInside(e.pid, want, req)
		done <- result{p, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, r.err
	}
	return r.p, nil
}

// execInside is called on a thread of its own.
func (g *guestState) execInside(pid int, want process.Request, req agent.ExecRequest) (*sibling, error) {
	cgroup, err := os.Open(cgroupOf(pid))
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	if err := joinNamespaces(pid); err != nil {
		return nil, err
	}
	root, err := process.OpenRoot("/")
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := process.Resolve(root, want)
	if err != nil {
		return nil, startFailure(err)
	}
	if _, err := root.Stat(p.Dir); err != nil {
		return nil, startFailure(fmt.Errorf("working directory %s: %w: %w", p.Dir, process.ErrNotFound, err))
	}
	s := &sibling{tty: req.TTY, ended: make(chan struct{})}
	theirs, err := s.openStreams(req, p.Identity)
	defer closeAll(theirs)
	if err != nil {
		s.release()
		return nil, err
	}
	attr := &syscall.ProcAttr{
		Dir: p.Dir,
		Env: p.Env,
		Sys: &syscall.SysProcAttr{
			Setsid:      true,
			Setctty:     req.TTY,
			Credential:  &syscall.Credential{Uid: p.UID, Gid: p.GID, Groups: p.Groups},
			UseCgroupFD: true,
			CgroupFD:    int(cgroup.Fd()),
		},
	}
	for _, f := range theirs {
		attr.Files = append(attr.Files, f.Fd())
	}
	if !req.Privileged {
		if err := confine(&g.spec.Options); err != nil {
			s.release()
			return nil, err
		}
	}
	// One that is to be limited stops before its first instruction.
	attr.Sys.Ptrace = limited(&g.spec.Options)
	child, ended, err := g.reaper.start(func() (int, error) { return syscall.ForkExec(p.Path, p.Args, attr) })
	if err != nil {
		s.release()
		return nil, startFailure(process.StartError(p, err))
	}
	s.pid = child
	if attr.Sys.Ptrace {
		if err := g.limitStopped(child); err != nil {
			_ = unix.Kill(child, unix.SIGKILL)
			s.release()
			return nil, err
		}
	}
	go func() {
		status := <-ended
		s.exit = exitOf(status)
		close(s.ended)
	}()
	return s, nil
}

// limitStopped sets the limits of a child that the calling thread traces, and
// lets it go.
func (g *guestState) limitStopped(child int) error {
	g.reaper.awaitStop(child)
	set := make(chan error)
	// This thread sees the entrypoint's /proc; others see init's.
	go func() { set <- limit(child, fmt.Sprintf("/proc/%d", child), &g.spec.Options) }()
	return errors.Join(<-set, unix.PtraceDetach(child))
}

func startFailure(err error) error {
	return &agent.StartError{Code: process.ExitCode(err), Message: err.Error()}
}

func exitOf(status unix.WaitStatus) agent.Exit {
	exit := agent.Exit{Code: status.ExitStatus()}
	if status.Signaled() {
		exit.Signal = int(status.Signal())
		exit.Code = 128 + exit.Signal
	}
	return exit
}

// joinNamespaces moves the calling thread into the mount and cgroup namespaces
// and the root of a process, and its children to come into the pid namespace.
func joinNamespaces(pid int) error {
	dir := "/proc/" + strconv.Itoa(pid)
	root, err := unix.Open(dir+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", agent.ErrNotRunning, err)
	}
	defer unix.Close(root)
	namespaces := []struct {
		name string
		flag int
		fd   int
	}{{"cgroup", unix.CLONE_NEWCGROUP, -1}, {"pid", unix.CLONE_NEWPID, -1}, {"mnt", unix.CLONE_NEWNS, -1}}
	for i := range namespaces {
		fd, err := unix.Open(dir+"/ns/"+namespaces[i].name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%w: %w", agent.ErrNotRunning, err)
		}
		defer unix.Close(fd)
		namespaces[i].fd = fd
	}
	// A thread that shares its root and directory with others may not change
	// its mount namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	for _, ns := range namespaces {
		if err := unix.Setns(ns.fd, ns.flag); err != nil {
			return fmt.Errorf("join the %s namespace: %w", ns.name, err)
		}
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	return unix.Chroot(".")
}

// openStreams makes the standard streams and returns the process's ends.
func (s *sibling) openStreams(req agent.ExecRequest, id process.Identity) (theirs []*os.File, err error) {
	if req.TTY {
		master, slave, err := openTerminal(id, req.Size)
		if err != nil {
			return nil, err
		}
		s.stdin, s.outputs[0] = master, master
		return []*os.File{slave, slave, slave}, nil
	}
	var in *os.File
	if req.Stdin {
		in, s.stdin, err = os.Pipe()
	} else {
		in, err = os.OpenFile("/dev/null", os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	theirs = []*os.File{in}
	for i := range s.outputs {
		var out *os.File
		if s.outputs[i], out, err = os.Pipe(); err != nil {
			return theirs, err
		}
		theirs = append(theirs, out)
	}
	for _, f := range theirs {
		if err := f.Chown(int(id.UID), int(id.GID)); err != nil && f != in {
			return theirs, err
		}
	}
	return theirs, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// Stdin implements agent.Process.
func (s *sibling) Stdin() io.WriteCloser {
	switch {
	case s.stdin == nil:
		return nil
	case s.tty:
		return terminalInput{s.stdin}
	}
	return s.stdin
}

// Outputs implements agent.Process.
func (s *sibling) Outputs() (out [2]io.Reader) {
	for i, f := range s.outputs {
		if f != nil {
			out[i] = &output{f: f, ended: s.ended}
		}
	}
	return out
}

// Signal implements agent.Process.
func (s *sibling) Signal(sig int) error {
	select {
	case <-s.ended:
		return agent.ErrNotRunning
	default:
	}
	return kill(s.pid, syscall.Signal(sig))
}

// Resize implements agent.Process.
func (s *sibling) Resize(size agent.WindowSize) error {
	if !s.tty {
		return agent.ErrInvalid
	}
	return resizeTerminal(s.stdin, size)
}

// Wait implements agent.Process.
func (s *sibling) Wait() agent.Exit {
	<-s.ended
	return s.exit
}

// Close implements agent.Process. It kills the process and those of its group,
// which it leads.
func (s *sibling) Close() {
	s.once.Do(func() {
		select {
		case <-s.ended:
		default:
			_ = unix.Kill(-s.pid, unix.SIGKILL)
		}
		s.release()
	})
}

func (s *sibling) release() {
	closeAll(append(s.outputs[:], s.stdin))
}

// output reads a process's output to its end. That is when nobody can write
// any more, or, since a background process may keep the other end forever,
// when the process has ended and nothing is left to read.
type output struct {
	f     *os.File
	ended <-chan struct{}
	watch sync.Once
}

func (o *output) Read(b []byte) (int, error) {
	o.watch.Do(func() {
		go func() {
			<-o.ended
			_ = o.f.SetReadDeadline(time.Unix(1, 0))
		}()
	})
	n, err := o.f.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return o.rest(b)
	}
	if err != nil {
		return n, io.EOF // a terminal's end is EIO
	}
	return n, nil
}

func (o *output) rest(b []byte) (n int, err error) {
	raw, err := o.f.SyscallConn()
	if err != nil {
		return 0, io.EOF
	}
	// A write deadline is not set, so this does not fail before it has asked.
	err = raw.Control(func(fd uintptr) {
		n, _ = unix.Read(int(fd), b)
	})
	if err != nil || n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Attach implements agent.Control.
func (c *control) Attach() (agent.Process, error) {
	e, err := c.running()
	if err != nil {
		return nil, err
	}
	if e.stdin == nil {
		return nil, fmt.Errorf("%w: the entrypoint was started without an input", agent.ErrInvalid)
	}
	return attached{e, c}, nil
}

// attached is the entrypoint as whoever attaches to it sees it.
type attached struct {
	*entrypoint
	control *control
}

func (a attached) Stdin() io.WriteCloser {
	if a.tty {
		return terminalInput{a.stdin}
	}
	return a.stdin
}

func (a attached) Outputs() [2]io.Reader { return [2]io.Reader{} }

func (a attached) Signal(sig int) error { return a.control.Signal(sig) }

func (a attached) Resize(size agent.WindowSize) error {
	if !a.tty {
		return agent.ErrInvalid
	}
	return resizeTerminal(a.stdin, size)
}

func (a attached) Wait() agent.Exit {
	<-a.ended
	return a.exit
}

func (a attached) Close() {}
