package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) imagePush() *cobra.Command {
	var order launcher.PushOrder
	var mode string
	var quiet bool
	cmd := &cobra.Command{
		Use: "push IMAGE DESTINATION", Short: "Store an image elsewhere",
		Long: `Store an image elsewhere, as far as it is not there yet.

DESTINATION is REGISTRY/NAME[:TAG], or glance:NAME, a name in the Glance of the
configuration (image.url), where manifest, configuration and layers become images; the
layers are hidden, and other images share them. What is missing there is read from
where IMAGE came from. Registries are given the credentials of ~/.docker/config.json.`,
		Args: cobra.ExactArgs(2),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) (err error) {
			if order.Image, err = absoluteImage(args[0]); err != nil {
				return err
			}
			order.Destination = args[1]
			show, err := newPullDisplay(os.Stderr, mode)
			if err != nil {
				return err
			}
			auth, err := credentials(cmd.Context(), order.Image)
			if err != nil {
				return err
			}
			there, err := credentials(cmd.Context(), order.Destination)
			if err != nil {
				return err
			}
			pushed, err := engine.Push(cmd.Context(), api.PushBody{PushOrder: order, Credentials: auth, Destination: there}, show.report)
			if err != nil {
				return err
			}
			switch {
			case quiet:
				fmt.Fprintln(cmd.OutOrStdout(), pushed.Digest)
			case !pushed.New:
				fmt.Fprintf(cmd.OutOrStdout(), "%s@%s: up to date, nothing to do\n", pushed.Reference, pushed.Digest)
			default:
				fmt.Fprintf(cmd.OutOrStdout(), "%s@%s: pushed, with %d layers of %.1f MB that were missing\n",
					pushed.Reference, pushed.Digest, pushed.Layers, float64(pushed.Bytes)/1e6)
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&order.Public, "public", false, "let every project use it (Glance lets administrators say so)")
	cmd.Flags().StringVar(&mode, "progress", "auto", "show progress: plain, none, or auto: each layer's on a terminal, elsewhere plain")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	return cmd
}
