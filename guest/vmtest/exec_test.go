//go:build guest

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

// resident boots a guest whose entrypoint stays, for subtests to share.
func resident(t *testing.T, spec guest.Spec) (*running, *agent.Client) {
	t.Helper()
	if len(spec.Args) == 0 {
		spec.Args = []string{"probe", "trap", "terminated", "0"}
	}
	r := boot(t, vm{spec: spec})
	ctx := deadline(t)
	c := r.dial(ctx)
	err := c.Events(ctx, func(e agent.Event) error {
		if e.Type == agent.EventStarted {
			return errSeen
		}
		return fmt.Errorf("%+v, exit %+v", e, e.Exit)
	})
	if !errors.Is(err, errSeen) {
		t.Fatal(err)
	}
	return r, c
}

func TestExec(t *testing.T) {
	_, c := resident(t, guest.Spec{Env: []string{"A=spec"}, User: "app", Dir: "/etc"})
	for _, test := range []struct {
		name   string
		req    agent.ExecRequest
		stdin  io.Reader
		stdout string
		stderr string
		exit   agent.Exit
		errHas string
	}{
		{
			name:   "streams and status",
			req:    agent.ExecRequest{Args: []string{"probe", "both", "out", "err", "42"}},
			stdout: "out", stderr: "err", exit: agent.Exit{Code: 42},
		},
		{
			name:   "user",
			req:    agent.ExecRequest{Args: []string{"probe", "cat", "/proc/self/cgroup"}, User: "0", Dir: "/"},
			stdout: "0::/\n",
		},
		{
			name: "environment",
			req:  agent.ExecRequest{Args: []string{"probe", "env"}, Env: []string{"B=exec", "A=exec"}, User: "root"},
			stdout: "A=exec\nB=exec\nHOME=/root\nHOSTNAME=web\n" +
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		},
		{
			name:   "stdin half close",
			req:    agent.ExecRequest{Args: []string{"probe", "sum"}},
			stdin:  strings.NewReader("hello\n"),
			stdout: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03\n",
		},
		{name: "no stdin", req: agent.ExecRequest{Args: []string{"probe", "stdin"}}},
		{
			name:   "background process",
			req:    agent.ExecRequest{Args: []string{"probe", "orphan"}},
			stdout: "parent\n",
		},
		{
			name: "killed",
			req:  agent.ExecRequest{Args: []string{"probe", "kill", "9"}},
			exit: agent.Exit{Code: 137, Signal: 9},
		},
		{
			name: "not found",
			req:  agent.ExecRequest{Args: []string{"nothing"}},
			exit: agent.Exit{Code: 127}, errHas: "not found",
		},
		{
			name: "not executable",
			req:  agent.ExecRequest{Args: []string{"/etc/passwd"}},
			exit: agent.Exit{Code: 126}, errHas: "permission denied",
		},
		{
			name: "no directory",
			req:  agent.ExecRequest{Args: []string{"probe", "id"}, Dir: "/nowhere"},
			exit: agent.Exit{Code: 127}, errHas: "working directory /nowhere",
		},
		{
			name: "unknown user",
			req:  agent.ExecRequest{Args: []string{"probe", "id"}, User: "who"},
			exit: agent.Exit{Code: 125}, errHas: "who",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit, err := c.Exec(deadline(t), test.req, agent.ExecIO{Stdin: test.stdin, Stdout: &stdout, Stderr: &stderr})
			if err != nil {
				t.Fatal(err)
			}
			if stdout.String() != test.stdout || stderr.String() != test.stderr {
				t.Errorf("stdout %q, stderr %q, want %q, %q", stdout.String(), stderr.String(), test.stdout, test.stderr)
			}
			if !strings.Contains(exit.Err, test.errHas) || (exit.Err != "") != (test.errHas != "") {
				t.Errorf("exit error %q, want it to contain %q", exit.Err, test.errHas)
			}
			if exit.Err = ""; exit != test.exit {
				t.Errorf("exit %+v, want %+v", exit, test.exit)
			}
		})
	}
	t.Run("id", func(t *testing.T) {
		var out bytes.Buffer
		_, err := c.Exec(deadline(t), agent.ExecRequest{Args: []string{"probe", "id"}}, agent.ExecIO{Stdout: &out})
		want := "uid=1000 gid=1001 groups=[10 20] dir=/etc host=web files=1048576\n"
		if _, got, _ := strings.Cut(out.String(), " "); err != nil || got != want {
			t.Errorf("got %q, err %v, want %q", got, err, want)
		}
	})
	t.Run("binary output", func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		_, err := c.Exec(deadline(t), agent.ExecRequest{Args: []string{"probe", "random", "1000000", "9"}},
			agent.ExecIO{Stdout: &stdout, Stderr: &stderr})
		want, wantErr := make([]byte, 1000000), make([]byte, 1000000)
		chacha(9).Read(want)
		chacha(10).Read(wantErr)
		if err != nil || !bytes.Equal(stdout.Bytes(), want) || !bytes.Equal(stderr.Bytes(), wantErr) {
			t.Errorf("%d and %d bytes, err %v", stdout.Len(), stderr.Len(), err)
		}
	})
	t.Run("binary input", func(t *testing.T) {
		want := make([]byte, 3000000)
		chacha(9).Read(want)
		var out bytes.Buffer
		_, err := c.Exec(deadline(t), agent.ExecRequest{Args: []string{"probe", "stdin"}},
			agent.ExecIO{Stdin: bytes.NewReader(want), Stdout: &out})
		if err != nil || !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%d bytes, err %v", out.Len(), err)
		}
	})
	t.Run("signal", func(t *testing.T) {
		signals := make(chan int)
		out := &notifier{want: "ready", seen: make(chan struct{})}
		later := &notifier{want: "signal 2", seen: make(chan struct{})}
		go func() {
			<-out.seen
			signals <- 12
			<-later.seen
			signals <- 2
		}()
		exit, err := c.Exec(deadline(t), agent.ExecRequest{Args: []string{"probe", "trap", "interrupt", "5"}},
			agent.ExecIO{Stdout: io.MultiWriter(out, later), Signals: signals})
		want := "ready\nsignal user defined signal 2\nsignal interrupt\n"
		if err != nil || exit.Code != 5 || out.String() != want {
			t.Errorf("exit %+v, output %q, err %v", exit, out.String(), err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(deadline(t))
		out := &notifier{want: "ready", seen: make(chan struct{})}
		go func() { <-out.seen; cancel() }()
		_, err := c.Exec(ctx, agent.ExecRequest{Args: []string{"probe", "trap"}}, agent.ExecIO{Stdout: out})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err %v", err)
		}
	})
}

