package agent

import "sync"

// EventLog keeps what happened to the entrypoint, to be told to every host.
type EventLog struct {
	mu      sync.Mutex
	events  []Event
	changed chan struct{}
}

// NewEventLog makes an empty log.
func NewEventLog() *EventLog { return &EventLog{changed: make(chan struct{})} }

// Append numbers an event and adds it.
func (l *EventLog) Append(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = len(l.events)
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *EventLog) since(n int) ([]Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.events[n:len(l.events):len(l.events)], l.changed
}

// final says that no event can follow.
func (e Event) final() bool { return e.Type == EventExited || e.Type == EventFailed }
