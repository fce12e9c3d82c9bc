package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) imageSave() *cobra.Command {
	var file, name string
	cmd := &cobra.Command{
		Use: "save [-o FILE] IMAGE", Short: "Write an image into a file, which docker load takes too", Args: cobra.ExactArgs(1),
		Long: `Write an image into a file: an OCI layout in a tar archive, as docker save writes it.
Its layers are as in a registry, with the same digests. What is kept of them here is
unpacked, so that they are read from where IMAGE came from, but for those that were
made here.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			ref, err := absoluteImage(args[0])
			if err != nil {
				return err
			}
			if file == "" && isTerminal(os.Stdout) {
				return errors.New("the standard output is a terminal: name a file by -o")
			}
			from, size, err := engine.SaveImage(cmd.Context(), ref, name)
			if err != nil {
				return err
			}
			defer func() { _ = from.Close() }()
			if file != "" && file != "-" {
				return writeWhole(file, from, size)
			}
			_, err = io.Copy(os.Stdout, from)
			return err
		}),
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "`file` to write (default: the standard output)")
	cmd.Flags().StringVar(&name, "name", "", "what the image is called in the file (default: as here)")
	return cmd
}
