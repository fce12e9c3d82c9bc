package host

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Figures is how large this host is and how much of it is in use, by whomever.
type Figures struct {
	CPUs       int
	Memory     int64 // bytes
	MemoryFree int64 // bytes that could be had without swapping
	Disk       int64 // bytes of the file system of the state directory
	DiskFree   int64 // bytes
	CPU        CPU
	Uptime     string // as uptime(1) puts it: "12:01:30 up 3 days, 4:05, load average: ..."
}

// CPU describes the processors.
type CPU struct {
	Arch     string      `json:"arch"`
	Model    string      `json:"model"`
	Vendor   string      `json:"vendor"`
	Topology CPUTopology `json:"topology"`
	Features []string    `json:"features"`
}

// CPUTopology is how the processors are made up.
type CPUTopology struct {
	Cells   int `json:"cells"`
	Sockets int `json:"sockets"`
	Cores   int `json:"cores"`   // of a socket
	Threads int `json:"threads"` // of a core
}

// ReadFigures looks at the host; dir lies on the file system that counts.
func ReadFigures(ctx context.Context, dir string) (Figures, error) {
	f := Figures{CPUs: runtime.NumCPU()}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return f, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	f.Disk, f.DiskFree = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	memory, err := pairs("/proc/meminfo")
	if err != nil {
		return f, err
	}
	f.Memory, f.MemoryFree = kibibytes(memory["MemTotal"]), kibibytes(memory["MemAvailable"])
	cpu, err := pairs("/proc/cpuinfo")
	if err != nil {
		return f, err
	}
	f.CPU = readCPU(cpu, f.CPUs)
	f.Uptime, err = uptime()
	return f, errorIn(ctx, err)
}

// MemoryFree is how much memory could be had without swapping, in bytes.
func (h *Host) MemoryFree() (int64, error) {
	memory, err := pairs("/proc/meminfo")
	return kibibytes(memory["MemAvailable"]), err
}

func errorIn(ctx context.Context, err error) error {
	if err == nil {
		return ctx.Err()
	}
	return err
}

// pairs reads a file of "name: value" lines; of several the first counts.
func pairs(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	all := map[string]string{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); all[name] == "" {
			all[name] = strings.TrimSpace(value)
		}
	}
	return all, lines.Err()
}

// kibibytes reads "1024 kB".
func kibibytes(s string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(s, " kB"), 10, 64)
	return n << 10
}

// readCPU makes a description of what /proc/cpuinfo says of the first processor.
func readCPU(info map[string]string, cpus int) CPU {
	machines := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}
	c := CPU{Arch: machines[runtime.GOARCH], Model: info["model name"], Vendor: info["vendor_id"], Features: []string{}}
	if c.Arch == "" {
		c.Arch = runtime.GOARCH
	}
	c.Features = append(c.Features, strings.Fields(info["flags"]+info["Features"])...)
	slices.Sort(c.Features)
	cores, _ := strconv.Atoi(info["cpu cores"])
	siblings, _ := strconv.Atoi(info["siblings"])
	cores, siblings = max(cores, 1), max(siblings, cores, 1)
	c.Topology = CPUTopology{Cells: 1, Cores: cores, Threads: siblings / cores, Sockets: max(1, cpus/siblings)}
	return c
}
