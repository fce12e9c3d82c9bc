package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/rootfs/disk"
)

func (c *cli) imagePreload() *cobra.Command {
	var spec launcher.PreloadSpec
	var output string
	cmd := &cobra.Command{
		Use: "preload [flags] [NAME=]IMAGE [[NAME=]IMAGE...] -o FILE", Short: "Make a disk of unpacked images, which a server's dockerd finds",
		Long: `Make a read-only disk with several images, unpacked. In a server that has it, by
--preload, dockerd finds them as if it had pulled them: nothing is loaded or copied, and
no registry is asked. Servers may share a disk.

An image is known there by its reference, or as NAME, which may have a tag. dockerd runs
these images and builds on them; it cannot save or push them.`,
		Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if output == "" {
				return errors.New("no file is named: use -o FILE")
			}
			if spec.Format == "" && strings.HasSuffix(output, "."+string(disk.FormatRaw)) {
				spec.Format = disk.FormatRaw
			}
			for _, arg := range args {
				i, err := preloadImage(cmd, arg)
				if err != nil {
					return err
				}
				spec.Images = append(spec.Images, i)
			}
			from, size, err := engine.Preload(cmd.Context(), spec)
			if err != nil {
				return err
			}
			defer func() { _ = from.Close() }()
			if err := writeWhole(output, from, size); err != nil {
				return err
			}
			info, err := os.Stat(output)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d images, %.1f MB\n", output, len(args), float64(info.Size())/1e6)
			return err
		}),
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "`file` to write")
	cmd.Flags().StringVar((*string)(&spec.Format), "format", "", "qcow2 or raw (default: by the name of the file, or qcow2)")
	cmd.Flags().StringVar(&spec.Pull, "pull", "missing", "when to ask the registry: missing, always or never")
	return cmd
}

// preloadImage reads [NAME=]IMAGE. A reference has no =, but a file's name may.
func preloadImage(cmd *cobra.Command, arg string) (i launcher.PreloadImage, err error) {
	i.Reference = arg
	if name, ref, ok := strings.Cut(arg, "="); ok && !strings.Contains(name, "oci:") && !strings.Contains(name, "-archive:") {
		i.Name, i.Reference = name, ref
	}
	if i.Reference, err = absoluteImage(i.Reference); err != nil {
		return i, err
	}
	i.Auth, err = credentials(cmd.Context(), i.Reference)
	return i, err
}
