package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) serverStats() *cobra.Command {
	var o format.Options
	var once bool
	cmd := &cobra.Command{
		Use: "stats [SERVER...]", Short: "Show what servers use, again and again",
		Long: `Show what servers use, again and again; without a name, all that run. CPU % is of one
processor. What begins with Host is what the server's QEMU uses on the host; the rest
is what its guest counts.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			out := cmd.OutOrStdout()
			m := meter{engine: engine, refs: args, last: map[string]launcher.Stats{}}
			if _, err := m.rows(cmd.Context()); err != nil && (once || len(args) > 0) {
				return err
			}
			for {
				select {
				case <-time.After(statsInterval):
				case <-cmd.Context().Done():
					return cmd.Context().Err()
				}
				rows, err := m.rows(cmd.Context())
				clearScreen(out, once)
				if err := errors.Join(format.List(out, o, statsColumns, rows), err); err != nil || once {
					return err
				}
			}
		}),
	}
	cmd.Flags().BoolVar(&once, "no-stream", false, "show it once")
	o.AddListFlags(cmd.Flags())
	return cmd
}

// statsInterval is between two looks at a server, whose difference is a share of
// a processor.
const statsInterval = time.Second

var statsColumns = []string{
	"Server", "CPU %", "CPU Seconds", "Memory", "Memory Peak", "Memory Total", "Net Received", "Net Sent", "Processes",
	"Disk Used", "Disk Total", "OOM Kills", "Host CPU %", "Host Memory", "Host Read", "Host Written",
}

// clearScreen begins a terminal's screen anew.
func clearScreen(w io.Writer, once bool) {
	if f, ok := w.(interface{ Fd() uintptr }); ok && !once && term.IsTerminal(int(f.Fd())) {
		fmt.Fprint(w, "\x1b[H\x1b[J")
	}
}

// meter looks at servers again and again.
type meter struct {
	engine *client.Client
	refs   []string // all that run where empty
	last   map[string]launcher.Stats
}

func (m *meter) rows(ctx context.Context) ([][]any, error) {
	refs := m.refs
	if len(refs) == 0 {
		servers, err := m.engine.Servers(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range servers {
			if s.VMState == launcher.VMActive {
				refs = append(refs, s.Name)
			}
		}
	}
	rows := [][]any{}
	err := each(refs, func(ref string) error {
		s, err := m.engine.Stats(ctx, ref)
		if err != nil {
			if len(m.refs) == 0 && errors.Is(err, launcher.ErrConflict) {
				return nil // it has ended meanwhile
			}
			return err
		}
		rows = append(rows, m.row(ref, s))
		m.last[ref] = s
		return nil
	})
	return rows, err
}

func (m *meter) row(ref string, s launcher.Stats) []any {
	before, seen := m.last[ref]
	var received, sent uint64
	for _, l := range s.Links {
		received += l.RxBytes
		sent += l.TxBytes
	}
	row := []any{ref, nil, s.CPU.Seconds(), s.Memory, s.MemoryPeak, s.MemoryTotal, received, sent, s.Processes,
		s.DiskTotal - s.DiskFree, s.DiskTotal, s.OOMKills, nil, nil, nil, nil}
	if seen {
		row[1] = percent(s.CPU-before.CPU, s.At-before.At)
	}
	if h := s.Host; h != nil {
		row[13], row[14], row[15] = h.Memory, h.Read, h.Written
		if seen && before.Host != nil {
			row[12] = percent(h.CPU-before.Host.CPU, h.At.Sub(before.Host.At))
		}
	}
	return row
}

// percent is a share with two digits after the point; nil of no time.
func percent(part, whole time.Duration) any {
	if whole <= 0 || part < 0 {
		return nil
	}
	return float64(int64(10000*part.Seconds()/whole.Seconds())) / 100
}
