package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/client"
)

func (c *cli) serverAttach() *cobra.Command {
	var noStdin, proxy bool
	var keys string
	cmd := &cobra.Command{
		Use: "attach SERVER", Short: "Connect to a server's entrypoint: its output from now on, and its input", Args: cobra.ExactArgs(1),
		Long: `Connect to a server's entrypoint: its output from now on, and, if the server was
booted with --interactive, its input. The exit status is the entrypoint's.`,
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			srv, err := engine.Server(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if srv.VMState != launcher.VMActive {
				return fmt.Errorf("cannot attach to server %s, which does not run: start it first", srv.Name)
			}
			stdin, tty := srv.HasTerminal()
			here, err := openConsole(stdin && !noStdin, tty, keys)
			if err != nil {
				return err
			}
			defer here.close()
			w := &watcher{engine: engine, id: srv.ID, show: newProgress(os.Stderr, "none"), tail: "0"}
			w.signal = func(ctx context.Context, s os.Signal, _ int) { w.proxy(ctx, s) }
			signals := make(chan os.Signal, 4)
			if proxy {
				signal.Notify(signals, proxied...)
				defer signal.Stop(signals)
			}
			return w.outcome(w.stay(cmd.Context(), here, signals))
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&noStdin, "no-stdin", false, "do not pass the standard input on")
	f.BoolVar(&proxy, "sig-proxy", true, "pass signals on to the entrypoint")
	addDetachKeys(f, &keys)
	return cmd
}

// proxied are the signals that --sig-proxy passes on.
var proxied = []os.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGALRM, syscall.SIGCONT,
}

// proxy passes a signal on to the entrypoint.
func (w *watcher) proxy(ctx context.Context, s os.Signal) {
	number, ok := s.(syscall.Signal)
	if !ok {
		return
	}
	err := w.engine.Signal(ctx, w.id, strconv.Itoa(int(number)))
	if err != nil && ctx.Err() == nil && !errors.Is(err, launcher.ErrConflict) && !errors.Is(err, launcher.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "slipway:", err)
	}
}

// errDetached says that the detach keys were typed.
var errDetached = errors.New("detached")

// stay shows the server's output, and passes on input and signals, until it has
// ended or the detach keys are typed, which is errDetached. It returns the server's
// last record.
func (w *watcher) stay(ctx context.Context, here *console, signals <-chan os.Signal) (launcher.Server, error) {
	ctx, leave := context.WithCancelCause(ctx)
	defer leave(nil)
	written := make(chan error, 1)
	go func() { written <- w.copyOutput(ctx, os.Stdout, os.Stderr) }()
	if here.stdin != nil || here.terminal != nil {
		attached, end := context.WithCancel(ctx)
		defer end()
		go func() {
			if w.attach(attached, here) {
				leave(errDetached)
			}
		}()
	}
	last, err := w.follow(ctx, signals)
	if errors.Is(context.Cause(ctx), errDetached) {
		return last, errDetached
	}
	if err == nil {
		err = <-written
	}
	return last, err
}

// outcome turns what stay returned into this program's end.
func (w *watcher) outcome(last launcher.Server, err error) error {
	switch {
	case errors.Is(err, errDetached):
		fmt.Fprint(os.Stderr, "detached\r\n")
		return nil
	case err != nil:
		return &exitError{codeSlipway, err}
	case w.deleted.Load() && last.Fault == "" && last.Exit == nil:
		return &exitError{codeSlipway, errors.New("interrupted before the entrypoint ran; the server is deleted")}
	}
	return outcome(last)
}