// notifier is a buffer that tells when it contains a text.
type notifier struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	seen chan struct{}
	once sync.Once
}

func (n *notifier) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf.Write(b)
	if strings.Contains(n.buf.String(), n.want) {
		n.once.Do(func() { close(n.seen) })
	}
	return len(b), nil
}

func (n *notifier) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.String()
}

func TestExecTerminal(t *testing.T) {
	_, c := resident(t, guest.Spec{User: "app"})
	stdin, typist := io.Pipe()
	resize := make(chan agent.WindowSize)
	out := &notifier{want: "size 24 80 true", seen: make(chan struct{})}
	later := &notifier{want: "size 50 132 true\r\n", seen: make(chan struct{})}
	go func() {
		<-out.seen
		resize <- agent.WindowSize{Rows: 50, Columns: 132}
		<-later.seen
		typist.Write([]byte("typed\n"))
	}()
	exit, err := c.Exec(deadline(t), agent.ExecRequest{
		Args: []string{"probe", "tty"}, TTY: true, Size: agent.WindowSize{Rows: 24, Columns: 80},
	}, agent.ExecIO{Stdin: stdin, Stdout: io.MultiWriter(out, later), Resize: resize})
	want := "size 24 80 true\r\nsize 50 132 true\r\ntyped\r\nline \"typed\\n\" <nil>\r\n"
	if err != nil || exit.Code != 0 || out.String() != want {
		t.Errorf("exit %+v, output %q, err %v, want %q", exit, out.String(), err, want)
	}
	typist.Close()
}

// Calls leave nothing behind in the guest.
func TestExecMany(t *testing.T) {
	_, c := resident(t, guest.Spec{})
	ctx := deadline(t)
	call := func() error {
		exit, err := c.Exec(ctx, agent.ExecRequest{Args: []string{"probe", "exit", "3"}}, agent.ExecIO{})
		if err == nil && exit.Code != 3 {
			err = fmt.Errorf("exit %+v", exit)
		}
		return err
	}
	batch := func(rounds, width int) {
		t.Helper()
		start := time.Now()
		for range rounds {
			errs := make([]error, width)
			var wg sync.WaitGroup
			for i := range width {
				wg.Go(func() { errs[i] = call() })
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%d times %d calls in %v", rounds, width, time.Since(start))
	}
	batch(1, 50)
	batch(100, 1)
}

func TestAttach(t *testing.T) {
	t.Run("pipe", func(t *testing.T) {
		r, c := resident(t, guest.Spec{Args: []string{"probe", "stdin"}, Stdin: true})
		ctx := deadline(t)
		want := make([]byte, 500000)
		chacha(3).Read(want)
		attached := make(chan error, 1)
		go func() { attached <- c.Attach(ctx, agent.AttachRequest{}, bytes.NewReader(want), nil) }()
		got := r.finish(ctx, c)
		if err := <-attached; err != nil || got.stdout != string(want) || got.exit.Code != 0 {
			t.Errorf("%d bytes, exit %+v, err %v", len(got.stdout), got.exit, err)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		r, c := resident(t, guest.Spec{Args: []string{"probe", "tty"}, User: "app", Stdin: true, TTY: true})
		ctx := deadline(t)
		attached := make(chan error, 1)
		go func() {
			attached <- c.Attach(ctx, agent.AttachRequest{Size: agent.WindowSize{Rows: 30, Columns: 90}},
				strings.NewReader("typed\n"), nil)
		}()
		got := r.finish(ctx, c)
		if err := <-attached; err != nil || !strings.Contains(got.stdout, `line "typed\n"`) || got.stderr != "" {
			t.Errorf("got %+v, err %v", got, err)
		}
	})
	t.Run("without input", func(t *testing.T) {
		_, c := resident(t, guest.Spec{})
		if err := c.Attach(deadline(t), agent.AttachRequest{}, nil, nil); !errors.Is(err, agent.ErrInvalid) {
			t.Errorf("attach: %v", err)
		}
	})
}
