package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/cmd/internal/format"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) serverExec() *cobra.Command {
	var req agent.ExecRequest
	var env, envFiles []string
	var interactive bool
	var keys string
	cmd := &cobra.Command{
		Use: "exec [flags] SERVER COMMAND [ARG...]", Short: "Run a command in a server, beside its entrypoint",
		Long: `Run a command in a server, beside its entrypoint, with its environment, user and
working directory unless others are given. The exit status is the command's; 127 if
it was not found, 126 if it could not be executed, 125 if Slipway failed. Signals are
passed on; at the third Ctrl-C or SIGTERM the command is given up.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			engine, err := c.engine(cmd.Context())
			if err != nil {
				return &exitError{codeSlipway, err}
			}
			if req.Env, err = environment(envFiles, env); err != nil {
				return &exitError{codeSlipway, err}
			}
			req.Args = args[1:]
			exit, err := execute(cmd.Context(), engine, args[0], req, interactive, keys)
			switch {
			case exit.Detached && !req.Detach:
				fmt.Fprint(os.Stderr, "detached\r\n")
				return nil
			case err != nil:
				return &exitError{codeSlipway, err}
			case exit.Err != "":
				return &exitError{exit.Code, errors.New(exit.Err)}
			case exit.Code != 0:
				return &exitError{code: exit.Code}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&interactive, "interactive", "i", false, "pass the standard input on")
	f.BoolVarP(&req.Detach, "detach", "d", false, "let the command run on in the background")
	f.BoolVar(&req.Privileged, "privileged", false, "give the command all capabilities")
	addDetachKeys(f, &keys)
	f.BoolVarP(&req.TTY, "tty", "t", false, "give the command a terminal")
	f.StringArrayVarP(&env, "env", "e", nil, "`NAME=VALUE` for the environment, or NAME to pass it on; can be repeated")
	f.StringArrayVar(&envFiles, "env-file", nil, "`file` of such lines; can be repeated")
	f.StringVarP(&req.User, "user", "u", "", "`user[:group]` of the command, names or numbers")
	f.StringVarP(&req.Dir, "workdir", "w", "", "working `directory` of the command")
	return cmd
}

// execute runs a command and passes on input, signals and the window's size.
func execute(ctx context.Context, engine *client.Client, server string, req agent.ExecRequest, interactive bool, keys string) (agent.Exit, error) {
	if req.Detach { // there is nothing here for the command to be connected to
		return engine.Exec(ctx, server, req, agent.ExecIO{})
	}
	here, err := openConsole(interactive, req.TTY, keys)
	if err != nil {
		return agent.Exit{}, err
	}
	defer here.close()
	req.Size = here.size()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	numbers := make(chan int)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		for asked := 0; ; {
			select {
			case s := <-signals:
				number, ok := s.(syscall.Signal)
				if !ok {
					continue
				}
				// A guest that hangs passes nothing on.
				if number == syscall.SIGINT || number == syscall.SIGTERM {
					asked++
				}
				if asked == patience {
					cancel(errGivenUp)
					return
				}
				select {
				case numbers <- int(number):
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	exit, err := engine.Exec(ctx, server, req, agent.ExecIO{
		Stdin: here.stdin, Stdout: os.Stdout, Stderr: os.Stderr, Resize: here.resize(), Signals: numbers, Detach: here.detach,
	})
	if errors.Is(context.Cause(ctx), errGivenUp) {
		return exit, errGivenUp
	}
	return exit, err
}

// patience is how often a command is asked to end, docker's number.
const patience = 3

var errGivenUp = errors.New("the command was asked to end three times, and is given up")

func (c *cli) serverKill() *cobra.Command {
	var sig string
	cmd := &cobra.Command{
		Use: "kill SERVER [SERVER...]", Short: "Send a signal to servers' entrypoints", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error { return engine.Signal(cmd.Context(), ref, sig) })
		}),
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", "KILL", "the `signal`, a name or a number")
	return cmd
}

func (c *cli) serverWait() *cobra.Command {
	return &cobra.Command{
		Use: "wait SERVER [SERVER...]", Short: "Wait until servers have ended, and print their exit statuses", Args: cobra.MinimumNArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			return each(args, func(ref string) error {
				w := &watcher{engine: engine, id: ref, show: newProgress(os.Stderr, "none")}
				last, err := w.follow(cmd.Context(), nil)
				if err != nil {
					return err
				}
				if last.Exit == nil {
					return outcome(last)
				}
				fmt.Fprintln(cmd.OutOrStdout(), last.Exit.Code)
				return nil
			})
		}),
	}
}

func (c *cli) serverTop() *cobra.Command {
	var o format.Options
	cmd := &cobra.Command{
		Use: "top SERVER", Short: "List a server's processes", Args: cobra.ExactArgs(1),
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			list, err := engine.Top(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rows := [][]any{}
			for _, p := range list {
				rows = append(rows, []any{p.PID, p.Parent, p.UID, p.State, p.CPU.Seconds(), p.Memory, p.Command})
			}
			return format.List(cmd.OutOrStdout(), o, []string{"PID", "Parent", "UID", "State", "CPU Seconds", "Memory", "Command"}, rows)
		}),
	}
	o.AddListFlags(cmd.Flags())
	return cmd
}
