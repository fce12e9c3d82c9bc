//go:build guest

package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-vm/slipway/cmd/internal/traces"
)

// clean fails the test unless nothing is left of any server, but what is named. The
// kernel may take a while to end the last of a process.
func (s *state) clean(but ...string) {
	s.t.Helper()
	eventually(s.t, 5*time.Second, func() error {
		found, err := traces.Of(s.dir)
		found = slices.DeleteFunc(found, func(f string) bool { return slices.Contains(but, f) })
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("still there:\n\t%s", strings.Join(found, "\n\t"))
		}
		return err
	})
}

// engines returns the pids of a state directory's engines.
func engines(dir string) []int {
	var pids []int
	for pid, args := range traces.Processes() {
		i := slices.Index(args, "--state-dir")
		if filepath.Base(args[0]) == "slipwayd" && i > 0 && i+1 < len(args) && args[i+1] == dir {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endEngine sends a state directory's engines a signal and waits for their end.
func endEngine(dir string, sig syscall.Signal) error {
	for _, pid := range engines(dir) {
		_ = syscall.Kill(pid, sig) // it may have ended by itself
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		pids := engines(dir)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("engine %v of %s has not ended", pids, dir)
		}
	}
}

// killEngine ends the one engine as the kernel would for want of memory.
func (s *state) killEngine() {
	s.t.Helper()
	if err := endEngine(s.dir, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}
