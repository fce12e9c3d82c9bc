package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/output"
)

func (c *cli) serverLogs() *cobra.Command {
	var q client.OutputQuery
	var since, until string
	var times, console bool
	cmd := &cobra.Command{
		Use: "logs SERVER", Short: "Show what a server's entrypoint has written", Args: cobra.ExactArgs(1),
		Long: `Show what a server's entrypoint has written, its standard output on standard
output and its standard error on standard error.

A time is given as 2026-01-31T12:00:00Z, without a zone or from some place on left
out for local time, as seconds since 1970, or as a duration before now (10m).`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if console && q.Follow {
				return engine.FollowConsole(cmd.Context(), args[0], os.Stdout)
			}
			if console {
				return engine.Console(cmd.Context(), args[0], os.Stdout)
			}
			if q.Tail == "all" {
				q.Tail = ""
			}
			var err1, err2 error
			now := time.Now()
			q.Since, err1 = parseTime("--since", since, now)
			q.Until, err2 = parseTime("--until", until, now)
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
			to := map[output.Stream]io.Writer{output.Stdout: os.Stdout, output.Stderr: os.Stderr}
			stamps := map[output.Stream]*stamper{output.Stdout: {w: os.Stdout}, output.Stderr: {w: os.Stderr}}
			return engine.Output(cmd.Context(), args[0], q, func(r output.Record) error {
				if times {
					return stamps[r.Stream].write(r)
				}
				_, err := to[r.Stream].Write(r.Data)
				return err
			})
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on with what comes, until the server ends")
	f.StringVarP(&q.Tail, "tail", "n", "all", "begin with the last `N` lines")
	f.StringVar(&since, "since", "", "leave out what is older than a `time`")
	f.StringVar(&until, "until", "", "leave out what is newer than a `time`")
	f.StringVar(&q.Stream, "stream", "", "only this `stream`: stdout or stderr")
	f.BoolVarP(&times, "timestamps", "t", false, "begin each line with the time it arrived")
	f.BoolVar(&console, "console", false, "the guest's console instead: its kernel's messages")
	return cmd
}

func (c *cli) serverConsole() *cobra.Command {
	return &cobra.Command{
		Use: "console SERVER", Short: "Show what comes on a server's console, until its guest has ended", Args: cobra.ExactArgs(1),
		Long: `Show what comes on a server's console, its kernel's messages, after what there is of
it, until its guest has ended: the same as "slipway server logs --console --follow".`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return engine.FollowConsole(cmd.Context(), args[0], os.Stdout)
		}),
	}
}

// stamper begins each line of one stream with a time.
type stamper struct {
	w      io.Writer
	inLine bool
}

// stampLayout has all digits, as docker's does, so that lines stand in columns.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

func (s *stamper) write(r output.Record) error {
	var b bytes.Buffer
	for line := range bytes.Lines(r.Data) {
		if !s.inLine {
			b.WriteString(r.Time.UTC().Format(stampLayout) + " ")
		}
		b.Write(line)
		s.inLine = !bytes.HasSuffix(line, []byte("\n"))
	}
	_, err := s.w.Write(b.Bytes())
	return err
}

// timeLayouts are those that docker takes; without a zone they are local.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", "2006-01-02Z07:00",
	"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02",
}

// parseTime reads a flag's time: see the help of logs. Nothing gives no time.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && strings.ContainsAny(s, "nuµmhs") {
		return now.Add(-d), nil
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil && math.Abs(seconds) < 1<<33 {
		whole, part := math.Modf(seconds)
		return time.Unix(int64(whole), int64(part*1e9)), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %q: use a time such as 2026-01-31T12:00:00Z, seconds since 1970, or a duration such as 10m", flag, s)
}

// logOptions reads what docker calls --log-opt.
func logOptions(spec *launcher.Spec, options []string) error {
	for _, o := range options {
		name, value, _ := strings.Cut(o, "=")
		switch name {
		case "max-size":
			size, err := config.ParseSize(value)
			if value == "-1" {
				size, err = 0, nil
			} else if err == nil && size == 0 {
				err = errors.New("use -1 for no limit")
			}
			if err != nil {
				return fmt.Errorf("--log-opt max-size: %w", err)
			}
			bytes := int64(size)
			spec.LogBytes = &bytes
		case "max-file":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return fmt.Errorf("--log-opt max-file: %q is not a number of files, 1 at least", value)
			}
			spec.LogFiles = n
		default:
			return fmt.Errorf("--log-opt %q: there are max-size=SIZE and max-file=N", o)
		}
	}
	return nil
}
