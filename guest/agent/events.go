package agent

import (
	"slices"
	"sync"
)

// EventLog keeps what happened to the entrypoint, to be told to every host. Its
// size is bounded, however long the entrypoint lives.
type EventLog struct {
	mu      sync.Mutex
	next    int
	events  []Event
	changed chan struct{}
}

// NewEventLog makes an empty log.
func NewEventLog() *EventLog { return &EventLog{changed: make(chan struct{})} }

// keepEvents is how many events of one type are kept: as many results of health
// checks as docker keeps.
const keepEvents = 5

// Append numbers an event and adds it. Of the events of its type the newest are
// kept and the first, which tells of the boot.
func (l *EventLog) Append(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Seq = l.next
	l.next++
	var same []int
	for i, old := range l.events {
		if old.Type == e.Type {
			same = append(same, i)
		}
	}
	if len(same) > keepEvents {
		// Of a copy, since hosts are being told of these.
		l.events = slices.Delete(slices.Clone(l.events), same[1], same[1]+1)
	}
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// since returns the events from number n on that are kept.
func (l *EventLog) since(n int) ([]Event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.events, func(e Event) bool { return e.Seq >= n })
	if i < 0 {
		return nil, l.changed
	}
	return l.events[i:len(l.events):len(l.events)], l.changed
}

// final says that no event can follow.
func (e Event) final() bool { return e.Type == EventExited || e.Type == EventFailed }
