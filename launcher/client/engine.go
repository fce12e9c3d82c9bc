package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher/api"
)

// The engine's files in its state directory.
const (
	SocketFile = "engine.sock"
	LockFile   = "engine.lock"
	LogFile    = "engine.log"
)

// MaxStateDir is how long the path of a state directory may be, in bytes: sockets
// lie below it, and the kernel bounds their paths.
const MaxStateDir = 50

// Engine says which engine to speak to, and how to start it.
type Engine struct {
	StateDir string   // absolute
	Program  string   // path of slipwayd
	Args     []string // further arguments of slipwayd
}

// startTime bounds how long an engine may take to be ready.
const startTime = 30 * time.Second

// Connect returns a client of the state directory's engine, and starts the engine
// where none runs.
func (e Engine) Connect(ctx context.Context) (*Client, error) {
	if len(e.StateDir) > MaxStateDir {
		return nil, fmt.Errorf("the state directory's path %s is too long for the sockets below it: use one of at most %d characters", e.StateDir, MaxStateDir)
	}
	c := New(filepath.Join(e.StateDir, SocketFile))
	limit := time.Now().Add(startTime)
	for {
		err := c.ping(ctx)
		switch {
		case err == nil:
			return c, nil
		case errors.Is(err, os.ErrPermission):
			return nil, e.refused()
		case !noEngine(err):
			return nil, fmt.Errorf("reach the engine of %s: %w", e.StateDir, err)
		case time.Now().After(limit):
			return nil, fmt.Errorf("the engine of %s does not answer: see %s", e.StateDir, filepath.Join(e.StateDir, LogFile))
		}
		if err := e.start(ctx); err != nil {
			return nil, err
		}
		if c.ping(ctx) != nil {
			time.Sleep(50 * time.Millisecond) // another engine is on its way up, or down
		}
	}
}

// noEngine reports whether nobody answered, or somebody who was about to end.
func noEngine(err error) bool {
	for _, e := range []error{os.ErrNotExist, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (e Engine) refused() error {
	return fmt.Errorf("permission denied: the engine of %s belongs to another user: run slipway as that user, mostly root", e.StateDir)
}

// ping asks the engine for nothing. An engine that has answered does not end for
// want of work before the next request comes.
func (c *Client) ping(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "http://engine"+api.Prefix, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// start runs slipwayd and waits until it says that it is ready, or that another
// one is, or has failed.
func (e Engine) start(ctx context.Context) error {
	if err := os.MkdirAll(e.StateDir, 0o711); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(e.StateDir, LogFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the engine's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	logged, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ready, notify, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = ready.Close() }()
	// It is to outlive whoever starts it, so no context ends it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), e.Program, append([]string{"--state-dir", e.StateDir, "--ready-fd", "3"}, e.Args...)...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{notify}
	// A session of its own: the terminal's signals are not for the engine.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Nor are the caller's other files: a lock or a pipe of a script's must not
	// stay open for as long as the engine runs.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep files from the engine: %w", err)
	}
	err = cmd.Start()
	_ = notify.Close()
	if err != nil {
		return fmt.Errorf("start the engine: %w", err)
	}
	word, err := waitReady(ctx, ready)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && word == Ready {
		return cmd.Process.Release()
	}
	// The pipe has ended without that word: so has the engine.
	if err := cmd.Wait(); err == nil {
		return nil // another one was there first
	}
	if word != "" {
		return fmt.Errorf("the engine did not start: %s", word)
	}
	return startFault(log.Name(), logged)
}

// Ready is what an engine that has been started writes to its --ready-fd when it
// answers. One that will not writes why.
const Ready = "\n"

// maxWord bounds what is read of an engine's word, in bytes.
const maxWord = 1 << 14

func waitReady(ctx context.Context, ready *os.File) (word string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(ready, maxWord))
	return string(b), err
}

// startFault finds what an engine that did not start wrote last.
func startFault(name string, from int64) error {
	b, err := os.ReadFile(name)
	if err != nil || int64(len(b)) < from {
		return errors.New("the engine did not start")
	}
	b = bytes.TrimSpace(b[from:])
	lines := strings.Split(string(b), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "slipwayd: ")
	if strings.Contains(last, "error while loading shared libraries: libvirt") {
		return errors.New("the engine did not start: there is no libvirt on this host: install libvirt0 and libvirt-daemon-driver-qemu")
	}
	if last == "" {
		return errors.New("the engine did not start, and did not say why")
	}
	return fmt.Errorf("the engine did not start: %s", last)
}
