package launcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// strayTime is how long all of them may take to end.
const strayTime = 10 * time.Second

// endStrays ends the processes that an engine had started for a domain when it was
// killed, before the domain was there: nobody else knows of them. They are known by
// their arguments, which name a file in their server's directory.
func (m *Manager) endStrays(ctx context.Context, domains map[string]PowerState) error {
	ctx, cancel := context.WithTimeout(ctx, strayTime)
	defer cancel()
	var errs []error
	err := m.processes(func(id, _ string, pid int) {
		if _, runs := domains[m.cfg.DomainPrefix+id]; runs {
			return
		}
		m.log.Warn("process without a domain ended", "server", id, "pid", pid)
		errs = append(errs, EndProcess(ctx, pid, unix.SIGKILL))
	})
	return errors.Join(append(errs, err)...)
}

// processes calls f for each emulator and each file system daemon of a server.
func (m *Manager) processes(f func(id, program string, pid int)) error {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, path := range paths {
		args, err := os.ReadFile(path)
		id, program := m.serverOf(args)
		if err != nil || id == "" {
			continue // it has ended, or is nothing of ours
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		f(id, program, pid)
	}
	return nil
}

// serverOf returns the server whose emulator or file system daemon has been started
// with args, and which of them it is; empty where they are of something else.
func (m *Manager) serverOf(args []byte) (id, program string) {
	command, rest, _ := bytes.Cut(args, []byte{0})
	program = filepath.Base(string(command))
	if program != virtiofsd && !strings.HasPrefix(program, "qemu-system-") {
		return "", ""
	}
	_, rest, found := bytes.Cut(rest, []byte(m.cfg.Dir+"/"))
	name, _, _ := bytes.Cut(rest, []byte("/"))
	if !found || !isServerID(string(name)) {
		return "", ""
	}
	return string(name), program
}

// EndProcess sends a process a signal and waits until it has ended, and has let go of
// what it had open. One that is not there is no error.
func EndProcess(ctx context.Context, pid int, signal unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	for ctx.Err() == nil {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", pid, err)
		}
	}
	return fmt.Errorf("process %d does not end: %w", pid, context.Cause(ctx))
}
