package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) serverImage() *cobra.Command {
	return group("image", "Make images of servers", &cobra.Command{
		Use: "create SERVER NAME[:TAG]", Short: "Make an image of a server's image and of what the server has written", Args: cobra.ExactArgs(2),
		Long: `Make an image of a server's image and of what the server has written, as one more
layer. The processes of a running server are frozen while that is copied; what lies
in its volumes is not in the image. The image is kept here, as one that was pulled;
"slipway image push" stores it elsewhere.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			img, err := engine.CreateImage(cmd.Context(), args[0], args[1])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s@%s\n", img.Reference, img.Digest)
			return nil
		}),
	})
}
