package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
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

// reportKernels prints how long each kernel takes to PID 1.
func reportKernels(w io.Writer, minimal, stock *floor, onMinimal, onStock []times) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nfrom the kernel's start to PID 1\tmedian\tmin\tmax\tratio\t")
	kernel := func(t times) time.Duration { return t.kernel }
	row(t, "Debian's kernel, "+kernelName(option(stock.args, "-kernel")), onStock, onStock, kernel)
	row(t, "kernel "+kernelName(option(minimal.args, "-kernel")), onMinimal, onStock, kernel)
	t.Flush()
}
