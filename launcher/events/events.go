// Package events keeps what happened to servers, to be told to whoever asks: as
// it happens, and, for the latest few thousand events, afterwards.
//
// The events are a file of JSON values, one to a line, and survive the engine. A
// line cut short by the host's sudden end is left out.
package events

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Action says what happened. The words are docker's.
type Action string

// The actions.
const (
	Create       Action = "create"
	Start        Action = "start" // the entrypoint runs
	Die          Action = "die"   // attributes exitCode, signal, and error where it never ran
	Stop         Action = "stop"
	Kill         Action = "kill" // attribute signal, a number
	OOM          Action = "oom"
	Restart      Action = "restart"
	Pause        Action = "pause"
	Unpause      Action = "unpause"
	HealthStatus Action = "health_status" // attribute health
	Warning      Action = "warning"       // attribute message: what user data asked for in vain
	Destroy      Action = "destroy"
	Attach       Action = "attach"
	Detach       Action = "detach"
	Resize       Action = "resize"      // attributes height and width
	ExecCreate   Action = "exec_create" // attributes execID and command, as all of exec's
	ExecStart    Action = "exec_start"
	ExecDetach   Action = "exec_detach"
	ExecDie      Action = "exec_die" // attribute exitCode too
	CopyOut      Action = "archive-path"
	CopyIn       Action = "extract-to-dir" // both with attribute path
)

// Event is one thing that happened to a server.
type Event struct {
	Time       time.Time         `json:"time"`
	Action     Action            `json:"action"`
	Server     string            `json:"server"` // ID
	Name       string            `json:"name"`
	Image      string            `json:"image"`
	Project    string            `json:"project,omitempty"` // of the server
	Attributes map[string]string `json:"attributes,omitempty"`
}

// String is the event on a line, as docker shows its own.
func (e Event) String() string {
	attributes := []string{"image=" + e.Image, "name=" + e.Name}
	for name, value := range e.Attributes {
		attributes = append(attributes, name+"="+value)
	}
	slices.Sort(attributes)
	return fmt.Sprintf("%s server %s %s (%s)", e.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00"),
		e.Action, e.Server, strings.Join(attributes, ", "))
}

// Filter leaves out events. Of each list one must match; an empty list matches all.
type Filter struct {
	Servers []string `json:"servers,omitempty"` // IDs, beginnings of IDs, or names
	Actions []string `json:"actions,omitempty"`
	Images  []string `json:"images,omitempty"`
	// Projects are the projects of servers; "" is that of the local socket.
	Projects []string `json:"projects,omitempty"`
}

func (f Filter) wants(e Event) bool {
	return (len(f.Actions) == 0 || slices.Contains(f.Actions, string(e.Action))) &&
		(len(f.Images) == 0 || slices.Contains(f.Images, e.Image)) &&
		(len(f.Projects) == 0 || slices.Contains(f.Projects, e.Project)) &&
		(len(f.Servers) == 0 || slices.ContainsFunc(f.Servers, func(s string) bool {
			return s == e.Name || s != "" && strings.HasPrefix(e.Server, s)
		}))
}

// Query says which events to tell.
type Query struct {
	// Since begins with events of the past; where it is zero only new ones are told.
	Since time.Time
	// Until ends at a time; where it is zero there is no end.
	Until  time.Time
	Filter Filter
}

// keep is how many events are remembered at least; twice as many at most.
const keep = 4096

// maxAttribute bounds the text of one attribute, in bytes.
const maxAttribute = 1 << 10

// Log is the events of an engine. Its methods may be used from several goroutines.
type Log struct {
	path string

	mu      sync.Mutex
	file    *os.File
	lines   int     // in file
	dropped int     // events before those in events
	events  []Event // the latest, as the file has them
	changed chan struct{}
}

// Open opens the log at path or makes it.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Log{path: path, file: f, changed: make(chan struct{})}
	if err := l.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read events: %w", err), f.Close())
	}
	return l, nil
}

func (l *Log) load() error {
	r := bufio.NewReader(l.file)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) == 0 {
				return nil
			}
			_, err = l.file.WriteString("\n") // the next event begins a line
			return err
		}
		if err != nil {
			return err
		}
		l.lines++
		var e Event
		if json.Unmarshal(line, &e) == nil && e.Action != "" {
			l.remember(e)
		}
	}
}

func (l *Log) remember(e Event) {
	l.events = append(l.events, e)
	if n := len(l.events) - keep; n >= keep {
		l.events = slices.Clone(l.events[n:])
		l.dropped += n
	}
}

// Append adds an event, now. One that cannot be written is told all the same; the
// error is for the log.
func (l *Log) Append(e Event) error {
	for name, value := range e.Attributes {
		if len(value) > maxAttribute {
			e.Attributes[name] = strings.ToValidUTF8(value[:maxAttribute], "")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Time = time.Now().UTC()
	l.remember(e)
	close(l.changed)
	l.changed = make(chan struct{})
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if l.lines >= 2*keep {
		return l.rewrite()
	}
	l.lines++
	if _, err := l.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}

// rewrite replaces the file by one of what is remembered.
func (l *Log) rewrite() (err error) {
	f, err := os.OpenFile(l.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite events: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("rewrite events: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	w := bufio.NewWriter(f)
	out := json.NewEncoder(w)
	for _, e := range l.events {
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Flush(), os.Rename(f.Name(), l.path)); err != nil {
		return err
	}
	_ = l.file.Close()
	l.file, l.lines = f, len(l.events)
	return nil
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// Read calls emit for the events that q asks for, until the time it gives, an error
// of emit's, or the end of ctx, which it returns.
func (l *Log) Read(ctx context.Context, q Query, emit func(Event) error) error {
	l.mu.Lock()
	at := l.dropped + len(l.events)
	if !q.Since.IsZero() {
		at = l.dropped
	}
	l.mu.Unlock()
	var over <-chan time.Time
	if !q.Until.IsZero() {
		timer := time.NewTimer(time.Until(q.Until))
		defer timer.Stop()
		over = timer.C
	}
	for {
		l.mu.Lock()
		// Who is too slow misses what has been forgotten.
		at = max(at, l.dropped)
		found := slices.Clone(l.events[at-l.dropped:])
		changed := l.changed
		l.mu.Unlock()
		at += len(found)
		for _, e := range found {
			if !q.Until.IsZero() && e.Time.After(q.Until) {
				return nil
			}
			if e.Time.Before(q.Since) || !q.Filter.wants(e) {
				continue
			}
			if err := emit(e); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
