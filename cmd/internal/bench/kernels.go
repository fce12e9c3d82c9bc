package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// stockFloor is the bare guest on Debian's kernel, with the arguments that Slipway gives
// that one.
func (s *slipway) stockFloor(ctx context.Context) (f *floor, err error) {
	if err := s.run(ctx, "kernel", "import", s.kernelDeb); err != nil {
		return nil, err
	}
	const name = "stock"
	if err := s.run(ctx, s.bootArgs([]string{"--detach", "--name", name, "--kernel", "stock"}, "sleep", "1000")...); err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.run(ctx, "server", "delete", name))
	}()
	helpers, err := s.processes()
	if err != nil {
		return nil, err
	}
	for _, p := range helpers {
		if strings.HasPrefix(filepath.Base(p.args[0]), "qemu-system-") {
			return newFloor(ctx, p.args, filepath.Join(s.bin, "slipway-init"), filepath.Join(s.state, "bench"))
		}
	}
	return nil, errors.New("no QEMU runs for the server")
}

// balloonFloor is the bare guest f with Slipway's balloon, which gives free pages back.
func (f *floor) balloonFloor() *floor {
	device := "virtio-balloon-pci"
	if strings.HasPrefix(option(f.args, "-machine"), string(guest.MachineMicroVM)) {
		device = "virtio-balloon-device"
	}
	return &floor{program: f.program, args: append(slices.Clone(f.args), "-device", device+",free-page-reporting=on")}
}

// reportKernels prints how long each kernel takes to PID 1.
func reportKernels(w io.Writer, minimal, stock *floor, onMinimal, onStock []times) {
	t := newTable(w)
	fmt.Fprintln(t, "\nfrom the machine's start to PID 1\tmedian\tmin\tmax\tratio\t")
	kernel := func(t times) time.Duration { return t.kernel }
	row(t, "Debian's kernel, "+kernelName(option(stock.args, "-kernel")), onStock, onStock, kernel)
	row(t, "kernel "+kernelName(option(minimal.args, "-kernel")), onMinimal, onStock, kernel)
	t.Flush()
}
