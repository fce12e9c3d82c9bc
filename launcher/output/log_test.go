package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func newLog(t *testing.T) *Log {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "output.log"), Limit{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, l *Log, q Query) string {
	t.Helper()
	var b strings.Builder
	must(t, l.Read(t.Context(), q, func(r Record) error {
		fmt.Fprintf(&b, "%d:%s", r.Stream, r.Data)
		return nil
	}))
	return b.String()
}

func TestAppendDropsWhatIsThere(t *testing.T) {
	l := newLog(t)
	must(t, l.Begin(1))
	must(t, l.Append(t.Context(), Stdout, 0, []byte("hello ")))
	must(t, l.Append(t.Context(), Stdout, 0, []byte("hello ")))
	must(t, l.Append(t.Context(), Stdout, 3, []byte("lo world\n")))
	must(t, l.Append(t.Context(), Stderr, 0, []byte("oops\n")))
	if err := l.Append(t.Context(), Stdout, 100, []byte("x")); !errors.Is(err, ErrGap) {
		t.Errorf("a gap: %v", err)
	}
	if got := read(t, l, All()); got != "1:hello 1:world\n2:oops\n" {
		t.Errorf("read %q", got)
	}
	if out, err := l.Offsets(); out != 12 || err != 5 {
		t.Errorf("offsets %d and %d", out, err)
	}
}

func TestRunsBeginAtZero(t *testing.T) {
	l := newLog(t)
	for run := 1; run <= 3; run++ {
		must(t, l.Begin(run))
		must(t, l.Begin(run)) // as an engine that resumes does
		must(t, l.Append(t.Context(), Stdout, 0, fmt.Appendf(nil, "run %d\n", run)))
	}
	if got := read(t, l, Query{Stdout: true, Run: 3, Tail: -1}); got != "1:run 3\n" {
		t.Errorf("the last run: %q", got)
	}
	if got := read(t, l, All()); got != "1:run 1\n1:run 2\n1:run 3\n" {
		t.Errorf("all runs: %q", got)
	}
}

func TestTail(t *testing.T) {
	l := newLog(t)
	must(t, l.Begin(1))
	text := "a\nb\nc\nd"
	must(t, l.Append(t.Context(), Stdout, 0, []byte(text)))
	for n, want := range map[int]string{0: "", 1: "1:d", 2: "1:c\nd", 4: "1:a\nb\nc\nd", 9: "1:a\nb\nc\nd", -1: "1:a\nb\nc\nd"} {
		if got := read(t, l, Query{Stdout: true, Tail: n}); got != want {
			t.Errorf("tail %d: %q, want %q", n, got, want)
		}
	}
}

func TestSince(t *testing.T) {
	l := newLog(t)
	must(t, l.Begin(1))
	must(t, l.Append(t.Context(), Stdout, 0, []byte("old\n")))
	time.Sleep(time.Millisecond)
	now := time.Now()
	must(t, l.Append(t.Context(), Stdout, 4, []byte("new\n")))
	if got := read(t, l, Query{Stdout: true, Since: now, Tail: -1}); got != "1:new\n" {
		t.Errorf("since: %q", got)
	}
}

func TestFollow(t *testing.T) {
	l := newLog(t)
	must(t, l.Begin(1))
	got := make(chan string)
	go func() {
		var b bytes.Buffer
		_ = l.Read(t.Context(), Query{Stdout: true, Tail: -1, Follow: true}, func(r Record) error {
			b.Write(r.Data)
			return nil
		})
		got <- b.String()
	}()
	var want strings.Builder
	for i := range 100 {
		piece := fmt.Sprintln(i)
		must(t, l.Append(t.Context(), Stdout, int64(want.Len()), []byte(piece)))
		want.WriteString(piece)
	}
	l.End()
	if g := <-got; g != want.String() {
		t.Errorf("followed %d bytes of %d", len(g), want.Len())
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	l := newLog(t)
	must(t, l.Begin(1))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := l.Read(ctx, Query{Stdout: true, Tail: -1, Follow: true}, func(Record) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

// TestCutShort opens a log cut off at every length: all whole records must be
// there, nothing else, and it must go on from there.
func TestCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	l, err := Open(path, Limit{})
	must(t, err)
	must(t, l.Begin(1))
	var ends []int64
	for i := range 3 {
		must(t, l.Append(t.Context(), Stdout, int64(i*4), fmt.Appendf(nil, "%03d\n", i)))
		ends = append(ends, l.last().size)
	}
	must(t, l.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	for n := range len(whole) + 1 {
		must(t, os.WriteFile(path, whole[:n], 0o600))
		l, err := Open(path, Limit{})
		must(t, err)
		records := 0
		for _, end := range ends {
			if int64(n) >= end {
				records++
			}
		}
		out, _ := l.Offsets()
		if out != int64(records*4) {
			t.Fatalf("cut at %d: %d bytes of output, want %d", n, out, records*4)
		}
		must(t, l.Begin(1))
		must(t, l.Append(t.Context(), Stdout, out, []byte("on\n")))
		if got := read(t, l, All()); !strings.HasSuffix(got, "1:on\n") {
			t.Fatalf("cut at %d: %q", n, got)
		}
		must(t, l.Close())
	}
}

func FuzzOpen(f *testing.F) {
	l, err := Open(filepath.Join(f.TempDir(), "seed"), Limit{})
	if err != nil {
		f.Fatal(err)
	}
	_ = l.Begin(1)
	_ = l.Append(f.Context(), Stdout, 0, []byte("hello\n"))
	_ = l.Append(f.Context(), Stderr, 0, []byte("world\n"))
	seed, _ := os.ReadFile(l.path)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "log")
		must(t, os.WriteFile(path, data, 0o600))
		l, err := Open(path, Limit{})
		must(t, err)
		must(t, l.Begin(7))
		out, _ := l.Offsets()
		must(t, l.Append(t.Context(), Stdout, out, []byte("more")))
		must(t, l.Read(t.Context(), All(), func(Record) error { return nil }))
		must(t, l.Close())
	})
}
