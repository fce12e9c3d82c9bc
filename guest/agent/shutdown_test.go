package agent

import (
	"errors"
	"testing"
)

// goneStream is a stream whose host has closed the session.
type goneStream struct{ err error }

func (s goneStream) Write([]byte) (int, error) { return 0, s.err }

// A host that has read the answer may close the session before the guest's end
// has seen its answer sent; the guest powers off all the same.
func TestShutdownAnswerLost(t *testing.T) {
	control := &fakeControl{down: make(chan struct{})}
	s := &Server{Control: control, Output: NewOutputLog(0), Events: NewEventLog()}
	s.Output.End(Stdout)
	s.Output.End(Stderr)
	gone := errors.New("session shutdown")
	if err := s.shutdown(goneStream{gone}); !errors.Is(err, gone) {
		t.Errorf("shutdown: %v, want %v", err, gone)
	}
	select {
	case <-control.down:
	default:
		t.Error("the guest stays")
	}
}
