package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) server() *cobra.Command {
	return group("server", "Look after servers",
		c.serverCreate(), c.serverList(), c.serverShow(), c.serverSet(), c.serverDelete(),
		c.serverStart(), c.serverStop(), c.serverReboot(), c.serverKill(), c.serverWait(),
		c.serverPause(), c.serverUnpause(), c.serverFreeze(), c.serverThaw(),
		c.serverExec(), c.serverAttach(), c.serverLogs(), c.serverConsole(), c.serverCopy(), c.serverStats(), c.serverTop(), c.serverEvents(),
		c.serverPublish(), c.serverUnpublish(), c.serverExport(), c.serverImage())
}

func (c *cli) serverList() *cobra.Command {
	var o format.Options
	var outdated bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls", "ps"}, Short: "List servers", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			servers, err := engine.Servers(cmd.Context())
			if err != nil {
				return err
			}
			columns := []string{"ID", "Name", "Status", "Health", "Exit Code", "Image", "Flavor", "Created"}
			if outdated {
				if servers, err = kernelOutdated(cmd, engine, servers); err != nil {
					return err
				}
				columns = append(columns, "Kernel Digest")
			}
			rows := [][]any{}
			for _, s := range servers {
				row := []any{s.ID, s.Name, s.Status(), health(s), exitCode(s), s.Spec.Image, s.Flavor.Name, stamp(s.Created)}
				if outdated {
					row = append(row, short(strings.TrimPrefix(s.KernelID, "sha256:")))
				}
				rows = append(rows, row)
			}
			return format.List(cmd.OutOrStdout(), o, columns, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	cmd.Flags().BoolVar(&outdated, "kernel-outdated", false, "only servers whose kernel is not the default one; a server gets its kernel when it starts")
	return cmd
}

// health is nil for a server without a health check, or that does not run.
func health(s launcher.Server) any {
	if s.Health == nil || s.VMState != launcher.VMActive {
		return nil
	}
	return string(s.Health.Status)
}

// kernelOutdated picks the servers that have been started on another kernel than
// the default one.
func kernelOutdated(cmd *cobra.Command, engine *client.Client, servers []launcher.Server) ([]launcher.Server, error) {
	kernels, err := engine.Kernels(cmd.Context())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(kernels, func(k api.Kernel) bool { return k.Default })
	if i < 0 {
		return nil, errors.New("there is no default kernel: build one with `slipway kernel build`")
	}
	return slices.DeleteFunc(servers, func(s launcher.Server) bool {
		return s.KernelID == "" || s.KernelID == kernels[i].Digest
	}), nil
}

// exitCode is nil, which shows as None, while there is none.
func exitCode(s launcher.Server) any {
	if s.Exit == nil {
		return nil
	}
	return s.Exit.Code
}

func stamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339)
}

func (c *cli) serverShow() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "show SERVER", Aliases: []string{"inspect"}, Short: "Show a server", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			s, err := engine.Server(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fields, values := serverFields(s)
			return format.Show(cmd.OutOrStdout(), o, fields, values)
		}),
	}
	o.AddFlags(cmd.Flags())
	return cmd
}

// serverFields names a server's facts, with Nova's names where it has some.
func serverFields(s launcher.Server) (fields []string, values []any) {
	add := func(name string, value any) {
		fields, values = append(fields, name), append(values, value)
	}
	optional := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	add("id", s.ID)
	add("name", s.Name)
	add("status", s.Status())
	add("OS-EXT-STS:vm_state", string(s.VMState))
	add("OS-EXT-STS:task_state", optional(string(s.TaskState)))
	add("fault", optional(s.Fault))
	add("image", s.Spec.Image)
	add("image_digest", optional(s.ImageDigest))
	add("flavor", s.Flavor.Name)
	add("vcpus", s.Flavor.VCPUs)
	add("memory", config.Size(s.Flavor.Memory).String())
	add("disk", config.Size(s.Flavor.Disk).String())
	add("root_mode", s.RootMode)
	add("init_mode", string(s.InitMode))
	add("kernel", optional(s.Kernel))
	add("kernel_digest", optional(s.KernelID))
	add("machine", optional(string(s.Machine)))
	add("accelerator", optional(string(s.Accel)))
	add("command", optional(strings.Join(s.Spec.Command, " ")))
	var volumes []string
	for _, v := range s.Spec.Volumes {
		mode := "rw"
		if v.ReadOnly {
			mode = "ro"
		}
		volumes = append(volumes, v.Host+":"+v.Guest+":"+mode)
	}
	var addresses, published []string
	for _, n := range s.NICs {
		for _, a := range n.Addresses {
			addresses = append(addresses, n.NetworkName+"="+a.Addr().String())
		}
	}
	for _, p := range s.Published {
		published = append(published, p.String())
	}
	add("addresses", optional(strings.Join(addresses, ", ")))
	add("ports", optional(strings.Join(published, ", ")))
	add("volumes", optional(strings.Join(volumes, ", ")))
	addOptions(s, add)
	add("created", stamp(s.Created))
	add("OS-SRV-USG:launched_at", stamp(s.Launched))
	add("exit_code", exitCode(s))
	if s.Exit != nil {
		add("exit_reason", optional(s.Exit.Reason))
		add("OS-SRV-USG:terminated_at", stamp(s.Exit.At))
	}
	add("boot_ms", (s.Timeline.Total - s.Timeline.FirstOutput).Milliseconds())
	return fields, values
}

