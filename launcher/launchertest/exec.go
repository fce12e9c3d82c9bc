package launchertest

import (
	"io"
	"sync"

	"github.com/slipway-vm/slipway/guest/agent"
)

// Exec implements agent.Control: whatever is none of the hypervisor's Commands gives
// its input back, and ends with the number of its arguments.
func (c *control) Exec(req agent.ExecRequest) (agent.Process, error) {
	if f, ok := c.commands[req.Args[0]]; ok {
		return execute(req.Args[0], f)
	}
	e := &echo{code: len(req.Args) - 1, ended: make(chan struct{})}
	e.out, e.in = io.Pipe()
	if !req.Stdin {
		_ = e.in.Close()
	}
	return e, nil
}

type echo struct {
	code  int
	out   *io.PipeReader
	in    *io.PipeWriter
	once  sync.Once
	ended chan struct{}
}

func (e *echo) Stdin() io.WriteCloser         { return e.in }
func (e *echo) Outputs() [2]io.Reader         { return [2]io.Reader{reader{e}, nil} }
func (e *echo) Signal(int) error              { e.Close(); return nil }
func (e *echo) Resize(agent.WindowSize) error { return nil }

func (e *echo) Wait() agent.Exit {
	<-e.ended
	return agent.Exit{Code: e.code}
}

func (e *echo) Close() {
	_ = e.in.Close()
	_ = e.out.Close()
	e.end()
}

func (e *echo) end() { e.once.Do(func() { close(e.ended) }) }

// reader ends the process with its output.
type reader struct{ *echo }

func (r reader) Read(p []byte) (int, error) {
	n, err := r.out.Read(p)
	if err != nil {
		r.end()
	}
	return n, err
}
