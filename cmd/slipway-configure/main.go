// Command slipway-configure does what a server's user-data asks of its root; package
// guest/configure tells what. slipway-init runs it in the root, where there is
// user-data: once before the entrypoint starts (apply SEED), once beside it afterwards
// (greet SEED). SEED is the directory of NoCloud's files. Where these ask for
// nothing, a disk labelled cidata or config-2 is the seed. In a guest that no engine
// started it first completes the seed (source SEED), and renews its leases (keep SEED),
// see package guest/source.
//
// What could not be done it prints, a line each. What it runs writes to standard
// error, which is the console.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/sys/mount"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest/configure"
	"github.com/slipway-vm/slipway/guest/share"
	"github.com/slipway-vm/slipway/guest/source"
)

func main() {
	if len(os.Args) < 3 {
		report("slipway-configure: this program is run by slipway-init")
		os.Exit(2)
	}
	if alone, ok := map[string]func(context.Context, string, func(string)) error{"source": source.Complete, "keep": source.Keep}[os.Args[1]]; ok {
		if err := alone(context.Background(), os.Args[2], report); err != nil {
			report(err.Error())
			os.Exit(1)
		}
		return
	}
	meta, data, err := readSeed(os.Args[2])
	if err != nil {
		report(err.Error())
		os.Exit(1)
	}
	ctx := context.Background()
	switch s := system(meta); os.Args[1] {
	case "apply":
		s.Apply(ctx, data)
	case "greet":
		os.Exit(greet(ctx, s, data))
	}
}

// report prints a warning on one line.
func report(message string) { fmt.Println(strings.ReplaceAll(message, "\n", " ")) }

// readSeed reads the seed of a directory, or, where that asks for nothing, that of a
// disk.
func readSeed(dir string) (cloudinit.MetaData, *cloudinit.UserData, error) {
	s, err := cloudinit.ParseNoCloud(os.DirFS(dir))
	if err != nil {
		return cloudinit.MetaData{}, nil, err
	}
	if !asks(s) {
		disk, err := diskSeed()
		if err != nil {
			return s.MetaData, new(cloudinit.UserData), err
		}
		if disk != nil {
			s = disk
		}
	}
	// Its warnings are the host's to tell: it reads the same.
	return s.MetaData, cloudinit.ParseUserData(s.UserData, s.VendorData), nil
}

// asks reports whether the seed asks for more than a name.
func asks(s *cloudinit.Seed) bool {
	return len(s.UserData) > 0 && !bytes.Equal(s.UserData, cloudinit.NoUserData) || len(s.VendorData)+len(s.MetaData.PublicKeys) > 0
}

func system(meta cloudinit.MetaData) *configure.System {
	s := &configure.System{
		Root: "/", Meta: meta, Report: report,
		Mount:       mount.Mount,
		Devices:     devices,
		SwapOn:      swapOn,
		SetHostname: func(name string) error { return unix.Sethostname([]byte(name)) },
	}
	s.Run = func(ctx context.Context, args []string) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		cmd.Dir = "/"
		return cmd.Run()
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		s.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	return s
}

// greet does what follows the entrypoint's start, and returns the exit status.
func greet(ctx context.Context, s *configure.System, data *cloudinit.UserData) int {
	host, err := os.Hostname()
	if err != nil {
		report(err.Error())
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		report(err.Error())
	}
	message, mode := s.Greet(ctx, &data.Config, host, time.Duration(up.Nano()))
	if message != "" {
		fmt.Fprintln(os.Stderr, message)
	}
	switch mode {
	case "":
		return 0
	case "reboot":
		return share.ExitReboot
	}
	return share.ExitPowerOff
}
