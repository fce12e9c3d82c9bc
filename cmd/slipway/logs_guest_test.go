//go:build guest

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kept is what a server's logs take below the state directory, in files of a name.
func (s *state) kept(name string) (bytes int64, files int) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, "servers/*", name+"*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range found {
		info, err := os.Stat(f)
		if err != nil {
			continue // rotated away meanwhile
		}
		bytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		files++
	}
	return bytes, files
}

const counting = `i=0; while [ $i -lt %d ]; do echo "line $i"; echo "error $i" >&2; i=$((i+1)); done`

func numberedLines(word string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", word, i)
	}
	return b.String()
}

// However small the log, who boots a server sees all it writes; and what is kept
// of it is its end.
func TestLogRotation(t *testing.T) {
	s := newState(t)
	const n = 5000
	// The streams are kept as they come, and one may come long before the other; their
	// last lines are written when all others have come.
	r := s.run("boot", "--name", "small", "--log-opt", "max-size=16k", "--log-opt", "max-file=3", busybox, "sh", "-c",
		fmt.Sprintf(counting, n)+"; sleep 2; echo last; echo last error >&2").ok()
	sameBytes(t, "stdout", r.stdout, numberedLines("line", n)+"last\n")
	sameBytes(t, "stderr", r.stderr, numberedLines("error", n)+"last error\n")
	if bytes, files := s.kept("output.log"); files > 3 || bytes > 4*(16<<10) {
		t.Errorf("%d bytes in %d files are kept", bytes, files)
	}
	logs := s.run("server", "logs", "small").ok()
	if !strings.HasSuffix(r.stdout, logs.stdout) || !strings.HasSuffix(r.stderr, logs.stderr) || len(logs.stdout)+len(logs.stderr) < 16<<10 {
		t.Errorf("logs gives %d and %d bytes, which are not the end of what was written", len(logs.stdout), len(logs.stderr))
	}
	s.run("server", "logs", "--tail", "1", "--stream", "stdout", "small").ok().says("last\n")
	s.run("server", "logs", "--until", "1h", "small").ok().says("")
	if stamped := s.run("server", "logs", "-t", "--since", "2020-01-01", "--tail", "1", "--stream", "stderr", "small").ok().stderr; strings.Count(stamped, "Z last error\n") != 1 {
		t.Errorf("with times: %q", stamped)
	}
}

// A log that is followed goes on through its rotations, and one whose engine is
// killed goes on where it was.
func TestLogRotationFollowed(t *testing.T) {
	s := newState(t)
	const n = 6000
	s.run("boot", "-d", "--name", "w", "--log-opt", "max-size=32k", "--log-opt", "max-file=2", busybox, "sh", "-c",
		"sleep 1; "+fmt.Sprintf(counting, n)+"; sleep 1000").ok()
	f := s.start("server", "logs", "-f", "--stream", "stdout", "w")
	f.expect("line 1000\n")
	if err := endEngine(s.dir, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	seen := f.wait().stdout
	if !strings.HasPrefix(numberedLines("line", n), seen) {
		t.Errorf("followed until the engine's end: %q", tail(seen))
	}
	eventually(t, deadline, func() error {
		if got := s.run("server", "logs", "--tail", "1", "--stream", "stdout", "w").ok().stdout; got != fmt.Sprintf("line %d\n", n-1) {
			return fmt.Errorf("the last line is %q", got)
		}
		return nil
	})
	kept := s.run("server", "logs", "--stream", "stdout", "w").ok().stdout
	if !strings.HasSuffix(numberedLines("line", n), kept) || strings.Count(kept, "\n") < 500 {
		t.Errorf("%d bytes are kept, which are not the end of what was written", len(kept))
	}
	if bytes, files := s.kept("output.log"); files > 2 || bytes > 3*(32<<10) {
		t.Errorf("%d bytes in %d files are kept", bytes, files)
	}
}

// A guest that writes to its console without end fills no disk.
func TestConsoleBounded(t *testing.T) {
	const limit = 256 << 10
	s := newState(t, "SLIPWAY_LOGS_MAX_CONSOLE=256K")
	s.run("boot", "-d", "--name", "noisy", busybox, "sh", "-c",
		"mknod /tmp/serial c 4 64 && yes noise > /tmp/serial").ok()
	var size int64
	eventually(t, 2*deadline, func() error {
		found, _ := filepath.Glob(filepath.Join(s.dir, "servers/*/console.log"))
		if len(found) != 1 {
			return fs.ErrNotExist
		}
		info, err := os.Stat(found[0])
		if err != nil {
			return err
		}
		if size = info.Size(); size < 3*limit {
			return fmt.Errorf("the console log has %d bytes", size)
		}
		return nil
	})
	eventually(t, 20*time.Second, func() error {
		if bytes, _ := s.kept("console.log"); bytes > limit+limit/2 {
			return fmt.Errorf("%d of %d bytes are kept", bytes, size)
		}
		return nil
	})
	if r := s.run("server", "logs", "--console", "noisy").ok(); !strings.Contains(r.stdout, "noise") || strings.Contains(r.stdout, "\x00") {
		t.Errorf("the console says %q", tail(r.stdout))
	}
}
