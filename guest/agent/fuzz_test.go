package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// After any bytes at all, a preamble puts the reader in step.
func FuzzFrameReader(f *testing.F) {
	good := appendFrame(nil, frame{typ: frameData, session: 7, seq: 1, payload: []byte("hello")})
	f.Add([]byte{})
	f.Add(good[:10])
	f.Add(append(append([]byte("\xF5SW"), good...), good[:headerSize+2]...))
	f.Fuzz(func(t *testing.T, noise []byte) {
		stream := append(append([]byte{}, noise...), preamble...)
		stream = append(stream, good...)
		r := newFrameReader(bytes.NewReader(stream))
		var last frame
		for {
			got, err := r.next()
			if errors.Is(err, errReset) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.payload) > maxPayload {
				t.Fatalf("payload of %d bytes", len(got.payload))
			}
			last = got
			last.payload = bytes.Clone(got.payload)
		}
		if last.session != 7 || last.seq != 1 || string(last.payload) != "hello" {
			t.Fatalf("last frame %+v", last)
		}
	})
}

func FuzzMessages(f *testing.F) {
	var seed bytes.Buffer
	writeMessage(&seed, msgData, chunk{stream: Stdout, offset: 5, data: []byte("x")}.encode())
	writeJSON(&seed, msgEvent, Event{Type: EventExited, Exit: &Exit{Code: 1}})
	writeJSON(&seed, msgError, encodeError(ErrNotRunning))
	f.Add(seed.Bytes())
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			_, payload, err := readMessage(r)
			if err != nil {
				return
			}
			if c, err := decodeChunk(payload); err == nil && !bytes.Equal(c.encode(), payload) {
				t.Errorf("chunk %+v does not encode to what it was read from", c)
			}
			_ = decodeError(payload)
			_, _ = decodeJSON[Hello](payload)
			_, _ = decodeJSON[Event](payload)
			_, _ = decodeJSON[request](payload)
		}
	})
}

// Whatever a guest sends, the host returns.
func FuzzHost(f *testing.F) {
	f.Add([]byte{}, true)
	f.Add(muxFrame(muxData, 2, 1, 18), false)
	f.Add(append(muxFrame(muxData, 2, 1, 18), "\x02\x00\x00\x00\x0d{\"version\":1}"...), true)
	f.Fuzz(func(t *testing.T, data []byte, framed bool) {
		host, guest := net.Pipe()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		link := newGuestLink(guest)
		go link.run(ctx)
		go func() {
			defer guest.Close()
			select {
			case s := <-link.accepts:
				if framed {
					s.Write(data)
				} else {
					guest.Write(data)
				}
				time.Sleep(time.Millisecond)
			case <-ctx.Done():
			}
		}()
		c, err := newClient(ctx, host)
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.Output(ctx, Offsets{}, func(Stream, int64, []byte) error { return nil })
		if ctx.Err() != nil {
			t.Error("the host hangs")
		}
	})
}

func TestReadMessageEnds(t *testing.T) {
	var b bytes.Buffer
	writeMessage(&b, msgReply, []byte("abc"))
	whole := b.Bytes()
	for n := range whole {
		_, _, err := readMessage(bytes.NewReader(whole[:n]))
		if n == 0 && !errors.Is(err, io.EOF) || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
