package virt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// started is the record of a domain that QEMU has been started for.
var started = regexp.MustCompile(`<domstatus [^>]*\bpid='[1-9]`)

// clearOrphans ends and removes what an embedded driver left in its root that was
// killed while it started domains. The next one does not look for it: a virtiofsd
// without a domain's record stays for ever, and a domain whose record does not
// name a QEMU yet is listed as running, for ever taken to be starting, so that it
// cannot be destroyed (seen with libvirt 9.0).
//
// It is for the time when no driver runs on the root.
func clearOrphans(root string) error {
	run := filepath.Join(root, "run/qemu")
	records, err := filepath.Glob(filepath.Join(run, "*.xml"))
	if err != nil {
		return err
	}
	// A record that was being written is of no use, whosever it is: libvirt neither
	// reads nor removes it.
	left, err := filepath.Glob(filepath.Join(run, "*.xml.new"))
	if err != nil {
		return err
	}
	var known []string
	for _, record := range records {
		b, err := os.ReadFile(record)
		if err != nil {
			return err
		}
		if started.Match(b) {
			known = append(known, strings.TrimSuffix(filepath.Base(record), ".xml"))
		} else {
			left = append(left, record)
		}
	}
	for _, pattern := range []string{
		"run/qemu/*.pid", "lib/qemu/domain-*",
		"lib/qemu/qmp-*/*.pid", "lib/qemu/qmp-*", // QEMU asked what it can do
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if path != filepath.Join(run, "driver.pid") && !belongs(filepath.Base(path), known) {
				left = append(left, path)
			}
		}
	}
	for _, path := range left {
		if err := endHolder(path); err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// belongs reports whether a file is one of a known domain, whose name libvirt cuts
// where it is part of another one.
func belongs(file string, domains []string) bool {
	return slices.ContainsFunc(domains, func(name string) bool {
		return strings.Contains(file, name[:min(len(name), 20)])
	})
}

// endTime bounds how long a killed process may take to end.
const endTime = 5 * time.Second

// endHolder kills the process that holds the lock of a pid file, as those that
// libvirt starts do. The number in the file may be another's by now.
func endHolder(path string) error {
	if filepath.Ext(path) != ".pid" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for limit := time.Now().Add(endTime); ; time.Sleep(5 * time.Millisecond) {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
			return fmt.Errorf("look for the lock of %s: %w", path, err)
		}
		if lock.Type == unix.F_UNLCK {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("process %d, which holds %s, does not end", lock.Pid, path)
		}
		if err := unix.Kill(int(lock.Pid), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end the process that holds %s: %w", path, err)
		}
	}
}
