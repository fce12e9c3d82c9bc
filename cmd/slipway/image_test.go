package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/rootfs"
)

// A terminal that is too low for all layers shows those that are being fetched, and
// never more lines than it has: what has scrolled away cannot be written over.
func TestPullDisplayFits(t *testing.T) {
	var p launcher.PullProgress
	for n := range 100 {
		l := launcher.LayerProgress{Digest: fmt.Sprintf("sha256:%012d", n), Phase: rootfs.PhaseWaiting, Total: 10}
		if n < 90 {
			l.Phase = rootfs.PhaseDone
		} else if n < 93 {
			l.Phase = rootfs.PhaseFetch
		}
		p.Layers = append(p.Layers, l)
	}
	p.Missing, p.Step = 10, "pulling"
	for height, want := range map[int]int{3: 2, 24: 4, 101: 100, 100: 4} {
		var b strings.Builder
		d := &pullDisplay{w: &b, height: func() int { return height }}
		d.report(p)
		if got := strings.Count(b.String(), "\n"); got != want || height < 101 && !strings.Contains(b.String(), "10 of 100 layers missing") {
			t.Errorf("%d lines high: %d lines, want %d:\n%s", height, got, want, b.String())
		}
		b.Reset()
		d.report(p)
		if !strings.HasPrefix(b.String(), fmt.Sprintf("\x1b[%dA", want)) {
			t.Errorf("%d lines high: the second report begins with %.10q", height, b.String())
		}
	}
}
