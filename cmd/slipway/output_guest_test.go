//go:build guest

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Output is complete and unchanged, the last of it written just before the end.
func TestOutputByteForByte(t *testing.T) {
	for _, root := range []string{"virtiofs", "9p"} {
		t.Run(root, func(t *testing.T) {
			t.Parallel()
			s := newState(t)
			dir := t.TempDir()
			out, errs := everyByte(5<<20), everyByte(3<<20)
			writeFile(t, filepath.Join(dir, "out"), out)
			writeFile(t, filepath.Join(dir, "err"), errs)
			r := s.run("boot", "--rm", "--root", root, "--volume", dir+":/data:ro", busybox,
				"sh", "-c", "cat /data/err >&2 & cat /data/out; wait; printf end; exit 7").exits(7)
			sameBytes(t, "stdout", r.stdout, out+"end")
			sameBytes(t, "stderr", r.stderr, errs)
			s.clean()
		})
	}
}

// everyByte returns n random bytes, every value among them.
func everyByte(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	for i := range 256 {
		b[i] = byte(i)
	}
	return string(b)
}

func sameBytes(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	t.Errorf("%s: %d bytes, want %d; they differ at %d: %q", what, len(got), len(want), i, tail(got[i:min(i+80, len(got))]))
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The output of a server can be read as often as one likes, while it runs, after
// its end, and by run.
func TestLogs(t *testing.T) {
	t.Parallel()
	s := newState(t)
	id := strings.TrimSpace(s.run("boot", "--detach", "--name", "logged", busybox,
		"sh", "-c", "echo one; echo two >&2; echo three; sleep 1; printf four").ok().stdout)
	if len(id) != 36 {
		t.Errorf("boot --detach printed %q, want an ID", id)
	}
	r := s.run("server", "logs", "--follow", "logged").ok().says("one\nthree\nfour")
	if r.stderr != "two\n" {
		t.Errorf("stderr %q", r.stderr)
	}
	s.run("server", "logs", "--tail", "1", "--stream", "stdout", id[:8]).ok().says("four")
	// What the kernel says stays apart from what the entrypoint says.
	eventually(t, 20*time.Second, func() error {
		r := s.run("server", "logs", "--console", "logged").ok()
		if !strings.Contains(r.stdout, "reboot: ") || strings.Contains(r.stdout, "three") {
			return fmt.Errorf("the console says %q", tail(r.stdout))
		}
		return nil
	})
}
