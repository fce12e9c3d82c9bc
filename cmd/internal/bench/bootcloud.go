package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// The benchmark of boots on a Nova: the image is exported, uploaded and booted by one
// command, and then again, when its disk is there already. Nova's guests are emulated.

func runCloud(ctx context.Context, o options) (err error) {
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	cloud, err := openCloud(ctx, o, "all", "demo")
	if err != nil {
		return errors.Join(err, os.RemoveAll(o.state))
	}
	s := &slipway{options: o, env: []string{"OS_CLIENT_CONFIG_FILE=" + cloud.clouds}}
	defer func() {
		ctx := context.WithoutCancel(ctx)
		err = errors.Join(err, s.remove(ctx), cloud.close(ctx))
	}()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	var cold, again []time.Duration
	for i := range o.runs {
		for _, took := range []*[]time.Duration{&cold, &again} {
			progress(fmt.Sprintf("run %d of %d: boots on a Nova", i+1, o.runs))
			t, err := timed(s.command(ctx, "boot", "--cloud", cloud.user, "--rm", "--flavor", "m1.nano", "--network", "none", s.image, "echo", marker), marker)
			if err != nil {
				return err
			}
			*took = append(*took, t.first)
		}
		if err := cloud.clear(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("\nBoots on a Nova: %d runs, medians\n\n", o.runs)
	t := newTable(os.Stdout)
	fmt.Fprintln(t, "until the entrypoint's first line\ttime\t")
	for _, row := range []struct {
		name string
		took []time.Duration
	}{{"exported, uploaded and booted", cold}, {"its disk is there", again}} {
		fmt.Fprintf(t, "slipway boot --cloud, %s\t%.1f s\t\n", row.name, median(slices.Sorted(slices.Values(row.took))).Seconds())
	}
	return t.Flush()
}
