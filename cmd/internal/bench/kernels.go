package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// stockFloor is the bare guest f on Debian's kernel, in place of its own.
func (s *slipway) stockFloor(ctx context.Context, f *floor) (*floor, error) {
	store, err := guest.OpenKernels(filepath.Join(s.state, "bench"))
	if err != nil {
		return nil, err
	}
	k, err := store.Import(ctx, s.kernelDeb)
	if err != nil {
		return nil, err
	}
	stock := &floor{program: f.program, args: slices.Clone(f.args)}
	i := slices.Index(stock.args, "-kernel")
	stock.args[i+1] = k.Path
	return stock, nil
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
