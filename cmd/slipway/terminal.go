package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	mobyterm "github.com/moby/term"
	"github.com/spf13/pflag"
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
	detach   chan struct{}
}

// openConsole connects to this program's input and, if asked, its terminal, where
// the given keys detach. An input that is no terminal is passed on as it is.
func openConsole(interactive, tty bool, keys string) (*console, error) {
	c := &console{}
	sequence, err := mobyterm.ToBytes(keys)
	if err != nil {
		return nil, fmt.Errorf("--detach-keys %q: use letters and ctrl-LETTER, with commas between them", keys)
	}
	if interactive {
		c.stdin = os.Stdin
	}
	if !tty {
		return c, nil
	}
	if interactive && len(sequence) > 0 {
		c.detach = make(chan struct{})
		c.stdin = &detachable{Reader: mobyterm.NewEscapeProxy(os.Stdin, sequence), detach: c.detach}
	}
	c.terminal, err = openTerminal()
	return c, err
}

// detachable is an input in which the detach keys were looked for. When they come
// it fails: its end would be the process's too. What was typed before them has been
// passed on by then.
type detachable struct {
	io.Reader
	detach chan struct{}
}

func (d *detachable) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	var escape mobyterm.EscapeError
	if !errors.As(err, &escape) {
		return n, err
	}
	if n > 0 {
		return n, nil // the next one fails
	}
	close(d.detach)
	return 0, err
}

// addDetachKeys adds docker's flag.
func addDetachKeys(f *pflag.FlagSet, keys *string) {
	f.StringVar(keys, "detach-keys", "ctrl-p,ctrl-q", "`keys` that leave a terminal, its process running on; empty for none")
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
