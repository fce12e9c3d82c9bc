package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/guest/share"
)

// fakeControl is a guest without a process.
type fakeControl struct {
	mu      sync.Mutex
	signals []int
	grace   []time.Duration
	err     error
	down    chan struct{}
	root    string
	told    time.Time
	ahead   time.Duration // of the host's clock
}

func (c *fakeControl) Hello() Hello {
	return Hello{Version: Version, Kernel: "6.1.0", InstanceID: "i-1",
		Timeline: Timeline{{Step: StepInit, At: time.Second}}}
}

func (c *fakeControl) Signal(sig int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signals = append(c.signals, sig)
	return c.err
}

func (c *fakeControl) Stop(grace time.Duration) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.grace = append(c.grace, grace)
	return 15, c.err
}

func (c *fakeControl) Exec(ExecRequest) (Process, error) { return nil, c.err }
func (c *fakeControl) Attach() (Process, error)          { return nil, c.err }

func (c *fakeControl) Root() (*process.Root, error) { return process.OpenRoot(c.root) }
func (c *fakeControl) Mounts() ([]string, error)    { return []string{"/"}, c.err }
func (c *fakeControl) Stats() (Stats, error)        { return Stats{CPUs: 2}, c.err }
func (c *fakeControl) Freeze() error                { return c.err }
func (c *fakeControl) Thaw() error                  { return c.err }

func (c *fakeControl) SetClock(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = t
}

func (c *fakeControl) SetInterfaces([]share.Interface) error { return nil }
func (c *fakeControl) Assign(time.Time)                      {}

func (c *fakeControl) Clock(step time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += step
	return time.Now().Add(c.ahead), c.err
}

func (c *fakeControl) Top() ([]ProcessInfo, error) {
	return []ProcessInfo{{PID: 1, Command: strings.Repeat("x", 10000)}, {PID: 2}}, c.err
}

func (c *fakeControl) Shutdown() (func(), error) {
	return func() { close(c.down) }, c.err
}

// serve runs a guest's end on a simulated port.
func serve(t *testing.T, port *simPort) (*Server, *fakeControl) {
	t.Helper()
	control := &fakeControl{down: make(chan struct{})}
	s := &Server{Control: control, Output: NewOutputLog(64 << 10), Events: NewEventLog()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx, port) }()
	t.Cleanup(func() { cancel(); port.close(); <-done })
	return s, control
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t *testing.T, port *simPort) *Client {
	t.Helper()
	c, err := newClient(testContext(t), port.connect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func noise(n int, seed uint64) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// Output is byte-exact however often and wherever the host is cut off, also
// where the port itself damages what passes.
func TestOutputSurvives(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault float64
		size  int
	}{
		{"cuts", 0, 1 << 20},
		{"cuts and faults", 0.02, 256 << 10},
	} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprint(test.name, " ", seed), func(t *testing.T) {
				t.Parallel()
				port := newSimPort(seed)
				port.fault = test.fault
				server, _ := serve(t, port)
				want := [3][]byte{Stdout: noise(test.size, seed), Stderr: noise(test.size/2, seed+1)}
				for _, s := range []Stream{Stdout, Stderr} {
					go func() {
						server.Output.Append(context.Background(), s, want[s])
						server.Output.End(s)
					}()
				}
				got := collectThroughCuts(t, port, seed)
				for _, s := range []Stream{Stdout, Stderr} {
					if !bytes.Equal(got[s], want[s]) {
						t.Errorf("%s: %d bytes differ from the %d sent", s, len(got[s]), len(want[s]))
					}
				}
				if !server.Output.Acknowledged() {
					t.Error("not everything is acknowledged")
				}
			})
		}
	}
}

