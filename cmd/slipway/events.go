package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/events"
)

func (c *cli) serverEvents() *cobra.Command {
	var since, until, form string
	var filters []string
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happens to servers, as it happens", Args: cobra.NoArgs,
		Long: `Show what happens to servers, as it happens. Some thousand events are remembered,
also those before the engine's latest start.

A time is given as to logs. The events are those of docker: create, start, die, stop,
kill, oom, restart, pause, unpause, health_status, destroy, attach, detach, resize,
exec_create, exec_start, exec_detach, exec_die, archive-path, extract-to-dir.`,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			q := events.Query{}
			now := time.Now()
			var err1, err2, err3 error
			q.Since, err1 = parseTime("--since", since, now)
			q.Until, err2 = parseTime("--until", until, now)
			q.Filter, err3 = eventFilter(filters)
			if err := errors.Join(err1, err2, err3); err != nil {
				return err
			}
			if form != "text" && form != "json" {
				return fmt.Errorf("--format %q: use text or json", form)
			}
			out := cmd.OutOrStdout()
			return engine.Events(cmd.Context(), q, func(e events.Event) error {
				if form == "json" {
					return json.NewEncoder(out).Encode(e)
				}
				_, err := fmt.Fprintln(out, e)
				return err
			})
		}),
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "begin with what happened after a `time`")
	f.StringVar(&until, "until", "", "end at a `time`")
	f.StringArrayVar(&filters, "filter", nil, "only events of `server=NAME`, event=EVENT or image=IMAGE; can be repeated")
	f.StringVarP(&form, "format", "f", "text", "text, or json: an object on each line")
	return cmd
}

// eventFilter reads docker's filters: those of one kind are alternatives.
func eventFilter(filters []string) (events.Filter, error) {
	var f events.Filter
	for _, s := range filters {
		kind, value, ok := strings.Cut(s, "=")
		list := map[string]*[]string{"server": &f.Servers, "event": &f.Actions, "image": &f.Images}[kind]
		if !ok || value == "" || list == nil {
			return f, fmt.Errorf("--filter %q: use server=NAME, event=EVENT or image=IMAGE", s)
		}
		*list = append(*list, value)
	}
	return f, nil
}
