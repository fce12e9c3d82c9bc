//go:build guest

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// traces lists what servers of a state directory have on the host: mounts, loop
// devices, processes, directories, libvirt's logs and half-made files.
func traces(dir string) (found []string, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			found = append(found, "mount "+f[4])
		}
	}
	loops, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, name := range loops {
		file, err := os.ReadFile(name) // fails when the device has gone meanwhile
		if err == nil && strings.HasPrefix(string(file), dir+"/") {
			found = append(found, "loop device of "+strings.TrimSpace(string(file)))
		}
	}
	for pid, args := range processes() {
		if name := filepath.Base(args[0]); strings.HasPrefix(name, "qemu") || name == "virtiofsd" {
			if slices.ContainsFunc(args, func(a string) bool { return strings.Contains(a, dir+"/") }) {
				found = append(found, fmt.Sprintf("process %d %s", pid, name))
			}
		}
	}
	for _, sub := range []string{"servers", "libvirt/log/qemu", "rootfs/tmp", "images/tmp", "images/blobs/tmp"} {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		for _, e := range entries {
			found = append(found, "file "+sub+"/"+e.Name())
		}
	}
	for _, pattern := range []string{"libvirt/run/qemu/*.xml*", "libvirt/run/qemu/*-*.pid", "libvirt/lib/qemu/domain-*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			found = append(found, "file "+strings.TrimPrefix(name, dir+"/"))
		}
	}
	return found, nil
}

// processes returns the arguments of all processes, by pid.
func processes() map[int][]string {
	all := map[int][]string{}
	lists, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil || len(b) == 0 {
			continue // ended, or a thread of the kernel's
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			all[pid] = strings.Split(string(bytes.TrimRight(b, "\x00")), "\x00")
		}
	}
	return all
}

// clean fails the test unless nothing is left of any server. The kernel may take
// a while to end the last of a process.
func (s *state) clean() {
	s.t.Helper()
	eventually(s.t, 5*time.Second, func() error {
		found, err := traces(s.dir)
		if err == nil && len(found) > 0 {
			err = fmt.Errorf("still there:\n\t%s", strings.Join(found, "\n\t"))
		}
		return err
	})
}

// engines returns the pids of a state directory's engines.
func engines(dir string) []int {
	var pids []int
	for pid, args := range processes() {
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

func TestTracesAreFound(t *testing.T) {
	dir := newDir(t)
	target := filepath.Join(dir, "servers", "one")
	if err := os.MkdirAll(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", target, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Unmount(target, 0) }()
	found, err := traces(dir)
	if want := []string{"mount " + target, "file servers/one"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("traces: %q, %v, want %q", found, err, want)
	}
}
