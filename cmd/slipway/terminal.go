package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"github.com/slipway-vm/slipway/guest/agent"
)

// terminal is this program's own terminal while a process in a server has it.
type terminal struct {
	saved  *term.State
	resize chan agent.WindowSize
	winch  chan os.Signal
	stop   chan struct{}
}

// openTerminal hands keys on as they are typed, control characters included, and
// tells of changes of the window's size.
func openTerminal() (*terminal, error) {
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil, errors.New("the input is not a terminal: leave out --tty")
	}
	saved, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	t := &terminal{saved: saved, resize: make(chan agent.WindowSize), winch: make(chan os.Signal, 1), stop: make(chan struct{})}
	signal.Notify(t.winch, syscall.SIGWINCH)
	go t.watch()
	return t, nil
}

func (t *terminal) watch() {
	for {
		select {
		case <-t.winch:
		case <-t.stop:
			return
		}
		select {
		case t.resize <- t.size():
		case <-t.stop:
			return
		}
	}
}

func (t *terminal) size() agent.WindowSize {
	columns, rows, err := term.GetSize(int(os.Stdin.Fd()))
	if err != nil {
		return agent.WindowSize{}
	}
	return agent.WindowSize{Rows: uint16(rows), Columns: uint16(columns)}
}

func (t *terminal) close() {
	signal.Stop(t.winch)
	close(t.stop)
	_ = term.Restore(int(os.Stdin.Fd()), t.saved)
}

// console is what a process in a server is connected to here.
type console struct {
	terminal *terminal // nil without one
	stdin    io.Reader // nil without input
}

// openConsole connects to this program's input and, if asked, its terminal.
func openConsole(interactive, tty bool) (*console, error) {
	c := &console{}
	if interactive {
		c.stdin = os.Stdin
	}
	if !tty {
		return c, nil
	}
	var err error
	c.terminal, err = openTerminal()
	return c, err
}

func (c *console) close() {
	if c.terminal != nil {
		c.terminal.close()
	}
}

func (c *console) size() agent.WindowSize {
	if c.terminal == nil {
		return agent.WindowSize{}
	}
	return c.terminal.size()
}

func (c *console) resize() <-chan agent.WindowSize {
	if c.terminal == nil {
		return nil
	}
	return c.terminal.resize
}