func collectThroughCuts(t *testing.T, port *simPort, seed uint64) (got [3][]byte) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 2))
	ctx := testContext(t)
	for range 5000 {
		conn := port.connect()
		conn.limit = len(preamble) + 1 + rng.IntN(200<<10)
		// A port that loses bytes can leave both ends waiting for the other;
		// a real one loses them only with its connection.
		session, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		err := func() error {
			defer cancel()
			c, err := newClient(session, conn)
			if err != nil {
				return err
			}
			defer c.Close()
			from := Offsets{Stdout: int64(len(got[Stdout])), Stderr: int64(len(got[Stderr]))}
			return c.Output(session, from, func(s Stream, offset int64, data []byte) error {
				if offset != int64(len(got[s])) {
					t.Errorf("%s at %d, want %d", s, offset, len(got[s]))
				}
				got[s] = append(got[s], data...)
				return nil
			})
		}()
		if err == nil {
			return got
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("no end in sight")
	return got
}

// A host that comes later takes over from one that is still there.
func TestNewestSessionWins(t *testing.T) {
	port := newSimPort(1)
	serve(t, port)
	first := connect(t, port)
	second := connect(t, port)
	if err := second.Signal(testContext(t), "TERM"); err != nil {
		t.Error(err)
	}
	select {
	case <-first.Done():
	case <-time.After(10 * time.Second):
		t.Error("the first session has not ended")
	}
	if err := first.Signal(testContext(t), "TERM"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("call in an ended session: %v", err)
	}
}

// A guest that starts late finds the host waiting.
func TestGuestComesLater(t *testing.T) {
	port := newSimPort(2)
	conn := port.connect()
	time.AfterFunc(50*time.Millisecond, func() { serve(t, port) })
	c, err := newClient(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Hello(); got.InstanceID != "i-1" || got.Kernel != "6.1.0" {
		t.Errorf("hello %+v", got)
	}
}

// Frames of other sessions, of no session, and garbage between frames change
// nothing.
func TestStrayFrames(t *testing.T) {
	port := newSimPort(3)
	serve(t, port)
	c := connect(t, port)
	port.mu.Lock()
	stray := appendFrame(nil, frame{typ: frameData, session: c.sess.id + 1, payload: []byte("stale")})
	stray = append(stray, "garbage \xF5SW"...)
	stray = append(stray, preamble...)
	port.toGuest = append(port.toGuest, stray...)
	port.conn.toHost = append(port.conn.toHost, stray...)
	port.changed.Broadcast()
	port.mu.Unlock()
	for range 3 {
		if err := c.Signal(testContext(t), "1"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCalls(t *testing.T) {
	port := newSimPort(4)
	server, control := serve(t, port)
	c := connect(t, port)
	ctx := testContext(t)
	if err := c.Signal(ctx, "nonsense"); err == nil {
		t.Error("sent a signal that does not exist")
	}
	if err := c.Signal(ctx, "SIGUSR1"); err != nil || len(control.signals) != 1 || control.signals[0] != 10 {
		t.Errorf("signals %v, err %v", control.signals, err)
	}
	if sig, err := c.Stop(ctx, 3*time.Second); err != nil || sig != 15 || len(control.grace) != 1 || control.grace[0] != 3*time.Second {
		t.Errorf("signal %d, stops %v, err %v", sig, control.grace, err)
	}
	if err := c.Shutdown(ctx); !errors.Is(err, ErrOutputKept) {
		t.Errorf("shutdown with output: %v", err)
	}
	control.err = ErrNotRunning
	if err := c.Signal(ctx, "9"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("signal: %v", err)
	}
	control.err = nil
	if err := c.call(ctx, "nosuch", struct{}{}, nil); !errors.Is(err, ErrUnsupported) {
		t.Errorf("unknown call: %v", err)
	}
	if err := c.call(ctx, methodSignal, "nonsense", nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("bad parameters: %v", err)
	}
	server.Output.End(Stdout)
	server.Output.End(Stderr)
	if err := c.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-control.down
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Signal(canceled, "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("call with a done context: %v", err)
	}
}

func TestEvents(t *testing.T) {
	port := newSimPort(5)
	server, _ := serve(t, port)
	c := connect(t, port)
	server.Events.Append(Event{Type: EventStarted, PID: 42})
	time.AfterFunc(20*time.Millisecond, func() {
		server.Events.Append(Event{Type: EventExited, Exit: &Exit{Code: 137, Signal: 9, OOMKilled: true}})
	})
	for range 2 { // the second time from memory
		var types []EventType
		err := c.Events(testContext(t), func(e Event) error {
			if e.Seq != len(types) {
				t.Errorf("event %d numbered %d", len(types), e.Seq)
			}
			types = append(types, e.Type)
			return nil
		})
		if err != nil || len(types) != 2 || types[1] != EventExited {
			t.Errorf("events %v, err %v", types, err)
		}
		exit, err := c.Wait(testContext(t))
		if err != nil || exit != (Exit{Code: 137, Signal: 9, OOMKilled: true}) {
			t.Errorf("exit %+v, err %v", exit, err)
		}
	}
	stop := errors.New("enough")
	if err := c.Events(testContext(t), func(Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("events: %v", err)
	}
}

// A call that is given up leaves the session in order.
func TestCancelledCall(t *testing.T) {
	port := newSimPort(6)
	serve(t, port)
	c := connect(t, port)
	for range 20 {
		ctx, cancel := context.WithTimeout(testContext(t), 5*time.Millisecond)
		err := c.Output(ctx, Offsets{}, func(Stream, int64, []byte) error { return nil })
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("output: %v", err)
		}
	}
	if err := c.Signal(testContext(t), "TERM"); err != nil {
		t.Error(err)
	}
}

func TestOutputOffsets(t *testing.T) {
	port := newSimPort(7)
	server, _ := serve(t, port)
	server.Output.Append(context.Background(), Stdout, []byte("0123456789"))
	server.Output.End(Stdout)
	server.Output.End(Stderr)
	c := connect(t, port)
	ctx := testContext(t)
	var got []byte
	err := c.Output(ctx, Offsets{Stdout: 4}, func(_ Stream, _ int64, data []byte) error {
		got = append(got, data...)
		return nil
	})
	if err != nil || string(got) != "456789" {
		t.Errorf("got %q, err %v", got, err)
	}
	sink := func(Stream, int64, []byte) error { return nil }
	if err := c.Output(ctx, Offsets{}, sink); !errors.Is(err, ErrOutputGone) {
		t.Errorf("from the start: %v", err)
	}
	if err := c.Output(ctx, Offsets{Stdout: 11}, sink); !errors.Is(err, ErrInvalid) {
		t.Errorf("from beyond the end: %v", err)
	}
}

func TestCopy(t *testing.T) {
	port := newSimPort(8)
	_, control := serve(t, port)
	control.root = t.TempDir()
	c := connect(t, port)
	ctx := testContext(t)
	data := noise(300<<10, 1)
	if err := errors.Join(os.WriteFile(control.root+"/file", data, 0o640),
		os.Symlink("/etc/passwd", control.root+"/link"), os.Mkdir(control.root+"/dir", 0o755)); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := c.CopyFrom(ctx, "/file", false, &stream); err != nil {
		t.Fatal(err)
	}
	if err := c.CopyTo(ctx, "/dir", bytes.NewReader(stream.Bytes())); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(control.root + "/dir/file"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, err %v", len(got), err)
	}
	if info, err := c.Stat(ctx, "/link"); err != nil || info.Target != "/etc/passwd" || info.Mode&os.ModeSymlink == 0 {
		t.Errorf("link %+v, err %v", info, err)
	}
	if _, err := c.Stat(ctx, "/nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("missing file: %v", err)
	}
	if err := c.CopyFrom(ctx, "/nothing", false, io.Discard); !errors.Is(err, ErrNotFound) {
		t.Errorf("copy a missing file: %v", err)
	}
	if err := c.CopyTo(ctx, "/nothing", bytes.NewReader(stream.Bytes())); !errors.Is(err, ErrNotFound) {
		t.Errorf("copy to a missing directory: %v", err)
	}
	broken := errors.New("broken")
	err := c.CopyTo(ctx, "/dir", io.MultiReader(bytes.NewReader(stream.Bytes()[:1000]), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("copy from a reader that fails: %v", err)
	}
	full := errors.New("full")
	if err := c.CopyFrom(ctx, "/file", false, writerFunc(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) {
		t.Errorf("copy to a writer that fails: %v", err)
	}
	if list, err := c.Top(ctx); err != nil || len(list) != 2 || len(list[0].Command) != 4096 {
		t.Errorf("processes %v, err %v", len(list), err)
	}
	if stats, err := c.Stats(ctx); err != nil || stats.CPUs != 2 {
		t.Errorf("stats %+v, err %v", stats, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
