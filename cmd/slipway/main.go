// Command slipway boots OCI images as micro-VMs and looks after them. It is a
// client of the engine, slipwayd, and starts one where none runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/launcher/client"
)

// version is set by the linker.
var version = "unknown"

// codeSlipway is the exit status of boot where Slipway itself failed, as docker
// has it; other commands fail with 1.
const codeSlipway = 125

// exitError ends the program with a status and, if it has one, a message.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func main() {
	os.Exit(run(context.Background(), os.Args[1:]))
}

func run(ctx context.Context, args []string) int {
	c := &cli{}
	root := c.command()
	root.SetArgs(args)
	ran, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if msg := err.Error(); msg != "" {
		fmt.Fprintln(os.Stderr, "slipway:", msg)
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if ran.Name() == "boot" {
		return codeSlipway
	}
	return 1
}

// cli is what the commands share.
type cli struct {
	flags *config.Flags
	cfg   *config.Config
	cloud string // of clouds.yaml
	// onCloud says that the commands are for a cloud's service.
	onCloud bool
}

func (c *cli) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "slipway",
		Short:         "Boot OCI images as micro-VMs",
		Version:       buildFacts(),
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			if c.onCloud = c.remote(cmd); c.onCloud {
				return refuseRemote(cmd)
			}
			c.cfg, err = c.flags.Load()
			return err
		},
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	c.flags = config.AddFlags(root.PersistentFlags())
	root.PersistentFlags().StringVar(&c.cloud, "os-cloud", "", "speak to the service of a cloud of clouds.yaml, as `NAME`, instead of this host's engine; so do OS_CLOUD and OS_AUTH_URL")
	root.AddCommand(c.boot(), c.server(), c.image(), c.network(), c.kernel(), c.host(), local(c.service()), c.man(root))
	return c.completing(root)
}

// group is a command that only has others. An unknown one is an error, as it is for
// the root.
func group(name, short string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: name, Short: short, DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			meant := ""
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				meant = "; did you mean " + strings.Join(near, " or ") + "?"
			}
			return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), meant)
		},
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(commands...)
	return cmd
}

// engine connects to the engine of the state directory, or to a cloud's service.
func (c *cli) engine(ctx context.Context) (*client.Client, error) {
	if c.onCloud {
		s, err := login(ctx, c.cloud)
		if err != nil {
			return nil, err
		}
		return s.service()
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e := client.Engine{StateDir: c.cfg.StateDir, Program: filepath.Join(filepath.Dir(self), "slipwayd")}
	if file := c.flags.File(); file != "" {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		e.Args = append(e.Args, "--config", abs)
	}
	return e.Connect(ctx)
}

// withEngine makes a command's work from a function that needs the engine.
func (c *cli) withEngine(f func(cmd *cobra.Command, args []string, engine *client.Client) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		engine, err := c.engine(cmd.Context())
		if err != nil {
			return err
		}
		return f(cmd, args, engine)
	}
}

// each does something for every argument and goes on after a failure.
func each(args []string, f func(string) error) error {
	var errs []error
	for _, a := range args {
		errs = append(errs, f(a))
	}
	return errors.Join(errs...)
}
