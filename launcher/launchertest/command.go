package launchertest

import (
	"io"
	"strings"

	"github.com/slipway-vm/slipway/guest/agent"
)

// command is a process beside an entrypoint that reads all of its input first.
type command struct {
	stdin  io.WriteCloser
	said   io.Reader
	exited chan int
}

func execute(name string, f func(input string) (code int, said string)) (agent.Process, error) {
	if f == nil {
		return nil, &agent.StartError{Code: 127, Message: name + ": executable file not found in $PATH"}
	}
	in, stdin := io.Pipe()
	out, stdout := io.Pipe()
	p := &command{stdin: stdin, said: out, exited: make(chan int, 1)}
	go func() {
		input, _ := io.ReadAll(in)
		code, said := f(string(input))
		_, _ = io.WriteString(stdout, said)
		p.exited <- code
		_ = stdout.Close()
	}()
	return p, nil
}

func (p *command) Stdin() io.WriteCloser         { return p.stdin }
func (p *command) Outputs() [2]io.Reader         { return [2]io.Reader{p.said, strings.NewReader("")} }
func (p *command) Signal(int) error              { return nil }
func (p *command) Resize(agent.WindowSize) error { return nil }
func (p *command) Wait() agent.Exit              { return agent.Exit{Code: <-p.exited} }
func (p *command) Close()                        { _ = p.stdin.Close() }
