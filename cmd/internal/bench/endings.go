package main

import (
	"context"
	"fmt"
	"io"
	"time"
)

// endings are how long it takes to be rid of servers, from the command's start to
// its end.
type endings struct {
	nothing []times // a command that only asks the engine
	stop    []times // of an entrypoint that ends at once when told to
	remove  []times // of a server that has ended
}

func (s *slipway) measureEndings(ctx context.Context, e *endings) error {
	const name = "bench-end"
	boot := s.bootArgs([]string{"--detach", "--name", name}, "sh", "-c", "trap 'exit 0' TERM; : >/ready; sleep 1000 & wait")
	if err := s.run(ctx, boot...); err != nil {
		return err
	}
	// PID 1 of a namespace does not get a signal that it does not handle yet.
	if err := s.run(ctx, "server", "exec", name, "sh", "-c", "until [ -e /ready ]; do sleep 0.05; done"); err != nil {
		return err
	}
	for _, m := range []struct {
		to   *[]times
		args []string
	}{
		{&e.nothing, []string{"server", "list"}},
		{&e.stop, []string{"server", "stop", name}},
		{&e.remove, []string{"server", "delete", name}},
	} {
		began := time.Now()
		if err := s.run(ctx, m.args...); err != nil {
			return err
		}
		*m.to = append(*m.to, times{end: time.Since(began)})
	}
	return nil
}

func (e *endings) report(w io.Writer) {
	t := newTable(w)
	fmt.Fprintln(t, "\nuntil the command has ended\tmedian\tmin\tmax\tratio\t")
	end := func(t times) time.Duration { return t.end }
	row(t, "slipway server list", e.nothing, e.nothing, end)
	row(t, "slipway server stop, an entrypoint that ends at once", e.stop, e.nothing, end)
	row(t, "slipway server delete, a server that has ended", e.remove, e.nothing, end)
	t.Flush()
}
