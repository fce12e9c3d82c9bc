package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/rootfs"
)

func (c *cli) image() *cobra.Command {
	return group("image", "Look after images", c.imagePull(), c.imagePush(), c.imageList(), c.imageShow(), c.imageDelete(), c.imagePrune(), c.imageVerify(), c.imageSave(), c.imageDisk(), c.imagePreload())
}

func (c *cli) imagePull() *cobra.Command {
	var mode string
	var quiet bool
	var o format.Options
	cmd := &cobra.Command{
		Use: "pull IMAGE [IMAGE...]", Short: "Fetch and unpack images",
		Long: `Fetch and unpack images.

IMAGE is a registry reference, oci:DIR[:TAG], oci-archive:FILE[:TAG],
docker-archive:FILE[:NAME] or glance:NAME-OR-ID. The FILE - is the standard input; the image is then
known by the name that it has in the archive, or else by its ID. So is what a cloud's
service is sent of this host's files.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				ref, err := absoluteImage(ref)
				if err != nil {
					return err
				}
				show, err := newPullDisplay(os.Stderr, mode)
				if err != nil {
					return err
				}
				img, err := pullOrLoad(cmd.Context(), engine, ref, show)
				if err != nil {
					return err
				}
				if cmd.Flags().Changed("format") || cmd.Flags().Changed("column") {
					fields, values := imageFields(img)
					return format.Show(cmd.OutOrStdout(), o, fields, values)
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
	cmd.Flags().StringVar(&mode, "progress", "auto", "show progress: plain, none, or auto: each layer's on a terminal, elsewhere plain")
	o.AddFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	return cmd
}

// pullOrLoad pulls an image, or sends it to the engine.
func pullOrLoad(ctx context.Context, engine *client.Client, ref string, show *pullDisplay) (launcher.Image, error) {
	if loaded, img, err := loadArchive(ctx, engine, ref, show.report); loaded || err != nil {
		return img, err
	}
	auth, err := credentials(ctx, ref)
	if err != nil {
		return launcher.Image{}, err
	}
	return engine.Pull(ctx, api.PullBody{Image: ref, Pull: "always", Credentials: auth}, show.report)
}

// pullDisplay shows a pull, layer by layer: on a terminal a line for each, kept up
// to date, or for those that are being fetched where all do not fit; elsewhere a line
// when one is done.
type pullDisplay struct {
	w       io.Writer  // nil: show nothing
	height  func() int // nil: no terminal
	lines   int        // on the terminal, of the last report
	settled []bool
}

func newPullDisplay(f *os.File, mode string) (*pullDisplay, error) {
	switch mode {
	case "auto":
		d := &pullDisplay{w: f}
		if isTerminal(f) {
			d.height = func() int { return terminalHeight(f) }
		}
		return d, nil
	case "plain":
		return &pullDisplay{w: f}, nil
	case "none":
		return &pullDisplay{}, nil
	}
	return nil, fmt.Errorf("--progress %q: use plain, none or auto", mode)
}

func (d *pullDisplay) report(p launcher.PullProgress) {
	if d.w == nil {
		return
	}
	if d.height != nil {
		d.redraw(p)
		return
	}
	for n, l := range p.Layers {
		if len(d.settled) <= n {
			d.settled = append(d.settled, false)
		}
		if l.Settled() && !d.settled[n] {
			fmt.Fprintf(d.w, "layer %d of %d: %s\n", n+1, len(p.Layers), layerLine(l))
		}
		d.settled[n] = l.Settled()
	}
}

// redraw writes over the lines of the last report.
func (d *pullDisplay) redraw(p launcher.PullProgress) {
	var lines []string
	room := d.height() - 1 // the cursor is below
	for _, l := range p.Layers {
		if len(p.Layers) <= room || !l.Settled() && l.Phase != rootfs.PhaseWaiting && len(lines) < room-1 {
			lines = append(lines, layerLine(l))
		}
	}
	if len(p.Layers) > room {
		lines = append(lines, p.String())
	}
	var b strings.Builder
	if d.lines > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.lines)
	}
	for _, line := range lines {
		fmt.Fprintf(&b, "\r\x1b[K%s\n", line)
	}
	b.WriteString("\x1b[J")
	d.lines = len(lines)
	_, _ = io.WriteString(d.w, b.String())
}

func layerLine(l launcher.LayerProgress) string {
	mb := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }
	digest := short(strings.TrimPrefix(l.Digest, "sha256:"))
	if (l.Phase == rootfs.PhaseFetch || l.Phase == launcher.PhaseUpload) && l.Total > 0 {
		return fmt.Sprintf("%-12s %s %s of %s MB, %d %%", digest, l.Phase, mb(l.Done), mb(l.Total), 100*l.Done/l.Total)
	}
	return fmt.Sprintf("%-12s %s, %s MB", digest, l.Phase, mb(l.Total))
}

func short(hex string) string { return hex[:min(len(hex), 12)] }

func (c *cli) imageList() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List images", Args: cobra.NoArgs,
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
		Use: "show IMAGE", Aliases: []string{"inspect"}, Short: "Show an image", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			ref, err := absoluteImage(args[0])
			if err != nil {
				return err
			}
			i, err := engine.Image(cmd.Context(), ref)
			if err != nil {
				return err
			}
			fields, values := imageFields(i)
			return format.Show(cmd.OutOrStdout(), o, fields, values)
		}),
	}
	o.AddFlags(cmd.Flags())
	return cmd
}

// imageFields names an image's facts.
func imageFields(i launcher.Image) (fields []string, values []any) {
	fields = []string{"id", "name", "digest", "size", "alone", "shared", "layers", "created_at", "pulled_at"}
	values = []any{i.ID, i.Reference, i.Digest.String(), i.Size, i.Alone, i.Shared, len(i.DiffIDs), stamp(i.Created), stamp(i.Pulled)}
	if i.Config == nil {
		return fields, values
	}
	cfg := i.Config.Config
	fields = append(fields, "architecture", "entrypoint", "command", "env", "user", "workdir", "stop_signal")
	return fields, append(values, i.Config.Architecture, strings.Join(cfg.Entrypoint, " "), strings.Join(cfg.Cmd, " "),
		strings.Join(cfg.Env, "\n"), cfg.User, cfg.WorkingDir, cfg.StopSignal)
}

func (c *cli) imageDelete() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "delete IMAGE [IMAGE...]", Aliases: []string{"rm"}, Short: "Delete images and the layers that nothing else uses", Args: cobra.MinimumNArgs(1),
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
	var cloud string
	var age time.Duration
	cmd := &cobra.Command{
		Use: "prune [glance:]", Short: "Remove the layers that no image and no server uses", Args: cobra.MaximumNArgs(1),
		Long: `Remove the layers that no image and no server uses.

With glance:, what this project has pushed or uploaded to the Glance of the configuration,
or of --cloud, and what no image there needs any more: layers and configurations, kernels
and ramdisks.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if args[0] != string(images.Glance)+":" {
					return fmt.Errorf("%q cannot be pruned: name glance:, or nothing for what is here", args[0])
				}
				return c.pruneGlance(cmd, cloud, age, all)
			}
			if cmd.Flags().Changed("cloud") || cmd.Flags().Changed("older-than") {
				return errors.New("--cloud and --older-than are for a Glance: name it, glance:, after prune")
			}
			engine, err := c.engine(cmd.Context())
			if err != nil {
				return err
			}
			p, err := engine.PruneImages(cmd.Context(), all)
			if err != nil {
				return err
			}
			for _, ref := range p.Images {
				fmt.Fprintln(cmd.OutOrStdout(), "removed", ref)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d layers removed, %.1f MB freed\n", p.Layers, float64(p.Bytes)/1e6)
			if p.Busy {
				return errors.New("images are being pulled or read, which may need the layers: prune again after that")
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also the images that no server was made from; of a Glance, those that have lost their names to others")
	cmd.Flags().StringVar(&cloud, "cloud", "", "`cloud` of clouds.yaml whose Glance is pruned")
	cmd.Flags().DurationVar(&age, "older-than", glance.Grace, "spare what was pushed to Glance within that `time`: the push may be going on")
	return cmd
}

func (c *cli) pruneGlance(cmd *cobra.Command, cloud string, age time.Duration, all bool) error {
	client, err := c.glance(cmd.Context(), cloud)
	if err != nil {
		return err
	}
	deleted, err := images.PruneGlance(cmd.Context(), client, time.Now().Add(-age), all)
	var bytes int64
	for _, i := range deleted {
		fmt.Fprintln(cmd.OutOrStdout(), "removed", i.ID, i.Name)
		bytes += i.Size
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d images removed, %.1f MB freed\n", len(deleted), float64(bytes)/1e6)
	return plainly(err)
}

func (c *cli) imageVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify [IMAGE...]", Short: "Read all that is kept of images again and compare it with its digests",
		Long: `Read all that is kept of images, or of all images, again and compare it with its
digests. What is damaged is made anew when the image is pulled again; servers go on with
what they have until they are started again.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if len(args) == 0 {
				all, err := engine.Images(cmd.Context())
				if err != nil {
					return err
				}
				for _, i := range all {
					args = append(args, i.Reference)
				}
			}
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
