package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/launcher"
)

// progress shows what is being done: on a terminal in one line that is written
// over, elsewhere a line for each step, or not at all.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	last     string
	at       time.Time // when last was written, elsewhere than on a terminal
}

// plainInterval spaces the lines of one step.
const plainInterval = time.Second

// newProgress makes a display; mode is plain, none or auto.
func newProgress(f *os.File, mode string) *progress {
	p := &progress{w: f, terminal: isTerminal(f)}
	if mode == "none" || mode == "auto" && !p.terminal {
		p.w = nil
	}
	if mode == "plain" {
		p.terminal = false
	}
	return p
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// terminalHeight is how many lines a terminal shows.
func terminalHeight(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Row < 3 {
		return 24
	}
	return int(size.Row)
}

// server shows the step that a server is at.
func (p *progress) server(srv launcher.Server) {
	if srv.Step == "" {
		p.done()
		return
	}
	p.show(srv.Step)
}

func (p *progress) show(step string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w == nil || step == p.last {
		return
	}
	if p.terminal {
		p.last = step
		fmt.Fprintf(p.w, "\r\x1b[K%s", step)
		return
	}
	// What only counts on need not have a line for each count.
	kind, _, _ := strings.Cut(step, ":")
	was, _, _ := strings.Cut(p.last, ":")
	if kind == was && time.Since(p.at) < plainInterval {
		return
	}
	p.last, p.at = step, time.Now()
	fmt.Fprintln(p.w, step)
}

// done clears the line for what comes next.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil && p.terminal && p.last != "" {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.last = ""
}
