package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"
)

// report prints the results, each as a ratio to the floor's.
func report(w io.Writer, o options, f *floor, m memory, bare, balloon, warm, cold, standby []times) {
	fmt.Fprintf(w, "Slipway on %d CPUs: %s\nimage %s, %d runs, medians\n\n", runtime.NumCPU(), f, o.image, o.runs)
	first := func(t times) time.Duration { return t.first }
	end := func(t times) time.Duration { return t.end }

	t := newTable(w)
	fmt.Fprintln(t, "until the first byte of output\tmedian\tmin\tmax\tratio\t")
	row(t, "bare QEMU, init's line", bare, bare, first)
	row(t, "bare QEMU with a balloon", balloon, bare, first)
	row(t, "slipway boot, engine running", warm, bare, first)
	row(t, "slipway boot, with the engine's start", cold, bare, first)
	row(t, "slipway boot, a guest standing by", standby, bare, first)
	fmt.Fprintln(t, "\t\t\t\t\t")
	fmt.Fprintln(t, "until everything has ended\tmedian\tmin\tmax\tratio\t")
	row(t, "bare QEMU, powered off", bare, bare, end)
	row(t, "slipway boot --rm, engine running", warm, bare, end)
	row(t, "slipway boot --rm, with the engine's start", cold, bare, end)
	row(t, "slipway boot --rm, a guest standing by", standby, bare, end)
	fmt.Fprintln(t, "\t\t\t\t\t")
	fmt.Fprintln(t, "memory of one idle server (PSS)\tMiB\t\t\tratio\t")
	for _, r := range []struct {
		name  string
		bytes int64
	}{
		{"bare QEMU, after init's line", m.floor},
		{"QEMU", m.qemu}, {"virtiofsd", m.virtiofsd}, {"slipwayd", m.engine},
		{"QEMU, virtiofsd and slipwayd", m.total()},
		{"QEMU and virtiofsd that stand by", m.standby},
	} {
		fmt.Fprintf(t, "%s\t%.1f\t\t\t%.2f\t\n", r.name, float64(r.bytes)/(1<<20), float64(r.bytes)/float64(m.floor))
	}
	t.Flush()
}

func row(w io.Writer, name string, runs, floor []times, which func(times) time.Duration) {
	all := sorted(runs, which)
	ratio := median(all).Seconds() / median(sorted(floor, which)).Seconds()
	fmt.Fprintf(w, "%s\t%.3f s\t%.3f s\t%.3f s\t%.2f\t\n", name,
		median(all).Seconds(), all[0].Seconds(), all[len(all)-1].Seconds(), ratio)
}

func sorted(runs []times, which func(times) time.Duration) []time.Duration {
	all := make([]time.Duration, len(runs))
	for i, t := range runs {
		all[i] = which(t)
	}
	slices.Sort(all)
	return all
}

// median is that of sorted values; of an even number, the mean of the middle two.
func median(all []time.Duration) time.Duration {
	half := len(all) / 2
	if len(all)%2 == 1 {
		return all[half]
	}
	return (all[half-1] + all[half]) / 2
}