func (c *cli) serverStart() *cobra.Command {
	var attach bool
	cmd := &cobra.Command{
		Use: "start SERVER [SERVER...]", Short: "Boot servers that have stopped, from their own disks", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if attach && len(args) > 1 {
				return errors.New("--attach takes one server")
			}
			signals := make(chan os.Signal, 4)
			signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
			defer signal.Stop(signals)
			return each(args, func(ref string) error {
				if err := engine.Start(cmd.Context(), ref); err != nil {
					return err
				}
				w := &watcher{engine: engine, id: ref, show: newProgress(os.Stderr, "auto")}
				if !attach {
					last, err := w.started(cmd.Context())
					if err == nil && last.Fault != "" {
						err = outcome(last)
					}
					return err
				}
				written := make(chan error, 1)
				go func() { written <- w.copyOutput(cmd.Context(), os.Stdout, os.Stderr) }()
				last, err := w.follow(cmd.Context(), signals)
				if err = errors.Join(err, <-written); err != nil {
					return err
				}
				return outcome(last)
			})
		}),
	}
	cmd.Flags().BoolVarP(&attach, "attach", "a", false, "show its output and end with its exit status, as boot does")
	return cmd
}

func (c *cli) serverSet() *cobra.Command {
	var name, root string
	cmd := &cobra.Command{
		Use: "set [--name NAME] [--root MODE] SERVER", Short: "Change a server", Args: cobra.ExactArgs(1),
		Long: `Change a server. Its root mode can be changed while it is stopped: what it has on its
disk is the same in every root mode; see "slipway host root-modes".`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			var body api.SetBody
			if cmd.Flags().Changed("name") {
				body.Name = &name
			}
			if cmd.Flags().Changed("root") {
				body.RootMode = &root
			}
			if body == (api.SetBody{}) {
				return errors.New("nothing to set: give --name NAME or --root MODE")
			}
			return engine.Set(cmd.Context(), args[0], body)
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "what it is called from now on (`NAME`); its host name stays")
	cmd.Flags().StringVar(&root, "root", "", "how the root reaches the guest from the next start on: virtiofs, 9p or block (`MODE`)")
	return cmd
}

func (c *cli) serverReboot() *cobra.Command {
	var hard, soft bool
	cmd := &cobra.Command{
		Use: "reboot SERVER [SERVER...]", Aliases: []string{"restart"}, Args: cobra.MinimumNArgs(1),
		Short: "Stop servers as stop does and boot them again, from their own disks",
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				if err := engine.Reboot(cmd.Context(), ref, hard); err != nil {
					return err
				}
				w := &watcher{engine: engine, id: ref, show: newProgress(os.Stderr, "auto")}
				last, err := w.settled(cmd.Context())
				if err == nil && last.Fault != "" {
					err = outcome(last)
				}
				return err
			})
		}),
	}
	cmd.Flags().BoolVar(&hard, "hard", false, "end them hard, as when the plug is pulled")
	cmd.Flags().BoolVar(&soft, "soft", false, "let their entrypoints end first (the default)")
	cmd.MarkFlagsMutuallyExclusive("hard", "soft")
	return cmd
}

func (c *cli) serverPause() *cobra.Command {
	return c.serverAction("pause", "Hold servers' processors", (*client.Client).Pause)
}

func (c *cli) serverUnpause() *cobra.Command {
	return c.serverAction("unpause", "Let paused servers go on", (*client.Client).Unpause)
}

func (c *cli) serverStop() *cobra.Command {
	var grace time.Duration
	cmd := &cobra.Command{
		Use: "stop SERVER [SERVER...]", Short: "Stop servers: the stop signal, then, after a grace period, the hard end", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			var g *time.Duration
			if cmd.Flags().Changed("timeout") {
				g = &grace
			}
			return each(args, func(ref string) error { return engine.Stop(cmd.Context(), ref, g) })
		}),
	}
	cmd.Flags().VarP((*seconds)(&grace), "timeout", "t", "the grace period, in seconds or with a unit (default: the server's own)")
	return cmd
}

func (c *cli) serverFreeze() *cobra.Command {
	return c.serverAction("freeze", "Stop servers' processes, with what they have written on the disk", (*client.Client).Freeze)
}

func (c *cli) serverThaw() *cobra.Command {
	return c.serverAction("thaw", "Let the processes of frozen servers run on", (*client.Client).Thaw)
}

// serverAction is a command that does the same to each server.
func (c *cli) serverAction(name, short string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " SERVER [SERVER...]", Short: short, Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error { return do(engine, cmd.Context(), ref) })
		}),
	}
}

func (c *cli) serverDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete SERVER [SERVER...]", Aliases: []string{"rm"}, Short: "Delete servers, running ones too, and all that is theirs", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error { return engine.Delete(cmd.Context(), ref) })
		}),
	}
}
