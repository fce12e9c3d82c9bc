package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/etc/kernel"
)

func (c *cli) kernelBuild() *cobra.Command {
	var cache string
	cmd := &cobra.Command{
		Use: "build", Short: "Build the minimal guest kernel from Debian's kernel source, and import it", Args: cobra.NoArgs,
		Long: `Build the minimal guest kernel from Debian's kernel source package, and import it
as "minimal", which servers then run unless another default is set.

The package is downloaded but not installed. Kernels that were built are kept in a
cache of this machine, so that building again takes no time until Debian's kernel,
the compiler or Slipway's configuration change.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			file, err := buildKernel(ctx, cache, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return c.importKernel(cmd, file)
		},
	}
	cmd.Flags().StringVar(&cache, "cache", "", "`directory` of kernels that were built (default /var/cache/slipway/kernel, or below ~/.cache for a user)")
	return cmd
}

// buildKernel runs the script that builds the kernel, and returns the kernel's
// path; progress gets what the script says.
func buildKernel(ctx context.Context, cache string, progress io.Writer) (_ string, err error) {
	dir, err := os.MkdirTemp("", "slipway-kernel-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.CopyFS(dir, kernel.Files); err != nil {
		return "", fmt.Errorf("build kernel: %w", err)
	}
	args := []string{filepath.Join(dir, "build")}
	if cache != "" {
		abs, err := filepath.Abs(cache)
		if err != nil {
			return "", err
		}
		args = append(args, abs)
	}
	var path bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", args...)
	cmd.Stdout, cmd.Stderr = &path, progress
	// It removes what it has made when it is told to end.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	if ctx.Err() != nil {
		return "", errors.New("build kernel: interrupted")
	}
	if err != nil {
		return "", fmt.Errorf("build kernel: %w", err)
	}
	return strings.TrimSpace(path.String()), nil
}
