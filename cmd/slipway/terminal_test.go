package main

import (
	"errors"
	"strings"
	"testing"

	mobyterm "github.com/moby/term"
)

// What was typed before the detach keys is passed on before anybody hears of them.
func TestDetachable(t *testing.T) {
	d := &detachable{mobyterm.NewEscapeProxy(strings.NewReader("ls\n\x01x"), []byte("\x01x")), make(chan struct{})}
	detached := func() bool {
		select {
		case <-d.detach:
			return true
		default:
			return false
		}
	}
	b := make([]byte, 16)
	if n, err := d.Read(b); string(b[:n]) != "ls\n" || err != nil || detached() {
		t.Errorf("first: %q, %v, detached %t", b[:n], err, detached())
	}
	var escape mobyterm.EscapeError
	if n, err := d.Read(b); n != 0 || !errors.As(err, &escape) || !detached() {
		t.Errorf("then: %q, %v, detached %t", b[:n], err, detached())
	}
}
