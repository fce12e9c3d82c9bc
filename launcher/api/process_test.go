package api

import (
	"io"
	"testing"
)

// script is a connection on which a client says things and goes.
type script []struct {
	m    Message
	data string
}

func (s *script) Receive() (Message, []byte, error) {
	if len(*s) == 0 {
		return 0, nil, io.EOF
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return next.m, []byte(next.data), nil
}

func (*script) Send(Message, []byte) error { return nil }
func (*script) Close() error               { return nil }

// A process is detached from when it has been given what its client sent before.
func TestDetachAfterInput(t *testing.T) {
	p := newPeer(&script{{MessageStdin, "ls\n"}, {MessageDetach, ""}}, func() {})
	received := make(chan struct{})
	go func() {
		defer close(received)
		p.receive(t.Context())
	}()
	b := make([]byte, 16)
	n, err := p.stdin.Read(b)
	if err != nil || string(b[:n]) != "ls\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	select {
	case <-p.detach:
		t.Error("detached before the input was asked for again")
	case <-received:
		t.Error("all is received before the input was asked for again")
	default:
	}
	if n, err := p.stdin.Read(b); n != 0 || err != nil {
		t.Errorf("%q, %v", b[:n], err)
	}
	<-p.detach
	<-received
}
