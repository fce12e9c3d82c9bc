package launcher

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// endStrays ends the processes that an engine had started for a domain when it was
// killed, before the domain was there: nobody else knows of them. They are known by
// their arguments, which name a file in their server's directory.
func (m *Manager) endStrays(domains map[string]PowerState) error {
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	var strays []int
	for _, path := range paths {
		args, err := os.ReadFile(path)
		id := m.serverOf(args)
		if err != nil || id == "" {
			continue // it has ended, or is nothing of ours
		}
		if _, runs := domains[m.cfg.DomainPrefix+id]; runs {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return err
		}
		m.log.Warn("process without a domain ended", "server", id, "pid", pid)
		if err := unix.Kill(pid, unix.SIGKILL); err == nil {
			strays = append(strays, pid)
		}
	}
	return endOf(strays)
}

// serverOf returns the server whose emulator or file system daemon has been started
// with args; empty where they are of something else.
func (m *Manager) serverOf(args []byte) string {
	program, rest, _ := bytes.Cut(args, []byte{0})
	name := filepath.Base(string(program))
	if name != "virtiofsd" && !strings.HasPrefix(name, "qemu-system-") {
		return ""
	}
	_, rest, found := bytes.Cut(rest, []byte(m.cfg.Dir+"/"))
	id, _, _ := bytes.Cut(rest, []byte("/"))
	if !found || !isServerID(string(id)) {
		return ""
	}
	return string(id)
}

// endOf waits until processes that were killed have let go of what they had.
func endOf(pids []int) error {
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range pids {
		for running(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d was killed and does not end", pid)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// running reports whether a process is there and not merely waiting to be reaped.
func running(pid int) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(args) > 0
}
