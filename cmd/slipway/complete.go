package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher/client"
)

// completeTime bounds how long a shell waits for names.
const completeTime = 2 * time.Second

// completing has the shell complete the names of servers wherever a command below
// cmd takes one.
func (c *cli) completing(cmd *cobra.Command) *cobra.Command {
	for _, sub := range cmd.Commands() {
		if strings.Contains(sub.Use, "SERVER") && sub.ValidArgsFunction == nil {
			sub.ValidArgsFunction = c.completeServers
		}
	}
	return cmd
}

// completeServers names the servers there are. An engine is not started for it.
func (c *cli) completeServers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const files = cobra.ShellCompDirectiveDefault
	if len(args) > 0 && !strings.Contains(cmd.Use, "...]") || strings.Contains(cmd.Use, "COMMAND") && len(args) > 0 {
		return nil, files
	}
	ctx, cancel := context.WithTimeout(context.Background(), completeTime)
	defer cancel()
	engine, err := c.running(ctx, cmd)
	if err != nil {
		return nil, files
	}
	list, err := engine.Servers(ctx)
	if err != nil {
		return nil, files
	}
	var names []string
	for _, s := range list {
		names = append(names, s.Name)
	}
	if cmd.Name() == "cp" {
		return names, cobra.ShellCompDirectiveNoSpace
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// running is a client of the engine that runs, or of the cloud's service.
func (c *cli) running(ctx context.Context, cmd *cobra.Command) (*client.Client, error) {
	if c.onCloud = c.remote(cmd); c.onCloud {
		return c.engine(ctx)
	}
	cfg, err := c.flags.Load()
	if err != nil {
		return nil, err
	}
	return client.New(filepath.Join(cfg.StateDir, client.SocketFile)), nil
}
