package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) kernel() *cobra.Command {
	return group("kernel", "Look after guest kernels", c.kernelList(), c.kernelBuild(), c.kernelImport(), c.kernelSetDefault())
}

func (c *cli) kernelList() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List guest kernels", Args: cobra.NoArgs,
		RunE: c.withEngine(func(cmd *cobra.Command, _ []string, engine *client.Client) error {
			kernels, err := engine.Kernels(cmd.Context())
			if err != nil {
				return err
			}
			rows := [][]any{}
			for _, k := range kernels {
				rows = append(rows, []any{k.Name, k.Version, short(strings.TrimPrefix(k.Digest, "sha256:")),
					config.Size(k.MinMemory).String(), k.Default})
			}
			return format.List(cmd.OutOrStdout(), o, []string{"Name", "Version", "Digest", "Least Memory", "Default"}, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}

func (c *cli) kernelImport() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Import a guest kernel: a Debian kernel package, which is not installed, a bzImage or an ELF vmlinux",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.importKernel(cmd, args[0]) },
	}
}

// importKernel imports a kernel and says as what.
func (c *cli) importKernel(cmd *cobra.Command, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	engine, err := c.engine(cmd.Context())
	if err != nil {
		return err
	}
	k, err := engine.ImportKernel(cmd.Context(), file)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s %s %s\n", k.Name, k.Version, k.Digest)
	return nil
}

func (c *cli) kernelSetDefault() *cobra.Command {
	return &cobra.Command{
		Use: "set-default KERNEL", Short: "Choose the kernel of servers that do not name one", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			_, err := engine.SetDefaultKernel(cmd.Context(), args[0])
			return err
		}),
	}
}
