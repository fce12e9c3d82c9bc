package output

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openLimited(t *testing.T, path string, limit Limit) *Log {
	t.Helper()
	l, err := Open(path, limit)
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// sizes lists what a log has on disk.
func sizes(t *testing.T, path string) (list []int64) {
	t.Helper()
	numbers, err := segmentNumbers(path)
	must(t, err)
	for _, n := range numbers {
		info, err := os.Stat(segmentPath(path, n))
		must(t, err)
		list = append(list, info.Size())
	}
	return list
}

// lines writes numbered lines to alternating streams and returns what belongs to
// standard output.
func lines(t *testing.T, l *Log, from, to int) string {
	t.Helper()
	var all strings.Builder
	for i := from; i < to; i++ {
		line := fmt.Sprintf("line %06d\n", i)
		out, errs := l.Offsets()
		if i%3 == 2 {
			must(t, l.Append(t.Context(), Stderr, errs, []byte(line)))
			continue
		}
		must(t, l.Append(t.Context(), Stdout, out, []byte(line)))
		all.WriteString(line)
	}
	return all.String()
}

func stdout(t *testing.T, l *Log, q Query) string {
	t.Helper()
	q.Stdout = true
	var b strings.Builder
	must(t, l.Read(t.Context(), q, func(r Record) error {
		b.Write(r.Data)
		return nil
	}))
	return b.String()
}

// However much is written, the disk holds so much of it, the newest; and a log
// that is opened again goes on where it was.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	limit := Limit{Bytes: 4 << 10, Files: 3}
	l := openLimited(t, path, limit)
	must(t, l.Begin(1))
	want := ""
	for i := range 20 {
		want += lines(t, l, i*200, i*200+200)
		got := sizes(t, path)
		if len(got) > limit.Files || slices.Max(got) > limit.Bytes {
			t.Fatalf("%d bytes written: on disk %v", len(want), got)
		}
		if i%3 == 0 { // as after the engine's sudden end
			first := l.First()
			l = openLimited(t, path, limit)
			must(t, l.Begin(1))
			if !l.First().Equal(first) {
				t.Fatalf("first output at %v, was at %v", l.First(), first)
			}
		}
		if out, _ := l.Offsets(); out != int64(len(want)) {
			t.Fatalf("offset %d, want %d", out, len(want))
		}
	}
	kept := stdout(t, l, Query{Tail: -1})
	if !strings.HasSuffix(want, kept) || int64(len(kept)) < limit.Bytes/2 {
		t.Errorf("kept %d bytes, not the end of what was written", len(kept))
	}
	all := strings.SplitAfter(want, "\n")
	if got, tail := stdout(t, l, Query{Tail: 150}), strings.Join(all[len(all)-151:], ""); got != tail {
		t.Errorf("the last 150 lines: got %d bytes, want %d", len(got), len(tail))
	}
}

// A record larger than any file has room for is cut, not refused.
func TestRotationOfLargeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	limit := Limit{Bytes: MinBytes, Files: 1000}
	l := openLimited(t, path, limit)
	must(t, l.Begin(1))
	want := strings.Repeat("0123456789abcde\n", 1000)
	must(t, l.Append(t.Context(), Stdout, 0, []byte(want)))
	if got := stdout(t, l, Query{Tail: -1}); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if got := sizes(t, path); slices.Max(got) > limit.Bytes {
		t.Errorf("on disk %v", got)
	}
}

// Who follows loses nothing and gets nothing twice, whatever goes meanwhile.
func TestFollowThroughRotation(t *testing.T) {
	for _, files := range []int{1, 2, 5} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			l := openLimited(t, filepath.Join(t.TempDir(), "output.log"), Limit{Bytes: 2 << 10, Files: files})
			must(t, l.Begin(1))
			got := make(chan string)
			for range 2 {
				go func() { got <- stdout(t, l, Query{Tail: -1, Follow: true, Hold: true}) }()
			}
			for registered := 0; registered < 2; {
				l.mu.Lock()
				registered = len(l.readers)
				l.mu.Unlock()
			}
			want := lines(t, l, 0, 5000)
			must(t, l.Close()) // a deleted log is read to its end too
			for range 2 {
				if g := <-got; g != want {
					t.Errorf("followed %d bytes of %d", len(g), len(want))
				}
			}
			if !l.last().dropped {
				t.Error("a closed log without readers has open files")
			}
		})
	}
}

// A reader that holds the log makes the writer wait; one that does not is told
// that it was too slow.
func TestSlowReaders(t *testing.T) {
	limit := Limit{Bytes: 2 << 10, Files: 2}
	for _, hold := range []bool{true, false} {
		t.Run(fmt.Sprint("hold=", hold), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "output.log")
			l := openLimited(t, path, limit)
			must(t, l.Begin(1))
			must(t, l.Append(t.Context(), Stdout, 0, []byte("first\n")))
			reading, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
			go func() {
				n := 0
				ended <- l.Read(t.Context(), Query{Stdout: true, Tail: -1, Follow: true, Hold: hold}, func(Record) error {
					if n++; n == 1 {
						close(reading)
						<-goOn
					}
					return nil
				})
			}()
			<-reading
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			err := l.Append(ctx, Stdout, 6, []byte(strings.Repeat("x", 20<<10)))
			if waited := errors.Is(err, context.DeadlineExceeded); waited != hold {
				t.Errorf("append: %v", err)
			}
			if got := sizes(t, path); len(got) > limit.Files {
				t.Errorf("on disk %v", got)
			}
			close(goOn)
			l.End()
			if err := <-ended; errors.Is(err, ErrLost) == hold {
				t.Errorf("read: %v", err)
			}
		})
	}
}

// A file that was being begun when the host ended is begun anew.
func TestCutShortRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "output.log")
	limit := Limit{Bytes: 2 << 10, Files: 4}
	l := openLimited(t, path, limit)
	must(t, l.Begin(1))
	want := lines(t, l, 0, 100)
	must(t, l.Close())
	last := segmentPath(path, l.last().number)
	next := segmentPath(path, l.last().number+1)
	whole, err := os.ReadFile(last)
	must(t, err)
	for n := range headerSize + placeSize {
		must(t, os.WriteFile(next, whole[:n], 0o600))
		l := openLimited(t, path, limit)
		if out, _ := l.Offsets(); out != int64(len(want)) {
			t.Fatalf("cut at %d: offset %d, want %d", n, out, len(want))
		}
		if _, err := os.Stat(next); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("cut at %d: the file is still there", n)
		}
		must(t, l.Close())
	}
}

func TestUntil(t *testing.T) {
	l := openLimited(t, filepath.Join(t.TempDir(), "output.log"), Limit{})
	must(t, l.Begin(1))
	must(t, l.Append(t.Context(), Stdout, 0, []byte("old\n")))
	time.Sleep(time.Millisecond)
	then := time.Now()
	time.Sleep(time.Millisecond)
	must(t, l.Append(t.Context(), Stdout, 4, []byte("new\n")))
	for _, follow := range []bool{false, true} {
		if got := stdout(t, l, Query{Until: then, Tail: -1, Follow: follow}); got != "old\n" {
			t.Errorf("until, follow %v: %q", follow, got)
		}
	}
	if got := stdout(t, l, Query{Until: time.Now().Add(20 * time.Millisecond), Tail: -1, Follow: true}); got != "old\nnew\n" {
		t.Errorf("until soon: %q", got)
	}
}
