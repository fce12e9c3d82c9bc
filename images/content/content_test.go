package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func hash(t testing.TB, b []byte) v1.Hash {
	t.Helper()
	h, _, err := v1.SHA256(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestStore(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := []byte("a blob")
	h := hash(t, b)
	if _, err := s.Bytes(h); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), h.String()) {
		t.Errorf("error %v", err)
	}
	for range 2 {
		if err := s.Put(h, b); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Bytes(h); err != nil || !bytes.Equal(got, b) {
		t.Errorf("%q, %v", got, err)
	}
	if all, err := s.List(); err != nil || len(all) != 1 || all[0] != h {
		t.Errorf("list %v, %v", all, err)
	}
	if err := s.Put(h, []byte("another")); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), h.String()) {
		t.Errorf("error %v", err)
	}
	name := filepath.Join(dir, "sha256", h.Hex)
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bytes(h); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a changed blob: %v", err)
	}
	if err := s.Verify(t.Context(), h); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), h.String()) {
		t.Errorf("a changed blob is verified: %v", err)
	}
	if err := s.Put(h, b); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Bytes(h); err != nil || !bytes.Equal(got, b) {
		t.Errorf("a blob that was mended: %q, %v", got, err)
	}
	if err := s.Verify(t.Context(), h); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Delete(h); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []v1.Hash{{}, {Algorithm: "sha256", Hex: "../../etc/passwd"}, {Algorithm: "..", Hex: h.Hex}, {Algorithm: "sha256", Hex: strings.ToUpper(h.Hex)}} {
		if err := s.Put(bad, b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", bad, err)
		}
		if err := s.Delete(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// What a dead process left is swept, what a living one works on is not.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	mine, err := Temporary(dir, "mine-*")
	if err != nil {
		t.Fatal(err)
	}
	defer mine.Close()
	if err := os.WriteFile(filepath.Join(dir, "left"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || filepath.Join(dir, entries[0].Name()) != mine.Name() {
		t.Errorf("left %v (%v)", entries, err)
	}
}

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "record")
	for _, write := range []func(tmp, name string, v any) error{WriteRecord, WriteLater, WriteUnsynced} {
		if err := write(dir, name, map[string]int{"a": 1}); err != nil {
			t.Fatal(err)
		}
		var got map[string]int
		if err := ReadRecord(name, &got); err != nil || got["a"] != 1 {
			t.Errorf("%v, %v", got, err)
		}
		if err := write(dir, name, func() {}); err == nil {
			t.Error("wrote a function")
		}
		if err := write(dir, filepath.Join(dir, "missing", "record"), 1); err == nil {
			t.Error("wrote into a missing directory")
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v (%v)", entries, err)
	}
}

func TestLocks(t *testing.T) {
	l := Locks{filepath.Join(t.TempDir(), "lock")}
	one, err := l.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.Try(1); ok || err != nil {
		t.Errorf("took a lock that is held (%v)", err)
	}
	two, err := l.Acquire(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	two()
	two()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := l.Acquire(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	var held atomic.Bool
	held.Store(true)
	done := make(chan error)
	go func() {
		release, err := l.Acquire(t.Context(), 1)
		if err == nil {
			release()
		}
		if held.Load() {
			err = errors.New("two held the lock")
		}
		done <- err
	}()
	time.Sleep(5 * time.Millisecond)
	held.Store(false)
	one()
	if err := <-done; err != nil {
		t.Error(err)
	}

	// Sharers exclude only those who want it alone.
	first, err := l.Share(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	second, err := l.Share(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	first()
	if _, ok, _ := l.Try(3); ok {
		t.Error("took a lock that is shared")
	}
	second()
	if release, ok, err := l.Try(3); !ok || err != nil {
		t.Errorf("did not get a free lock (%v)", err)
	} else {
		release()
	}
}

// A lock goes with the process that holds it.
func TestLocksOfTheDead(t *testing.T) {
	if path := os.Getenv("CONTENT_TEST_LOCK"); path != "" {
		if _, err := (Locks{path}).Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		fmt.Println("locked")
		time.Sleep(time.Minute)
	}
	l := Locks{filepath.Join(t.TempDir(), "lock")}
	c := exec.Command(os.Args[0], "-test.run=TestLocksOfTheDead")
	c.Env = append(os.Environ(), "CONTENT_TEST_LOCK="+l.Path)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := l.Try(1); ok || err != nil {
		t.Errorf("took a lock of another process (%v)", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	release, ok, err := l.Try(1)
	if !ok || err != nil {
		t.Fatalf("did not get a dead process's lock (%v)", err)
	}
	release()
}
