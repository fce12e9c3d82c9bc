package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) image() *cobra.Command {
	cmd := &cobra.Command{Use: "image", Short: "Look after images"}
	cmd.AddCommand(c.imagePull(), c.imageList(), c.imageShow(), c.imageDelete(), c.imagePrune(), c.imageVerify())
	return cmd
}

func (c *cli) imagePull() *cobra.Command {
	var mode string
	var quiet bool
	cmd := &cobra.Command{
		Use: "pull IMAGE [IMAGE...]", Short: "Fetch and unpack images", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				ref, err := absoluteImage(ref)
				if err != nil {
					return err
				}
				show := newPullDisplay(os.Stderr, mode)
				img, err := engine.Pull(cmd.Context(), api.PullBody{Image: ref, Pull: "always"}, show.report)
				show.done()
				if err != nil {
					return err
				}
				if quiet {
					fmt.Fprintln(cmd.OutOrStdout(), img.Digest)
					return nil
				}
				state := "up to date, nothing to do"
				if img.New {
					state = "ready"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s@%s: %s\n", img.Reference, img.Digest, state)
				return nil
			})
		}),
	}
	cmd.Flags().StringVar(&mode, "progress", "plain-if-not-terminal", "show progress: plain, none, or auto: on a terminal")
	cmd.Flags().Lookup("progress").DefValue = "auto, plain elsewhere"
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	return cmd
}

// pullDisplay shows a pull, layer by layer.
type pullDisplay struct {
	*progress
	lines bool
}

func newPullDisplay(f *os.File, mode string) *pullDisplay {
	if mode == "plain-if-not-terminal" {
		mode = "auto"
		if !isTerminal(f) {
			mode = "plain"
		}
	}
	p := newProgress(f, mode)
	return &pullDisplay{p, !p.terminal}
}

func (d *pullDisplay) report(p launcher.PullProgress) {
	if !d.lines {
		d.show(p.String())
		return
	}
	if l := p.Layer; l != nil && (l.Phase == "done" || l.Phase == "exists") {
		d.show(fmt.Sprintf("layer %d of %d: %s: %s, %.1f MB", l.Index+1, l.Layers, short(l.Digest.Hex), l.Phase, float64(l.Total)/1e6))
	}
}

func short(hex string) string { return hex[:min(len(hex), 12)] }

func (c *cli) imageList() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "list", Short: "List images", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			images, err := engine.Images(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]any{}
			for _, i := range images {
				rows = append(rows, []any{short(i.ID), i.Reference, i.Digest.String(), i.Size, i.Alone, i.Shared, stamp(i.Pulled)})
			}
			return format.List(cmd.OutOrStdout(), o, []string{"ID", "Name", "Digest", "Size", "Alone", "Shared", "Pulled"}, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}

func (c *cli) imageShow() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "show IMAGE", Short: "Show an image", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			ref, err := absoluteImage(args[0])
			if err != nil {
				return err
			}
			i, err := engine.Image(cmd.Context(), ref)
			if err != nil {
				return err
			}
			fields := []string{"id", "name", "digest", "size", "alone", "shared", "layers", "created_at", "pulled_at"}
			values := []any{i.ID, i.Reference, i.Digest.String(), i.Size, i.Alone, i.Shared, len(i.DiffIDs), stamp(i.Created), stamp(i.Pulled)}
			if i.Config != nil {
				cfg := i.Config.Config
				fields = append(fields, "architecture", "entrypoint", "command", "env", "user", "workdir", "stop_signal")
				values = append(values, i.Config.Architecture, strings.Join(cfg.Entrypoint, " "), strings.Join(cfg.Cmd, " "),
					strings.Join(cfg.Env, "\n"), cfg.User, cfg.WorkingDir, cfg.StopSignal)
			}
			return format.Show(cmd.OutOrStdout(), o, fields, values)
		}),
	}
	o.AddFlags(cmd.Flags())
	return cmd
}

func (c *cli) imageDelete() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "delete IMAGE [IMAGE...]", Short: "Delete images and the layers that nothing else uses", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				ref, err := absoluteImage(ref)
				if err != nil {
					return err
				}
				return engine.DeleteImage(cmd.Context(), ref, force)
			})
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "also one that servers were made from; they go on")
	return cmd
}

func (c *cli) imagePrune() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove the layers that no image and no server uses", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			p, err := engine.PruneImages(cmd.Context(), all)
			if err != nil {
				return err
			}
			for _, ref := range p.Images {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", ref)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d layers removed, %.1f MB freed\n", p.Layers, float64(p.Bytes)/1e6)
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the images that no server was made from")
	return cmd
}

func (c *cli) imageVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify IMAGE [IMAGE...]", Short: "Read all that is kept of images again and compare it with its digests", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				ref, err := absoluteImage(ref)
				if err != nil {
					return err
				}
				if err := engine.VerifyImage(cmd.Context(), ref); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: whole\n", ref)
				return nil
			})
		}),
	}
}
