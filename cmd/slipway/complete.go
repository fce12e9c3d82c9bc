package main

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/launcher/client"
)

// completeTime bounds how long a shell waits for names.
const completeTime = 2 * time.Second

// completing has the shell complete the names of what there is wherever cmd, or a
// command below it, takes one: SERVER, IMAGE, NETWORK or KERNEL as its first argument,
// and the flags named so.
func (c *cli) completing(cmd *cobra.Command) *cobra.Command {
	for _, sub := range cmd.Commands() {
		c.completing(sub)
	}
	if of, ok := kindsOfNames[operand(cmd.Use)]; ok {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 && !strings.Contains(cmd.Use, "...]") || strings.Contains(cmd.Use, "COMMAND") && len(args) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return c.complete(cmd, of)
		}
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if of, ok := kindsOfNames[strings.ToUpper(f.Name)]; ok {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return c.complete(cmd, of)
			})
		}
	})
	return cmd
}

// operand is the word for a command's first argument.
func operand(use string) string {
	words := strings.Fields(use)[1:]
	for len(words) > 0 {
		switch word := strings.TrimPrefix(words[0], "[NAME=]"); {
		case word == "[flags]":
			words = words[1:]
		case strings.HasPrefix(word, "-"), strings.HasPrefix(word, "[-"):
			words = words[min(2, len(words)):]
		default:
			word, _, _ = strings.Cut(strings.Trim(word, "[.]"), ":")
			return word
		}
	}
	return ""
}

// names are those of one kind of things.
type names struct {
	of func(ctx context.Context, c *cli, engine *client.Client) ([]string, error)
	// files says that a file is as good.
	files bool
}

// kindsOfNames are those that commands take, by the words for them.
var kindsOfNames = map[string]names{
	"SERVER": {of: func(ctx context.Context, _ *cli, engine *client.Client) (all []string, err error) {
		list, err := engine.Servers(ctx)
		for _, s := range list {
			all = append(all, s.Name)
		}
		return all, err
	}},
	"IMAGE": {files: true, of: func(ctx context.Context, _ *cli, engine *client.Client) (all []string, err error) {
		list, err := engine.Images(ctx)
		for _, i := range list {
			all = append(all, i.Reference)
		}
		return all, err
	}},
	"NETWORK": {of: func(ctx context.Context, _ *cli, engine *client.Client) (all []string, err error) {
		list, err := engine.Networks(ctx)
		for _, n := range list {
			all = append(all, n.Name)
		}
		return all, err
	}},
	"KERNEL": {files: true, of: func(ctx context.Context, _ *cli, engine *client.Client) (all []string, err error) {
		list, err := engine.Kernels(ctx)
		for _, k := range list {
			all = append(all, k.Name)
		}
		return all, err
	}},
	"FLAVOR": {of: func(ctx context.Context, c *cli, _ *client.Client) ([]string, error) { return c.flavorNames(ctx) }},
}

// flavorNames are those of the cloud, or of this host's configuration.
func (c *cli) flavorNames(ctx context.Context) (all []string, err error) {
	if !c.onCloud {
		cfg, err := c.flags.Load()
		if err != nil {
			return nil, err
		}
		for _, f := range cfg.Flavors {
			all = append(all, f.Name)
		}
		return all, nil
	}
	s, err := login(ctx, c.cloud)
	if err != nil {
		return nil, err
	}
	compute, err := openstack.NewComputeV2(s.ProviderClient, s.endpoint)
	if err != nil {
		return nil, err
	}
	page, err := flavors.ListDetail(compute, nil).AllPages(ctx)
	if err != nil {
		return nil, err
	}
	list, err := flavors.ExtractFlavors(page)
	for _, f := range list {
		all = append(all, f.Name)
	}
	return all, err
}

// complete names what there is. An engine is not started for it.
func (c *cli) complete(cmd *cobra.Command, n names) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), completeTime)
	defer cancel()
	engine, err := c.running(ctx, cmd)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	all, err := n.of(ctx, c, engine)
	switch {
	case err != nil || n.files:
		return all, cobra.ShellCompDirectiveDefault
	case cmd.Name() == "cp":
		return all, cobra.ShellCompDirectiveNoSpace
	}
	return all, cobra.ShellCompDirectiveNoFileComp
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
