package virt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// reapDaemons makes the daemons that libvirt forks (QEMU, virtiofsd) children of
// this process once their own parent has gone, and reaps them as they end.
//
// libvirt never waits for them and takes a domain for ended only when its
// processes are gone from the process table. The first process of a host may be
// slow to see to that: over a second for each domain, where it was measured.
func reapDaemons() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	ended := make(chan os.Signal, 1) // a pending signal stands for any number
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		session, err := unix.Getsid(0)
		if err != nil {
			return
		}
		for range ended {
			reapStrangers(session)
		}
	}()
	return nil
}

// reapStrangers reaps the ended children of another session than ours. Commands
// that somebody here waits for stay in our session; daemons have one that their
// parent began, and led: that one is waited for, by who forked it.
func reapStrangers(session int) {
	// Mostly there are none: who waits for a command was here first.
	var ended unix.Siginfo
	err := unix.Waitid(unix.P_ALL, 0, &ended, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if errors.Is(err, unix.ECHILD) || err == nil && ended.Signo == 0 {
		return
	}
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if state, sid, ok := stat(pid); ok && state == 'Z' && sid != session && sid != pid {
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			}
		}
	}
}

// stat reads a process's state and session from proc(5)'s stat file.
func stat(pid int) (state byte, session int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	// The command, in parentheses, may hold anything; the fields follow it:
	// state, parent, process group, session.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 4 {
		return 0, 0, false
	}
	session, err = strconv.Atoi(string(fields[3]))
	return fields[0][0], session, err == nil
}

// lastWords are the last lines of QEMU's log.
func (h *Hypervisor) lastWords(domain string) string {
	if h.root == "" {
		return "" // the daemon keeps it
	}
	f, err := os.Open(filepath.Join(h.root, "log/qemu", domain+".log"))
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	_, _ = f.Seek(-4096, io.SeekEnd) // or else from its beginning
	b, _ := io.ReadAll(f)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

// forget removes what libvirt keeps of a domain that has ended: the logs of QEMU
// and virtiofsd, named after it.
func (h *Hypervisor) forget(name string) {
	if h.root == "" {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(h.root, "log/qemu", name+"*.log"))
	for _, f := range logs {
		_ = os.Remove(f)
	}
}
