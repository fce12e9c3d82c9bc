package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot  = "/sys/fs/cgroup"
	entryCgroup = cgroupRoot + "/entrypoint"
)

// controllers are those that the entrypoint's cgroup has, where the kernel
// does.
var controllers = []string{"memory", "pids", "cpu", "io"}

// makeCgroup makes the entrypoint's cgroup and opens it. Init stays in the
// root cgroup, so the limits and counts of the one are not the other's.
func makeCgroup(dir string) (*os.File, error) {
	have, err := os.ReadFile(filepath.Join(cgroupRoot, "cgroup.controllers"))
	if err != nil {
		return nil, fmt.Errorf("read the cgroup controllers: %w", err)
	}
	var enable []string
	for name := range strings.FieldsSeq(string(have)) {
		for _, want := range controllers {
			if name == want {
				enable = append(enable, "+"+name)
			}
		}
	}
	control := filepath.Join(cgroupRoot, "cgroup.subtree_control")
	if err := os.WriteFile(control, []byte(strings.Join(enable, " ")), 0); err != nil {
		return nil, fmt.Errorf("enable cgroup controllers: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return os.Open(dir)
}

// cgroupOf is the cgroup of an entrypoint's process. One that divides its cgroup
// has no processes in the topmost, and the kernel takes none there.
func cgroupOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	name, ok := strings.CutPrefix(strings.TrimSpace(string(data)), "0::/")
	if dir := filepath.Join(cgroupRoot, name); ok && strings.HasPrefix(dir, entryCgroup) {
		return dir
	}
	return entryCgroup
}

// processesIn lists the processes of a cgroup and of those below it.
func processesIn(dir string) ([]string, error) {
	var pids []string
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		data, err := os.ReadFile(filepath.Join(name, "cgroup.procs"))
		pids = append(pids, strings.Fields(string(data))...)
		return ignoreGone(err)
	})
	return pids, err
}

// ignoreGone is for what others may remove meanwhile, and for threaded cgroups,
// whose processes are listed above them.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// oomKills counts the processes of the cgroup that the kernel has killed for
// want of memory.
func oomKills(dir string) uint64 {
	return keyedCounts(filepath.Join(dir, "memory.events"), " ")["oom_kill"]
}

// limitProcesses bounds the processes of a cgroup; 0 and -1 are for no bound.
func limitProcesses(dir string, limit int64) error {
	if limit <= 0 {
		return nil
	}
	err := os.WriteFile(filepath.Join(dir, "pids.max"), strconv.AppendInt(nil, limit, 10), 0)
	if err != nil {
		return fmt.Errorf("limit the processes to %d: %w", limit, err)
	}
	return nil
}
