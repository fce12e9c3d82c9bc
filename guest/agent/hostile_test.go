package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"
)

// hostileGuest accepts the host's session and then sends what it likes.
func hostileGuest(t *testing.T, behave func(s *session)) net.Conn {
	t.Helper()
	host, guest := net.Pipe()
	t.Cleanup(func() { host.Close(); guest.Close() })
	link := newGuestLink(guest)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go link.run(ctx)
	go func() {
		select {
		case s := <-link.accepts:
			behave(s)
		case <-ctx.Done():
		}
	}()
	return host
}

func muxFrame(typ byte, flags uint16, stream, length uint32) []byte {
	b := []byte{0, typ}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

// A guest that breaks the rules loses its session and costs no memory.
func TestHostileFrames(t *testing.T) {
	const ping = 2
	for name, bytes := range map[string][]byte{
		"ping":            muxFrame(ping, muxFlagSYN, 0, 1),
		"ping reply":      muxFrame(ping, 2, 0, 1),
		"opens a stream":  muxFrame(muxWindow, muxFlagSYN, 2, 0),
		"opens ours":      muxFrame(muxWindow, muxFlagSYN, 1, 0),
		"data of its own": append(muxFrame(muxData, 0, 2, 4), "data"...),
		"unknown type":    muxFrame(9, 0, 1, 0),
		"unknown version": append([]byte{7}, muxFrame(muxData, 0, 1, 0)[1:]...),
		"endless data":    muxFrame(muxData, 0, 1, 1<<31),
	} {
		t.Run(name, func(t *testing.T) {
			conn := hostileGuest(t, func(s *session) {
				if _, err := s.Read(make([]byte, 1)); err != nil {
					return
				}
				for {
					if _, err := s.Write(bytes); err != nil {
						return
					}
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if c, err := newClient(ctx, conn); err == nil || ctx.Err() != nil {
				t.Errorf("client %v, err %v", c, err)
			}
		})
	}
}

// A reply must be what was asked for.
func TestHostileMessages(t *testing.T) {
	hello := []byte(`{"version":1}`)
	type reply struct {
		t       messageType
		payload []byte
	}
	data := func(s Stream, offset int64, b string) []byte {
		return chunk{stream: s, offset: offset, data: []byte(b)}.encode()
	}
	for name, test := range map[string]reply{
		"wrong offset":        {msgData, data(Stdout, 7, "x")},
		"offset before zero":  {msgData, data(Stdout, -1, "x")},
		"stream of input":     {msgData, data(Stdin, 0, "x")},
		"unknown stream":      {msgData, data(77, 0, "x")},
		"short chunk":         {msgData, []byte("x")},
		"unexpected type":     {msgAck, data(Stdout, 0, "")},
		"end at wrong offset": {msgEnd, data(Stderr, 5, "")},
	} {
		t.Run(name, func(t *testing.T) {
			conn := hostileGuest(t, func(s *session) {
				answerStreams(s, func(method string, stream io.Writer) {
					if method == methodHello {
						writeMessage(stream, msgReply, hello)
						return
					}
					writeMessage(stream, test.t, test.payload)
				})
			})
			c, err := newClient(testContext(t), conn)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.Output(testContext(t), Offsets{}, func(Stream, int64, []byte) error { return nil })
			if !errors.Is(err, errProtocol) {
				t.Errorf("output: %v", err)
			}
		})
	}
}

// A guest that stops in the middle of a frame holds up nobody who has had
// enough.
func TestHostileStall(t *testing.T) {
	conn := hostileGuest(t, func(s *session) {
		answerStreams(s, func(method string, stream io.Writer) {
			if method == methodHello {
				writeMessage(stream, msgReply, []byte(`{"version":1}`))
				return
			}
			s.Write(append(muxFrame(muxData, 0, 3, 100), "not a hundred bytes"...))
		})
	})
	c, err := newClient(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
		t.Errorf("wait: %v after %v", err, time.Since(start))
	}
}

// A guest that sends without end and nobody reads fills no memory.
func TestHostileFlood(t *testing.T) {
	conn := hostileGuest(t, func(s *session) {
		answerStreams(s, func(method string, stream io.Writer) {
			if method == methodHello {
				writeMessage(stream, msgReply, []byte(`{"version":1}`))
				return
			}
			for writeMessage(stream, msgEvent, bytes.Repeat([]byte("x"), maxMessage)) == nil {
			}
		})
	})
	c, err := newClient(testContext(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 8 { // calls whose replies nobody reads
		if _, _, err := c.open(testContext(t), methodEvents, struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	runtime.GC()
	runtime.ReadMemStats(&after)
	// Both ends live in this process: a window each, and what is under way.
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}

func TestHostileHello(t *testing.T) {
	for name, payload := range map[string]string{
		"not JSON":    "nonsense",
		"no version":  "{}",
		"wrong types": `{"version":"x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			conn := hostileGuest(t, func(s *session) {
				answerStreams(s, func(_ string, stream io.Writer) {
					writeMessage(stream, msgReply, []byte(payload))
				})
			})
			if c, err := newClient(testContext(t), conn); err == nil {
				c.Close()
				t.Error("no error")
			}
		})
	}
}

func answerStreams(s *session, answer func(method string, stream io.Writer)) {
	mux, err := yamux.Server(s, muxConfig())
	if err != nil {
		return
	}
	defer mux.Close()
	for {
		stream, err := mux.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			_, payload, err := readMessage(stream)
			if err != nil {
				return
			}
			req, _ := decodeJSON[request](payload)
			answer(req.Method, stream)
		}()
	}
}

// heap is what is in use, garbage apart.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Whatever a guest says to a call, the caller has it or its deadline in the end,
// and nothing of it stays.
func TestHostileCalls(t *testing.T) {
	chunkOf := func(n int) []byte { return chunk{stream: Stdout, data: make([]byte, n)}.encode() }
	for name, answer := range map[string]func(stream io.Writer){
		"never answers": func(io.Writer) {},
		"endless output": func(w io.Writer) {
			for writeMessage(w, msgData, chunkOf(maxData)) == nil {
			}
		},
		"endless processes": func(w io.Writer) {
			for writeJSON(w, msgEvent, ProcessInfo{Command: strings.Repeat("x", 60<<10)}) == nil {
			}
		},
		"a giant length": func(w io.Writer) { w.Write([]byte{byte(msgReply), 0xff, 0xff, 0xff, 0xff, 1, 2, 3}) },
		"half a message": func(w io.Writer) { w.Write([]byte{byte(msgReply), 0, 0, 1, 0, '{'}) },
		"a deep value":   func(w io.Writer) { writeMessage(w, msgReply, bytes.Repeat([]byte("["), maxMessage)) },
		"empty pieces": func(w io.Writer) {
			for writeMessage(w, msgData, chunkOf(0)) == nil {
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := hostileGuest(t, func(s *session) {
				answerStreams(s, func(method string, stream io.Writer) {
					if method == methodHello {
						writeMessage(stream, msgReply, []byte(`{"version":2}`))
						return
					}
					answer(stream)
				})
			})
			c, err := newClient(testContext(t), conn)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			before := heap()
			for what, call := range map[string]func(context.Context) error{
				"exec": func(ctx context.Context) error {
					return second(c.Exec(ctx, ExecRequest{Args: []string{"x"}}, ExecIO{Stdin: strings.NewReader("in")}))
				},
				"stats":    func(ctx context.Context) error { _, err := c.Stats(ctx); return err },
				"top":      func(ctx context.Context) error { _, err := c.Top(ctx); return err },
				"stat":     func(ctx context.Context) error { _, err := c.Stat(ctx, "/"); return err },
				"copy out": func(ctx context.Context) error { return c.CopyFrom(ctx, "/", false, io.Discard) },
				"copy in":  func(ctx context.Context) error { return c.CopyTo(ctx, "/", endless{}) },
				"wait":     func(ctx context.Context) error { _, err := c.Wait(ctx); return err },
				"output": func(ctx context.Context) error {
					return c.Output(ctx, Offsets{}, func(Stream, int64, []byte) error { return nil })
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				start := time.Now()
				err := call(ctx)
				cancel()
				if err == nil && name != "a deep value" || time.Since(start) > 20*time.Second {
					t.Errorf("%s: %v after %v", what, err, time.Since(start))
				}
			}
			// Both ends live in this process: a window for each call, and what is under way.
			if grown := heap() - before; grown > 16<<20 {
				t.Errorf("the heap has grown by %d bytes", grown)
			}
		})
	}
}

// endless gives bytes for ever.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
