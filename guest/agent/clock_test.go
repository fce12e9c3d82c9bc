package agent

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	port := newSimPort(1)
	_, control := serve(t, port)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := newClient(ctx, port.connect())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	control.mu.Lock()
	told := control.told
	control.ahead = 90 * time.Second
	control.mu.Unlock()
	if age := time.Since(told); age < 0 || age > time.Minute {
		t.Errorf("hello said %s", told)
	}
	moved, err := c.SyncClock(ctx, time.Second)
	if err != nil || (moved-90*time.Second).Abs() > time.Second {
		t.Errorf("moved by %s, err %v", moved, err)
	}
	control.mu.Lock()
	left := control.ahead
	control.mu.Unlock()
	if left.Abs() > time.Second {
		t.Errorf("%s ahead after it was set", left)
	}
	if moved, err := c.SyncClock(ctx, 30*time.Second); moved != 0 || err != nil {
		t.Errorf("moved again by %s, err %v", moved, err)
	}
	control.mu.Lock()
	control.err = ErrUnsupported // as a guest that knows no clocks
	control.mu.Unlock()
	if _, err := c.SyncClock(ctx, time.Second); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// However long an entrypoint lives, its guest keeps few events: the first of each
// type and the newest.
func TestEventsBounded(t *testing.T) {
	l := NewEventLog()
	l.Append(Event{Type: EventStarted, PID: 1})
	for i := range 1000 {
		l.Append(Event{Type: EventHealth, PID: i})
		if i%10 == 0 {
			l.Append(Event{Type: EventRestarting, Restarts: i})
			l.Append(Event{Type: EventStarted, Restarts: i})
		}
	}
	l.Append(Event{Type: EventExited, Exit: &Exit{}})
	all, _ := l.since(0)
	if len(all) != 3*(keepEvents+1)+1 || all[0].PID != 1 || !all[len(all)-1].final() {
		t.Errorf("%d events kept, first %+v", len(all), all[0])
	}
	for i := range all[1:] {
		if all[i].Seq >= all[i+1].Seq {
			t.Errorf("event %d before %d", all[i].Seq, all[i+1].Seq)
		}
	}
	var health []int
	for _, e := range all {
		if e.Type == EventHealth {
			health = append(health, e.PID)
		}
	}
	if health[0] != 0 || health[1] != 995 || health[len(health)-1] != 999 {
		t.Errorf("results kept: %v", health)
	}
	last, _ := l.since(all[len(all)-1].Seq)
	if none, _ := l.since(all[len(all)-1].Seq + 1); len(last) != 1 || len(none) != 0 {
		t.Errorf("%d events since the last, %d after it", len(last), len(none))
	}
}
