package agent

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// echo is a process that copies its input to its outputs.
type echo struct {
	in   *io.PipeReader
	feed *io.PipeWriter
	out  [2]*io.PipeReader
	exit chan struct{}
	once sync.Once
}

func newEcho() *echo {
	e := &echo{exit: make(chan struct{})}
	e.in, e.feed = io.Pipe()
	var out [2]*io.PipeWriter
	for i := range out {
		e.out[i], out[i] = io.Pipe()
	}
	go func() {
		_, _ = io.Copy(io.MultiWriter(out[0], out[1]), e.in)
		_ = out[0].Close()
		_ = out[1].Close()
		close(e.exit)
	}()
	return e
}

func (e *echo) Stdin() io.WriteCloser   { return e.feed }
func (e *echo) Outputs() [2]io.Reader   { return [2]io.Reader{e.out[0], e.out[1]} }
func (e *echo) Signal(int) error        { return nil }
func (e *echo) Resize(WindowSize) error { return nil }
func (e *echo) Wait() Exit              { <-e.exit; return Exit{Code: 4} }
func (e *echo) Close() {
	e.once.Do(func() { _ = e.feed.CloseWithError(os.ErrClosed); _ = e.out[0].Close(); _ = e.out[1].Close() })
}

// echoes makes such processes.
type echoes struct{ *fakeControl }

func (echoes) Exec(ExecRequest) (Process, error) { return newEcho(), nil }

// Neither end keeps anything of an executed process: a thousand one after another,
// fifty at once, and some that were left or let go.
func TestExecLeavesNothing(t *testing.T) {
	port := newSimPort(1)
	t.Cleanup(port.close)
	s := &Server{Control: echoes{&fakeControl{}}, Output: NewOutputLog(0), Events: NewEventLog()}
	go func() { _ = s.Serve(t.Context(), port) }()
	c, err := newClient(testContext(t), port.connect())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := func(i int) {
		var out, errs bytes.Buffer
		in := fmt.Sprint("input ", i)
		exit, err := c.Exec(testContext(t), ExecRequest{}, ExecIO{Stdin: strings.NewReader(in), Stdout: &out, Stderr: &errs})
		if err != nil || exit.Code != 4 || out.String() != in || errs.String() != in {
			t.Errorf("call %d: %+v, %v, %q, %q", i, exit, err, &out, &errs)
		}
	}
	call(0)
	before := runtime.NumGoroutine()
	for i := range 1000 {
		call(i)
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() { call(i) })
	}
	all.Wait()
	for range 10 {
		r, w := io.Pipe()
		detach := make(chan struct{})
		close(detach)
		exit, err := c.Exec(testContext(t), ExecRequest{}, ExecIO{Stdin: r, Detach: detach})
		if err != nil || !exit.Detached {
			t.Errorf("detached: %+v, %v", exit, err)
		}
		_ = w.Close() // the reader of our input ends with it
	}
	// Detached processes run on; these end when the session does.
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		after := runtime.NumGoroutine()
		if after <= before+10*4 {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", after, before, buf[:runtime.Stack(buf, true)])
		}
	}
}
