// Command slipwayd is the engine: the one process that keeps the servers of a
// state directory. The CLI starts one where none runs and is always its client. One
// that is started by hand or by systemd also serves OpenStack's APIs on the network,
// and does not end by itself then.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/launcher/client"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "slipwayd:", err)
		os.Exit(1)
	}
}

// oversubscribe lets a few more threads run Go at once than there are processors, and
// returns the number of those. Unpacking spends most of its time in C and in the
// kernel. A thread that comes back from there and finds its place taken has to wait
// for another, while its processor may be idle: it cost a pull a tenth of its time.
func oversubscribe() (processors int) {
	const more = 4
	processors = runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(processors + more)
	return processors
}

func run(ctx context.Context, args []string) error {
	flags := pflag.NewFlagSet("slipwayd", pflag.ContinueOnError)
	settings := config.AddFlags(flags)
	flags.Duration("idle-timeout", 0, "end after this long with no server running and no request; 0: never")
	settings.Bind("engine.idle_timeout", flags.Lookup("idle-timeout"))
	readyFD := flags.Int("ready-fd", -1, "file descriptor to write a byte to when ready")
	flags.String("listen", "", "serve OpenStack's APIs at this `address` (host:port)")
	settings.Bind("api.listen", flags.Lookup("listen"))
	reset := flags.Bool("reset-admin-password", false, "give the user admin a new password, and write it down as at the first start")
	showVersion := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *showVersion {
		fmt.Println("slipwayd", version)
		return nil
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	cfg, err := settings.Load()
	if err != nil {
		return err
	}
	if err := completePath(); err != nil {
		return err
	}
	onDemand := *readyFD >= 0
	e, err := open(ctx, cfg, newLog(cfg.Log), start{onDemand: onDemand, resetPassword: *reset, processors: oversubscribe()})
	if errors.Is(err, errRunning) {
		if onDemand {
			return nil // and there is one
		}
		return fmt.Errorf("%w for %s: %s", err, cfg.StateDir, howToEnd(cfg.StateDir))
	}
	if err != nil {
		return errors.Join(err, announce(*readyFD, err.Error()))
	}
	if err := announce(*readyFD, client.Ready); err != nil {
		return errors.Join(err, e.close())
	}
	return errors.Join(e.serve(ctx, cfg.Engine.IdleTimeout), e.close())
}

// howToEnd says what to do about the engine that is in the way.
func howToEnd(stateDir string) string {
	pid, err := os.ReadFile(filepath.Join(stateDir, client.LockFile))
	if text := strings.TrimSpace(string(pid)); err == nil && text != "" {
		return "end it first (kill " + strings.TrimSuffix(text, onDemandMark) + "); its servers run on"
	}
	return "end it first; its servers run on"
}

// completePath adds the usual places of programs to PATH: an engine that a user's
// shell has started, perhaps by su, needs mkfs too.
func completePath() error {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	for _, d := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if !slices.Contains(dirs, d) {
			dirs = append(dirs, d)
		}
	}
	return os.Setenv("PATH", strings.Join(dirs, string(filepath.ListSeparator)))
}

func newLog(c config.Log) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // config has checked it
	opts := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// announce tells whoever started the engine that it answers, or why it does not.
func announce(fd int, word string) error {
	if fd < 0 {
		return nil
	}
	f := os.NewFile(uintptr(fd), "ready")
	_, err := f.WriteString(word)
	return errors.Join(err, f.Close())
}

// shutdownTime bounds how long the end of the engine waits for requests.
const shutdownTime = 10 * time.Second
