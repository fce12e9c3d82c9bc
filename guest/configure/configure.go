// Package configure does to a root what a server's user-data asks for: the parts of
// a cloud-config that need no distribution, boothooks and scripts. It runs inside
// the root, before the entrypoint starts, so that the entrypoint finds everything
// in place.
//
// As in cloud-init, boothooks, bootcmd and mounts are done at each boot, everything
// else once per instance; and nothing that fails keeps the rest, or the entrypoint,
// from going on: it is reported, and the next is done.
package configure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipway-vm/slipway/cloudinit"
)

// stateDir is where cloud-init keeps what it knows of the instances that a root was.
const stateDir = "/var/lib/cloud"

// System is the root that is configured, and the means.
type System struct {
	// Root is the directory that stands for /.
	Root string
	// Meta names the instance: what is done once is done again for another id.
	Meta cloudinit.MetaData
	// Run executes a program of the root, as root, and returns its failure.
	Run func(ctx context.Context, args []string) error
	// Mount mounts a file system as mount(8) would.
	Mount func(device, target, fsType, options string) error
	// Devices lists the guest's block devices.
	Devices func() ([]Device, error)
	// SetHostname names the running guest.
	SetHostname func(name string) error
	// SwapOn swaps to a file.
	SwapOn func(path string) error
	// Memory is what the guest has, in bytes.
	Memory int64
	// Report takes what could not be done.
	Report func(message string)
}

// step is a piece of the work.
type step struct {
	name string
	do   func(*System, context.Context, *cloudinit.UserData) error
	// always has it done at each boot.
	always bool
}

// steps are in cloud-init's order.
var steps = []step{
	{"hostname", (*System).hostname, true},
	{"boothooks", (*System).boothooks, true},
	{"bootcmd", (*System).bootCommands, true},
	{"write_files", (*System).writeFiles, false},
	{"mounts", (*System).mounts, true},
	{"swap", (*System).swap, true},
	{"ca_certs", (*System).trust, false},
	{"timezone", (*System).timezone, false},
	{"groups", (*System).groups, false},
	{"users", (*System).users, false},
	{"ssh_authorized_keys", (*System).defaultKeys, false},
	{"chpasswd", (*System).passwords, false},
	{"ntp", (*System).timeServers, false},
	{"write_files", (*System).deferredFiles, false},
	{"runcmd", (*System).runCommands, false},
	{"scripts", (*System).scripts, false},
}

// Apply does everything that u asks for, but what follows the entrypoint's start.
func (s *System) Apply(ctx context.Context, u *cloudinit.UserData) {
	mark := filepath.Join(stateDir, "instances", filepath.Base(s.Meta.InstanceID), "boot-finished")
	_, err := os.Stat(s.path(mark))
	first := errors.Is(err, os.ErrNotExist)
	for _, st := range steps {
		if !first && !st.always {
			continue
		}
		for _, err := range each(st.do(s, ctx, u)) {
			s.Report(fmt.Sprintf("%s: %v", st.name, err))
		}
	}
	if !first {
		return
	}
	if err := s.writeFile(mark, nil, 0o644); err != nil {
		s.Report(fmt.Sprintf("record that the instance is configured: %v", err))
	}
}

// path is where a path of the root is found.
func (s *System) path(name string) string { return filepath.Join(s.Root, name) }

// writeFile writes a file with its directories, over what is there.
func (s *System) writeFile(name string, data []byte, mode os.FileMode) error {
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// each lists the errors that errors.Join joined.
func each(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
