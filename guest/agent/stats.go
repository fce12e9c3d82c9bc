package agent

import (
	"context"
	"fmt"
	"time"
)

// Stats are a guest's own counts. Byte counts and times add up from the
// guest's start.
type Stats struct {
	At        time.Duration `json:"at"` // since the kernel's start
	CPU       time.Duration `json:"cpu"`
	CPUUser   time.Duration `json:"cpuUser"`
	CPUSystem time.Duration `json:"cpuSystem"`
	CPUs      int           `json:"cpus"`
	// Memory is the entrypoint's cgroup's, with its page cache; the other two
	// are the guest's.
	Memory          uint64 `json:"memory"`
	MemoryPeak      uint64 `json:"memoryPeak,omitempty"`
	MemoryCache     uint64 `json:"memoryCache"`
	MemoryTotal     uint64 `json:"memoryTotal"`
	MemoryAvailable uint64 `json:"memoryAvailable"`
	OOMKills        uint64 `json:"oomKills"`
	Processes       uint64 `json:"processes"`
	DiskTotal       uint64 `json:"diskTotal"` // of the root's file system
	DiskFree        uint64 `json:"diskFree"`
	// Links are the guest's network interfaces without its loopback.
	Links []LinkStats `json:"links,omitempty"`
}

// LinkStats are one network interface's.
type LinkStats struct {
	Name      string `json:"name"`
	RxBytes   uint64 `json:"rxBytes"`
	RxPackets uint64 `json:"rxPackets"`
	TxBytes   uint64 `json:"txBytes"`
	TxPackets uint64 `json:"txPackets"`
}

// ProcessInfo is one process of the entrypoint's cgroup.
type ProcessInfo struct {
	PID     int           `json:"pid"` // as the entrypoint sees it
	Parent  int           `json:"parent"`
	UID     int           `json:"uid"`
	State   string        `json:"state"`
	CPU     time.Duration `json:"cpu"`
	Start   time.Duration `json:"start"` // since the kernel's start
	Memory  uint64        `json:"memory"`
	Command string        `json:"command"` // arguments separated by spaces
}

// maxProcesses bounds what Top tells, so that it fits into messages.
const maxProcesses = 4096

// Stats returns the guest's counts.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var stats Stats
	if err := c.call(ctx, methodStats, struct{}{}, &stats); err != nil {
		return Stats{}, fmt.Errorf("read the guest's stats: %w", err)
	}
	return stats, nil
}

// Top returns the processes of the server, the first 4096 at most.
func (c *Client) Top(ctx context.Context) ([]ProcessInfo, error) {
	stream, stop, err := c.open(ctx, methodTop, struct{}{})
	if err != nil {
		return nil, fmt.Errorf("list the guest's processes: %w", err)
	}
	defer stop()
	var list []ProcessInfo
	err = c.messages(ctx, stream, func(t messageType, payload []byte) error {
		if t != msgEvent || len(list) >= maxProcesses {
			return fmt.Errorf("%w: message %d in a list of processes", errProtocol, t)
		}
		info, err := decodeJSON[ProcessInfo](payload)
		list = append(list, info)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the guest's processes: %w", err)
	}
	return list, nil
}

// Freeze stops the server's processes and writes what they have written to the
// root's file system. It does nothing where they are stopped already.
func (c *Client) Freeze(ctx context.Context) error {
	if err := c.call(ctx, methodFreeze, struct{}{}, nil); err != nil {
		return fmt.Errorf("freeze the guest: %w", err)
	}
	return nil
}

// Thaw lets the server's processes run on.
func (c *Client) Thaw(ctx context.Context) error {
	if err := c.call(ctx, methodThaw, struct{}{}, nil); err != nil {
		return fmt.Errorf("thaw the guest: %w", err)
	}
	return nil
}
