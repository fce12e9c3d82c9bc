package boot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/share"
)

// Configuring a root by its seed is the work of a program of its own, which comes
// with the seed: what it takes to read user-data would cost each boot 10 ms to
// initialise, and most servers have none.

// Arguments of the program, before the directory of the seed.
const (
	configureApply  = "apply"  // before the entrypoint starts
	configureGreet  = "greet"  // after
	configureSource = "source" // of a guest alone: ask who it is
	configureKeep   = "keep"   // and renew its leases, afterwards
)

// configuration is the program and what it needs, open before the share is out of
// the stage's sight.
type configuration struct {
	program *os.File
	seed    *os.File // directory
	console *os.File
}

var configureEnv = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}

// openConfiguration returns nil where the seed asks for nothing.
func openConfiguration(shareDir string) (*configuration, error) {
	program, err := os.Open(filepath.Join(shareDir, share.ConfigureFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &configuration{program: program}
	if c.seed, err = os.Open(filepath.Join(shareDir, share.SeedDir)); err != nil {
		return nil, err
	}
	c.console, err = os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY, 0)
	return c, err
}

func (c *configuration) close() { closeAll([]*os.File{c.program, c.seed, c.console}) }

// apply runs the program in the root, which the stage is in. What it prints is a
// warning a line, passed on in the report; what it runs writes to the console.
func (c *configuration) apply(report *os.File) {
	defer c.close()
	out := json.NewEncoder(report)
	warn := func(format string, args ...any) { _ = out.Encode(stageReport{Warning: fmt.Sprintf(format, args...)}) }
	// The time that a boot may take bounds this too; the host sees to it.
	cmd := exec.CommandContext(context.Background(), "/proc/self/fd/3", configureApply, "/proc/self/fd/4")
	cmd.ExtraFiles = []*os.File{c.program, c.seed}
	cmd.Env = configureEnv
	cmd.Stderr = c.console
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What was started in the background may hold on to the console, not to this.
	cmd.WaitDelay = time.Second
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		warn("user-data: %v", err)
		return
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		warn("%s", lines.Text())
	}
	if err = cmd.Wait(); err != nil {
		warn("user-data: %v", err)
	}
}

// configures reports whether the seed asks for something.
func (g *guestState) configures() bool {
	_, err := os.Stat(filepath.Join(shareDir, share.ConfigureFile))
	return err == nil
}

// warn tells of what could not be done.
func (g *guestState) warn(message string) {
	logf("%s", message)
	g.events.Append(agent.Event{Type: agent.EventWarning, At: sinceBoot(), Warning: message})
}

// greet has the program do what follows the entrypoint's start, in its namespaces.
// Its exit status says whether user-data asks for the server's end.
func (g *guestState) greet(pid int) {
	if !g.configures() {
		return
	}
	read, ended, err := g.startGreeting(pid)
	if errors.Is(err, agent.ErrNotRunning) {
		return // it has ended already
	}
	if err != nil {
		g.warn(fmt.Sprintf("user-data: %v", err))
		return
	}
	defer read.Close()
	for lines := bufio.NewScanner(read); lines.Scan(); {
		g.warn(lines.Text())
	}
	status := <-ended
	if reboot := status.ExitStatus() == share.ExitReboot; reboot || status.ExitStatus() == share.ExitPowerOff {
		g.mu.Lock()
		g.reboot = reboot
		g.mu.Unlock()
		if _, err := (*control)(g).Stop(-1); err != nil && !errors.Is(err, agent.ErrNotRunning) {
			g.warn(fmt.Sprintf("power_state: %v", err))
		}
	}
}

// startGreeting starts the program beside an entrypoint and returns what it prints
// and how it ends.
func (g *guestState) startGreeting(pid int) (read *os.File, ended <-chan unix.WaitStatus, err error) {
	c, err := openConfiguration(shareDir)
	if err != nil {
		return nil, nil, err
	}
	defer c.close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer write.Close()
	started := make(chan error)
	go func() {
		// The thread joins the entrypoint's namespaces, and ends with this goroutine.
		runtime.LockOSThread()
		if err := joinNamespaces(pid); err != nil {
			started <- err
			return
		}
		var err error
		_, ended, err = g.reaper.start(func() (int, error) {
			return syscall.ForkExec("/proc/self/fd/3", []string{"slipway-configure", configureGreet, "/proc/self/fd/4"},
				&syscall.ProcAttr{Dir: "/", Env: configureEnv, Sys: &syscall.SysProcAttr{Setsid: true},
					Files: []uintptr{c.console.Fd(), write.Fd(), c.console.Fd(), c.program.Fd(), c.seed.Fd()}})
		})
		started <- err
	}()
	if err := <-started; err != nil {
		read.Close()
		return nil, nil, err
	}
	return read, ended, nil
}
