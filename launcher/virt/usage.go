package virt

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/slipway-vm/slipway/launcher"
)

// Usage is what a domain's QEMU uses of the host. Bytes read and written are known
// where libvirt runs in this process.
func (h *Hypervisor) Usage(_ context.Context, name string) (launcher.HostUsage, error) {
	dom, err := h.conn.LookupDomainByName(name)
	if err != nil {
		return launcher.HostUsage{}, fmt.Errorf("find domain %s: %w", name, explain(err))
	}
	defer func() { _ = dom.Free() }()
	info, err := dom.GetInfo()
	if err != nil {
		return launcher.HostUsage{}, fmt.Errorf("measure domain %s: %w", name, explain(err))
	}
	u := launcher.HostUsage{At: time.Now(), CPU: time.Duration(info.CpuTime)}
	memory, err := dom.MemoryStats(uint32(libvirt.DOMAIN_MEMORY_STAT_NR), 0)
	if err != nil {
		return launcher.HostUsage{}, fmt.Errorf("measure domain %s: %w", name, explain(err))
	}
	for _, m := range memory {
		if libvirt.DomainMemoryStatTags(m.Tag) == libvirt.DOMAIN_MEMORY_STAT_RSS {
			u.Memory = m.Val << 10
		}
	}
	if h.root != "" {
		u.Read, u.Written = processIO(filepath.Join(h.root, "run/qemu", name+".pid"))
	}
	return u, nil
}

// processIO reads proc(5)'s io of the process that a pid file names; zeros where
// that has gone.
func processIO(pidFile string) (read, written uint64) {
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, 0
	}
	data, err := os.ReadFile(filepath.Join("/proc", strings.TrimSpace(string(pid)), "io"))
	if err != nil {
		return 0, 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch name {
		case "read_bytes":
			read = n
		case "write_bytes":
			written = n
		}
	}
	return read, written
}
