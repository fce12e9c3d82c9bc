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
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, strayTime)
	defer cancel()
	var errs []error
	for _, path := range paths {
		args, err := os.ReadFile(path)
		id := m.serverOf(args)
		if err != nil || id == "" {
			continue // it has ended, or is nothing of ours
		}
		if _, runs := domains[m.cfg.DomainPrefix+id]; runs {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		m.log.Warn("process without a domain ended", "server", id, "pid", pid)
		errs = append(errs, EndProcess(ctx, pid, unix.SIGKILL))
	}
	return errors.Join(errs...)
}

// serverOf returns the server whose emulator or file system daemon has been started
// with args; empty where they are of something else.
func (m *Manager) serverOf(args []byte) string {
	program, rest, _ := bytes.Cut(args, []byte{0})
	name := filepath.Base(string(program))
	if name != "virtiofsd" && !strings.HasPrefix(name, "qemu-system-") {
		return ""
	}
	_, rest, found := bytes.Cut(rest, []byte(m.cfg.Dir+"/"))
	id, _, _ := bytes.Cut(rest, []byte("/"))
	if !found || !isServerID(string(id)) {
		return ""
	}
	return string(id)
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
