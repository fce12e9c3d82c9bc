package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// slipway runs the command line program on a state directory of its own.
type slipway struct {
	options
	env []string // besides
}

func (s *slipway) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "slipway"), args...)
	cmd.Env = append(append(os.Environ(), "SLIPWAY_STATE_DIR="+s.state, "SLIPWAY_BOOT_STANDBY=0"), s.env...)
	// An interrupt of the benchmark lets the program clean up behind itself.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// run runs a command to its end; what it prints is shown if it fails.
func (s *slipway) run(ctx context.Context, args ...string) error {
	out, err := s.command(ctx, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("slipway %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// bootArgs are the arguments that boot the image.
func (s *slipway) bootArgs(flags []string, command ...string) []string {
	args := append([]string{"boot"}, flags...)
	if s.root != "" {
		args = append(args, "--root", s.root)
	}
	if s.flavor != "" {
		args = append(args, "--flavor", s.flavor)
	}
	return append(append(args, s.image), command...)
}

// prepare makes everything that a first boot makes once.
func (s *slipway) prepare(ctx context.Context) error {
	if err := s.run(ctx, "kernel", "import", s.kernel); err != nil {
		return err
	}
	_, err := s.boot(ctx)
	return err
}

// boot boots a guest that prints a line, and removes it.
func (s *slipway) boot(ctx context.Context) (times, error) {
	return timed(s.command(ctx, s.bootArgs([]string{"--rm"}, "echo", marker)...), marker)
}

// marker is what a measured guest prints.
const marker = "slipway-bench-reached"

// timed runs cmd and notes when it has printed mark and when it has ended.
func timed(cmd *exec.Cmd, mark string) (times, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return times{}, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return times{}, err
	}
	var t times
	var seen []byte
	buf := make([]byte, 4096)
	for err == nil {
		var n int
		n, err = stdout.Read(buf)
		seen = append(seen, buf[:n]...)
		if t.first == 0 && bytes.Contains(seen, []byte(mark)) {
			t.first = time.Since(start)
		}
	}
	if !errors.Is(err, io.EOF) {
		return times{}, errors.Join(err, cmd.Wait())
	}
	err = cmd.Wait()
	t.end = time.Since(start)
	if err != nil || t.first == 0 {
		return times{}, fmt.Errorf("%s: %w, printed %q and %q", cmd, err, seen, strings.TrimSpace(stderr.String()))
	}
	if _, line, ok := strings.Cut(string(seen), mark+", "); ok {
		var ms int64
		if _, err := fmt.Sscanf(line, "%d ms", &ms); err == nil {
			t.kernel = time.Duration(ms) * time.Millisecond
		}
	}
	return t, nil
}

// enginePID asks the kernel who listens on the engine's socket; 0 is nobody.
func (s *slipway) enginePID(ctx context.Context) (int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(s.state, "engine.sock"))
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("engine: %w", err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("engine: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("engine: %w", err)
	}
	return int(cred.Pid), nil
}

// stopEngine ends the engine, as an idle timeout would, and waits for its end.
func (s *slipway) stopEngine(ctx context.Context) error {
	pid, err := s.enginePID(ctx)
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop engine %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop engine %d: it still runs: %w", pid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// remove ends the engine and removes the state directory.
func (s *slipway) remove(ctx context.Context) error {
	err := s.stopEngine(ctx)
	// The engine may have made the directory a mount of its own.
	_ = unix.Unmount(s.state, unix.MNT_DETACH)
	return errors.Join(err, os.RemoveAll(s.state))
}
