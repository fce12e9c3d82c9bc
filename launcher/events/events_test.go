package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// past lists what q finds among the events there are.
func past(t *testing.T, l *Log, q Query) string {
	t.Helper()
	if q.Since.IsZero() {
		q.Since = time.Unix(1, 0)
	}
	if q.Until.IsZero() {
		q.Until = time.Now()
	}
	var names []string
	must(t, l.Read(t.Context(), q, func(e Event) error {
		names = append(names, e.Name+":"+string(e.Action))
		return nil
	}))
	return strings.Join(names, " ")
}

func TestEventsSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.log")
	l := open(t, path)
	must(t, l.Append(Event{Action: Create, Name: "a", Server: "1234-a", Image: "busybox"}))
	must(t, l.Append(Event{Action: Start, Name: "b", Server: "5678-b"}))
	must(t, l.Append(Event{Action: Die, Name: "a", Server: "1234-a", Attributes: map[string]string{"exitCode": "3"}}))
	for name, f := range map[string]Filter{
		"a:create b:start a:die": {},
		"a:create a:die":         {Servers: []string{"a"}},
		"b:start":                {Servers: []string{"5678"}},
		"a:die":                  {Servers: []string{"a", "b"}, Actions: []string{"die"}},
		"a:create":               {Images: []string{"busybox"}},
		"":                       {Servers: []string{""}},
	} {
		if got := past(t, l, Query{Filter: f}); got != name {
			t.Errorf("%+v: %q, want %q", f, got, name)
		}
	}
	must(t, l.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, whole[:len(whole)-20], 0o600)) // as the host's end leaves it
	l = open(t, path)
	must(t, l.Append(Event{Action: Destroy, Name: "c"}))
	must(t, l.Close())
	if got, want := past(t, open(t, path), Query{}), "a:create b:start c:destroy"; got != want {
		t.Errorf("after a restart: %q, want %q", got, want)
	}
}

func TestEventsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.log")
	l := open(t, path)
	const n = 3*keep + 7
	for i := range n {
		must(t, l.Append(Event{Action: Start, Name: fmt.Sprint(i), Attributes: map[string]string{"x": strings.Repeat("y", 2*maxAttribute)}}))
	}
	check := func(l *Log) {
		t.Helper()
		list := strings.Fields(past(t, l, Query{}))
		if len(list) < keep || len(list) > 2*keep || list[len(list)-1] != fmt.Sprintf("%d:start", n-1) {
			t.Errorf("%d events, the last %s", len(list), list[len(list)-1])
		}
	}
	check(l)
	must(t, l.Close())
	check(open(t, path))
	if info, err := os.Stat(path); err != nil || info.Size() > 2*keep*(maxAttribute+256) {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

// Without a time in the past only what happens from now on is told, until the end.
func TestFollow(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "events.log"))
	must(t, l.Append(Event{Action: Start, Name: "old"}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got, ended := make(chan string), make(chan error)
	go func() {
		ended <- l.Read(ctx, Query{}, func(e Event) error { got <- e.Name; return nil })
	}()
	// The reader may not be there yet.
	for name := ""; name == ""; {
		must(t, l.Append(Event{Action: Start, Name: "new"}))
		select {
		case name = <-got:
		case <-time.After(time.Millisecond):
		}
		if name == "old" {
			t.Error("the past is told")
		}
	}
	cancel()
	for {
		select {
		case <-got:
			continue
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("ended with %v", err)
			}
			return
		}
	}
}
