package boot

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/process"
)

// Root implements agent.Control.
func (c *control) Root() (*process.Root, error) {
	e, err := c.running()
	if err != nil {
		return nil, err
	}
	return process.OpenRoot(fmt.Sprintf("/proc/%d/root", e.pid))
}

// Mounts implements agent.Control.
func (c *control) Mounts() ([]string, error) {
	e, err := c.running()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", e.pid))
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 {
			all = append(all, mountPath.Replace(fields[4]))
		}
	}
	return all, nil
}

// mountPath undoes what proc(5) has escaped in a mount point.
var mountPath = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// Stats implements agent.Control. A kernel or cgroup controller that lacks a
// count leaves it at zero.
func (c *control) Stats() (agent.Stats, error) {
	e, err := c.running()
	if err != nil {
		return agent.Stats{}, err
	}
	cpu := keyedCounts(filepath.Join(entryCgroup, "cpu.stat"), " ")
	memory := keyedCounts("/proc/meminfo", ":")
	s := agent.Stats{
		At:              sinceBoot(),
		CPU:             time.Duration(cpu["usage_usec"]) * time.Microsecond,
		CPUUser:         time.Duration(cpu["user_usec"]) * time.Microsecond,
		CPUSystem:       time.Duration(cpu["system_usec"]) * time.Microsecond,
		CPUs:            runtime.NumCPU(),
		Memory:          count(filepath.Join(entryCgroup, "memory.current")),
		MemoryPeak:      count(filepath.Join(entryCgroup, "memory.peak")),
		MemoryCache:     keyedCounts(filepath.Join(entryCgroup, "memory.stat"), " ")["file"],
		MemoryTotal:     memory["MemTotal"] << 10,
		MemoryAvailable: memory["MemAvailable"] << 10,
		OOMKills:        keyedCounts(filepath.Join(entryCgroup, "memory.events"), " ")["oom_kill"],
		Processes:       count(filepath.Join(entryCgroup, "pids.current")),
	}
	var fs unix.Statfs_t
	if unix.Statfs(fmt.Sprintf("/proc/%d/root", e.pid), &fs) == nil {
		s.DiskTotal, s.DiskFree = fs.Blocks*uint64(fs.Bsize), fs.Bavail*uint64(fs.Bsize)
	}
	data, err := os.ReadFile("/proc/net/dev")
	if err == nil {
		s.Links = parseLinks(data)
	}
	return s, nil
}

func count(file string) uint64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}

// keyedCounts reads a file of names and numbers.
func keyedCounts(file, separator string) map[string]uint64 {
	counts := map[string]uint64{}
	data, err := os.ReadFile(file)
	if err != nil {
		return counts
	}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, separator)
		if fields := strings.Fields(rest); ok && len(fields) > 0 {
			counts[name], _ = strconv.ParseUint(fields[0], 10, 64)
		}
	}
	return counts
}

// parseLinks reads /proc/net/dev: two lines of headings, then a name, a colon
// and sixteen counts a line, received first.
func parseLinks(data []byte) []agent.LinkStats {
	var links []agent.LinkStats
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		name, rest, ok := strings.Cut(s.Text(), ":")
		fields := strings.Fields(rest)
		name = strings.TrimSpace(name)
		if !ok || len(fields) < 10 || name == "lo" {
			continue
		}
		number := func(i int) uint64 {
			n, _ := strconv.ParseUint(fields[i], 10, 64)
			return n
		}
		links = append(links, agent.LinkStats{Name: name,
			RxBytes: number(0), RxPackets: number(1), TxBytes: number(8), TxPackets: number(9)})
	}
	return links
}

// clockTick is the unit of times in /proc/PID/stat, the same on all of x86-64.
const clockTick = 10 * time.Millisecond

// Top implements agent.Control.
func (c *control) Top() ([]agent.ProcessInfo, error) {
	if _, err := c.running(); err != nil {
		return nil, err
	}
	pids, err := processesIn(entryCgroup)
	if err != nil {
		return nil, err
	}
	// Pids as the entrypoint sees them, by those that init sees, for parents.
	inside := map[int]int{}
	var list []agent.ProcessInfo
	for _, field := range pids {
		info, err := readProcess("/proc/" + field)
		if err != nil {
			continue // ended meanwhile
		}
		pid, _ := strconv.Atoi(field)
		inside[pid] = info.PID
		list = append(list, info)
	}
	for i := range list {
		list[i].Parent = inside[list[i].Parent]
	}
	return list, nil
}

func readProcess(dir string) (agent.ProcessInfo, error) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return agent.ProcessInfo{}, err
	}
	info, err := parseStat(string(stat))
	if err != nil {
		return agent.ProcessInfo{}, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return agent.ProcessInfo{}, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		switch name {
		case "Uid":
			info.UID, _ = strconv.Atoi(fields[0])
		case "NSpid": // init's pid first, the innermost namespace's last
			info.PID, _ = strconv.Atoi(fields[len(fields)-1])
		}
	}
	if args, err := os.ReadFile(dir + "/cmdline"); err == nil && len(args) > 0 {
		info.Command = strings.ReplaceAll(strings.TrimRight(string(args), "\x00"), "\x00", " ")
	}
	return info, nil
}

// parseStat reads /proc/PID/stat (proc(5)). The command in parentheses may
// hold anything, so the fields are counted from the last one.
func parseStat(stat string) (agent.ProcessInfo, error) {
	open, end := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || end < open {
		return agent.ProcessInfo{}, errors.New("no command")
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 22 {
		return agent.ProcessInfo{}, fmt.Errorf("%d fields", len(fields))
	}
	number := func(n int) uint64 { // n as in proc(5), where the state is 3
		v, _ := strconv.ParseUint(fields[n-3], 10, 64)
		return v
	}
	return agent.ProcessInfo{
		Parent:  int(number(4)),
		State:   fields[0],
		CPU:     time.Duration(number(14)+number(15)) * clockTick,
		Start:   time.Duration(number(22)) * clockTick,
		Memory:  number(24) * uint64(os.Getpagesize()),
		Command: "[" + stat[open+1:end] + "]",
	}, nil
}

// freezeWait bounds the wait for processes to stop; one that waits for the
// disk stops when it has got what it waits for.
const freezeWait = 10 * time.Second

// Freeze implements agent.Control.
func (c *control) Freeze() error {
	if _, err := c.running(); err != nil {
		return err
	}
	if err := setFrozen(true); err != nil {
		return err
	}
	// Nobody writes now, so what follows is all there is to write.
	unix.Sync()
	return nil
}

// Thaw implements agent.Control.
func (c *control) Thaw() error { return setFrozen(false) }

func setFrozen(frozen bool) error {
	value, want := "0", uint64(0)
	if frozen {
		value, want = "1", 1
	}
	if err := os.WriteFile(filepath.Join(entryCgroup, "cgroup.freeze"), []byte(value), 0); err != nil {
		return err
	}
	for deadline := time.Now().Add(freezeWait); ; time.Sleep(time.Millisecond) {
		if keyedCounts(filepath.Join(entryCgroup, "cgroup.events"), " ")["frozen"] == want {
			return nil
		}
		if time.Now().After(deadline) {
			if frozen {
				_ = setFrozen(false)
			}
			return fmt.Errorf("processes have not stopped within %v", freezeWait)
		}
	}
}
