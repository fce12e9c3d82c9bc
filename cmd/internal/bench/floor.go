package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// A floor is the bare guest.
type floor struct {
	program string
	args    []string
}

// newFloor makes the bare guest that corresponds to a running QEMU of Slipway's,
// given its command line; the initramfs is kept in dir.
func newFloor(ctx context.Context, cmdline []string, initBinary, dir string) (*floor, error) {
	machine, kernel := option(cmdline, "-machine"), option(cmdline, "-kernel")
	if machine == "" || kernel == "" {
		return nil, errors.New("QEMU's command line names no machine or kernel")
	}
	store, err := guest.OpenKernels(dir)
	if err != nil {
		return nil, err
	}
	// A kernel without modules, so an initramfs of nothing but init.
	initramfs, err := store.Initramfs(ctx, guest.Kernel{Name: "floor", Path: kernel}, initBinary)
	if err != nil {
		return nil, err
	}
	f := &floor{program: cmdline[0], args: []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		// libvirt backs memory by an object of its own, which is not defined here.
		"-machine", without(machine, ",", "memory-backend="),
		"-kernel", kernel, "-initrd", initramfs,
		"-append", without(option(cmdline, "-append"), " ", "slipway.") + " " + guest.ArgProbe,
	}}
	for i, arg := range cmdline[:len(cmdline)-1] {
		switch arg {
		case "-accel", "-bios", "-cpu", "-global", "-m", "-smp":
			f.args = append(f.args, arg, cmdline[i+1])
		}
	}
	return f, nil
}

// option returns the value of a QEMU option, or nothing.
func option(cmdline []string, name string) string {
	if i := slices.Index(cmdline, name); i >= 0 && i+1 < len(cmdline) {
		return cmdline[i+1]
	}
	return ""
}

// without removes the parts of a list that begin with prefix.
func without(list, separator, prefix string) string {
	return strings.Join(slices.DeleteFunc(strings.Split(list, separator), func(part string) bool {
		return strings.HasPrefix(part, prefix)
	}), separator)
}

func (f *floor) run(ctx context.Context) (times, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return timed(exec.CommandContext(ctx, f.program, f.args...), guest.ProbeLine)
}

// memory is the PSS of the bare guest once it has printed its line: QEMU is told
// to stay when the guest powers off.
func (f *floor) memory(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.program, append(slices.Clone(f.args), "-no-shutdown")...)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var seen []byte
	buf := make([]byte, 4096)
	for !strings.Contains(string(seen), guest.ProbeLine) {
		n, err := stdout.Read(buf)
		if err != nil {
			return 0, fmt.Errorf("bare QEMU: %w after %q", err, seen)
		}
		seen = append(seen, buf[:n]...)
	}
	return pss(cmd.Process.Pid)
}

// String names what the floor has in common with Slipway's guests.
func (f *floor) String() string {
	machine, _, _ := strings.Cut(option(f.args, "-machine"), ",")
	accel := option(f.args, "-accel")
	if accel == "" {
		accel = "tcg"
		if strings.Contains(option(f.args, "-machine"), "accel=kvm") {
			accel = "kvm"
		}
	}
	accel, _, _ = strings.Cut(accel, ",")
	return fmt.Sprintf("%s %s, machine %s, kernel %s", filepath.Base(f.program), accel, machine, kernelName(option(f.args, "-kernel")))
}

// kernelName shortens a kernel's path to what tells it from others.
func kernelName(path string) string {
	dir := filepath.Base(filepath.Dir(path))
	if _, err := os.Stat(path); err != nil || len(dir) < 12 {
		return path
	}
	return dir[:12]
}
