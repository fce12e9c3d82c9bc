package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/output"
)

// bootFlags are the flags of boot as they are given.
type bootFlags struct {
	spec       launcher.Spec
	memory     config.Size
	disk       config.Size
	env        []string
	envFiles   []string
	volumes    []string
	networks   []string
	publish    []string
	userData   string
	options    optionFlags
	entrypoint string
	logOpts    []string
	detachKeys string
	stopGrace  time.Duration
	detach     bool
	timeline   bool
	progress   string
	on         cloudFlags
}

func (c *cli) boot() *cobra.Command {
	var b bootFlags
	cmd := &cobra.Command{
		Use:   "boot [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Boot an image as a micro-VM and show its output",
		Long: `Boot an image as a micro-VM and show its output.

IMAGE is a registry reference (alpine, registry.example/app:1.2, app@sha256:...),
oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE; the FILE - is the standard
input. COMMAND replaces the image's own.

The exit status is the entrypoint's, 128+n if signal n ended it; 127 if the
command was not found, 126 if it could not be executed, 125 if Slipway failed.
Ctrl-C and SIGTERM send the entrypoint its stop signal and end it after a grace
period; a second one ends it at once.

With --cloud the image is exported as a disk (see "slipway image disk"), uploaded to
the cloud's Glance unless the same disk is there, and booted by its Nova. The output
comes from the server's console, what the guest's kernel and init say there as standard
error; with --detach the first of it is waited for.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no image is named: use slipway boot [flags] IMAGE [COMMAND [ARG...]]")
			}
			return nil
		},
		RunE: c.withEngine(func(cmd *cobra.Command, args []string, engine *client.Client) error {
			if err := errors.Join(b.on.check(cmd.Flags()), b.fill(cmd, args)); err != nil {
				return &exitError{codeSlipway, err}
			}
			if err := b.load(cmd.Context(), engine); err != nil {
				return &exitError{codeSlipway, err}
			}
			if b.on.name != "" {
				return b.bootOnCloud(cmd, engine)
			}
			return b.run(cmd.Context(), engine)
		}),
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&b.spec.Name, "name", "", "`name` of the server")
	f.StringVar(&b.spec.Flavor, "flavor", "", "`flavor`: the server's size")
	f.IntVar(&b.spec.VCPUs, "vcpus", 0, "`number` of processors, over the flavor's")
	f.VarP(&b.memory, "memory", "m", "memory, over the flavor's (512M, 2G)")
	f.Var(&b.disk, "disk", "bytes that the server may write to its root, over the flavor's")
	f.StringArrayVarP(&b.volumes, "volume", "v", nil, "`HOST:GUEST[:ro]`: a host directory in the server; can be repeated")
	f.StringVar(&b.spec.RootMode, "root", "", "how the root reaches the guest: virtiofs, 9p or block")
	f.BoolVar(&b.spec.AutoRemove, "rm", false, "delete the server when it has ended")
	f.BoolVarP(&b.spec.Stdin, "interactive", "i", false, "pass the standard input on to the entrypoint")
	f.BoolVarP(&b.detach, "detach", "d", false, "print the server's ID once it runs, and leave it running")
	f.DurationVar(&b.spec.Timeout, "timeout", 0, "stop the server after this `time`")
	f.StringArrayVar(&b.logOpts, "log-opt", nil, "`max-size=SIZE` of a file of the output log, -1 for any, or max-file=N of them; can be repeated")
	f.StringArrayVar(&b.networks, "network", nil, "`NETWORK[,ip=ADDRESS][,mac=MAC]`, none, or host-user; can be repeated (default: the network default; without root, host-user)")
	f.StringArrayVarP(&b.publish, "publish", "p", nil, "`[IP:][HOST:]GUEST[/PROTOCOL]`: a port of the server, or a range, on the host; can be repeated")
	f.BoolVar(&b.spec.WithConfigDrive, "config-drive", false, "give the server a config drive: a disk labelled config-2 with what it is told about itself")
	f.StringVar(&b.spec.SeedDisk, "seed-disk", "", "disk image `file` labelled cidata (NoCloud) or config-2 to take cloud-init's data from")
	f.StringArrayVar(&b.spec.Preload, "preload", nil, "disk `file` of \"slipway image preload\", whose images the server's dockerd finds; can be repeated")
	f.StringVar(&b.spec.BaseVMImage, "base-vm-image", "", "disk `file` of a cloud image to boot with its own kernel and cloud-init, the image's root inside it (none: not the configured one)")
	b.on.add(f)
	b.addProcess(f)
	addDetachKeys(f, &b.detachKeys)
	f.BoolVar(&b.timeline, "timeline", false, "say at the end how the time of the boot was spent")
	return cmd
}

// addProcess defines the flags of what runs in a server and of its surroundings,
// wherever the server is.
func (b *bootFlags) addProcess(f *pflag.FlagSet) {
	f.StringArrayVarP(&b.env, "env", "e", nil, "`NAME=VALUE` for the environment, or NAME to pass it on; can be repeated")
	f.StringArrayVar(&b.envFiles, "env-file", nil, "`file` of such lines; can be repeated")
	f.StringVarP(&b.spec.Dir, "workdir", "w", "", "working `directory` of the entrypoint")
	f.StringVarP(&b.spec.User, "user", "u", "", "`user[:group]` of the entrypoint, names or numbers")
	f.StringVar(&b.spec.Hostname, "hostname", "", "host `name` of the server")
	f.StringVar(&b.entrypoint, "entrypoint", "", "`program` instead of the image's entrypoint; empty for none")
	f.StringVar(&b.userData, "user-data", "", "`file` of user data for cloud-init: a cloud-config, a script, a MIME message; - for the standard input")
	f.StringVar((*string)(&b.spec.InitMode), "init-mode", "", "what the entrypoint is: entrypoint, or system, the image's own init (default: by its name)")
	f.StringVar(&b.spec.Kernel, "kernel", "", "guest `kernel`: a name, a digest or a file")
	f.StringVar(&b.spec.Pull, "pull", "missing", "when to ask the registry: missing, always or never")
	f.StringVar(&b.spec.StopSignal, "stop-signal", "", "`signal` that asks the entrypoint to end, a name or a number (default: the image's, or TERM)")
	f.Var((*seconds)(&b.stopGrace), "stop-timeout", "`time`, in seconds or with a unit, between the stop signal and the hard end (default: the engine's)")
	f.BoolVarP(&b.spec.TTY, "tty", "t", false, "give the entrypoint a terminal")
	b.options.add(f)
	f.StringVar(&b.progress, "progress", "auto", "show progress: plain, none, or auto: on a terminal")
}

// maxUserData is what Nova takes of user data, base64 included, in bytes.
const maxUserData = 65535 / 4 * 3

func (b *bootFlags) readUserData() ([]byte, error) {
	var in io.Reader = os.Stdin
	switch {
	case b.userData == "":
		return nil, nil
	case b.userData == "-" && b.spec.Stdin:
		return nil, errors.New("--user-data -: the standard input is the entrypoint's, by --interactive")
	case b.userData != "-":
		f, err := os.Open(b.userData)
		if err != nil {
			return nil, fmt.Errorf("--user-data: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxUserData+1))
	if err != nil {
		return nil, fmt.Errorf("--user-data: %w", err)
	}
	if len(data) > maxUserData {
		return nil, fmt.Errorf("--user-data: more than %d bytes; compress it with gzip", maxUserData)
	}
	return data, nil
}

// fill makes the server's specification of flags and arguments.
func (b *bootFlags) fill(cmd *cobra.Command, args []string) error {
	var err error
	s := &b.spec
	if s.Image, err = absoluteImage(args[0]); err != nil {
		return err
	}
	s.Command = args[1:]
	s.Memory, s.Disk = int64(b.memory), int64(b.disk)
	if err := b.options.fill(s); err != nil {
		return err
	}
	s.RemoveFailed = true
	if s.Env, err = environment(b.envFiles, b.env); err != nil {
		return err
	}
	if s.CloudInit, err = b.readUserData(); err != nil {
		return err
	}
	for _, file := range []*string{&s.SeedDisk, &s.BaseVMImage} {
		if *file == "" || *file == launcher.NoBaseVMImage {
			continue
		}
		if *file, err = filepath.Abs(*file); err != nil {
			return err
		}
	}
	if err := absolute(s.Preload); err != nil {
		return err
	}
	for _, v := range b.volumes {
		volume, err := parseVolume(v)
		if err != nil {
			return err
		}
		s.Volumes = append(s.Volumes, volume)
	}
	for _, n := range b.networks {
		request, err := parseNetwork(n)
		if err != nil {
			return err
		}
		s.Networks = append(s.Networks, request)
	}
	if s.Publish, err = parsePublish(b.publish); err != nil {
		return err
	}
	if err := logOptions(s, b.logOpts); err != nil {
		return err
	}
	if cmd.Flags().Changed("entrypoint") {
		s.Entrypoint = &[]string{}
		if b.entrypoint != "" {
			s.Entrypoint = &[]string{b.entrypoint}
		}
	}
	if cmd.Flags().Changed("stop-timeout") {
		s.StopGrace = &b.stopGrace
	}
	switch b.progress {
	case "plain", "none", "auto":
		return nil
	}
	return fmt.Errorf("--progress %q: use plain, none or auto", b.progress)
}

// load makes an image ready that the engine cannot read by itself.
func (b *bootFlags) load(ctx context.Context, engine *client.Client) error {
	if ref, err := images.ParseReference(b.spec.Image); err == nil && ref.Piped() && b.spec.Stdin {
		return errors.New("the standard input is the image's archive: it cannot be passed on by --interactive, too")
	}
	loaded, img, err := loadArchive(ctx, engine, b.spec.Image, func(launcher.PullProgress) {})
	if loaded && err == nil {
		b.spec.Image, b.spec.Pull = referenceOf(img), "never"
	}
	return err
}

// run boots the server and stays with it until it has ended.
func (b *bootFlags) run(ctx context.Context, engine *client.Client) error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	here := &console{}
	if !b.detach {
		var err error
		if here, err = openConsole(b.spec.Stdin, b.spec.TTY, b.detachKeys); err != nil {
			return &exitError{codeSlipway, err}
		}
		defer here.close()
	}
	auth, err := credentials(ctx, b.spec.Image)
	if err != nil {
		return &exitError{codeSlipway, err}
	}
	srv, err := engine.Create(ctx, api.CreateBody{Spec: b.spec, Credentials: auth})
	if err != nil {
		return &exitError{codeSlipway, err}
	}
	w := &watcher{engine: engine, id: srv.ID, show: newProgress(os.Stderr, b.progress)}
	if b.detach {
		return w.detach(ctx, signals, b.timeline)
	}
	last, err := w.stay(ctx, here, signals)
	if err == nil && b.timeline {
		printTimeline(os.Stderr, last)
	}
	return w.outcome(last, err)
}

// outcome turns how a server ended into this program's end.
func outcome(srv launcher.Server) error {
	switch {
	case srv.Fault != "":
		code := srv.FaultCode
		if code == 0 {
			code = codeSlipway
		}
		return &exitError{code, errors.New(srv.Fault)}
	case srv.Exit == nil:
		return &exitError{codeSlipway, errors.New("the server was deleted before its entrypoint ended")}
	case srv.Exit.Reason != "":
		return &exitError{srv.Exit.Code, errors.New(srv.Exit.Reason)}
	case srv.Exit.Code != 0:
		return &exitError{code: srv.Exit.Code}
	}
	return nil
}

// watcher stays with one server.
type watcher struct {
	engine *client.Client
	id     string
	show   *progress
	tail   string // lines of the output there is to begin with; all where empty
	// signal takes the nth signal that comes; nil is interrupt.
	signal func(ctx context.Context, s os.Signal, n int)
	// deleted says that an interrupt had the server deleted, before its entrypoint ran.
	deleted atomic.Bool
}

// attach gives the entrypoint this program's input, once it runs, and reports
// whether the detach keys ended that.
func (w *watcher) attach(ctx context.Context, here *console) (detached bool) {
	err := w.engine.Watch(ctx, w.id, func(srv launcher.Server) bool { return srv.VMState != launcher.VMBuilding })
	if err == nil {
		detached, err = w.engine.Attach(ctx, w.id, agent.AttachRequest{Size: here.size()},
			agent.ExecIO{Stdin: here.stdin, Resize: here.resize(), Detach: here.detach})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, launcher.ErrConflict) && !errors.Is(err, launcher.ErrNotFound) &&
		!errors.Is(err, launcher.ErrUnavailable) {
		fmt.Fprintf(os.Stderr, "slipway: the input is not passed on: %v\r\n", err)
	}
	return detached
}

// copyOutput copies the entrypoint's output of this run, as it comes.
func (w *watcher) copyOutput(ctx context.Context, stdout, stderr io.Writer) error {
	err := w.engine.Output(ctx, w.id, client.OutputQuery{Run: "latest", Tail: w.tail, Follow: true, Hold: true}, func(r output.Record) error {
		to := stdout
		if r.Stream == output.Stderr {
			to = stderr
		}
		w.show.done()
		_, err := to.Write(r.Data)
		return err
	})
	if errors.Is(err, launcher.ErrNotFound) {
		return nil // it failed and is gone already; its last record says why
	}
	return err
}

// follow watches the server until nothing of it is left to happen, and passes on
// the signals that come meanwhile. It returns the server's last record.
func (w *watcher) follow(ctx context.Context, signals <-chan os.Signal) (launcher.Server, error) {
	var last launcher.Server
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	seen := make(chan launcher.Server, 16)
	go func() {
		defer close(seen)
		ended <- w.engine.Watch(ctx, w.id, func(srv launcher.Server) bool {
			select {
			case seen <- srv:
			case <-ctx.Done():
			}
			return over(srv)
		})
	}()
	stops := 0
	for {
		select {
		case srv, ok := <-seen:
			if !ok {
				w.show.done()
				return last, <-ended
			}
			last = srv
			w.show.server(srv)
		case s := <-signals:
			stops++
			if w.signal != nil {
				go w.signal(ctx, s, stops)
			} else {
				go w.interrupt(ctx, stops)
			}
		}
	}
}

// over says that nothing more will happen to a server by itself.
func over(srv launcher.Server) bool {
	return srv.TaskState == launcher.TaskNone &&
		(srv.VMState == launcher.VMStopped || srv.VMState == launcher.VMError || srv.VMState == launcher.VMDeleted)
}

// interrupt stops a server for the nth time: gently first, then at once. One that
// is booted for the first time is deleted; one that is started again has something
// to lose, and is stopped as soon as it runs.
func (w *watcher) interrupt(ctx context.Context, n int) {
	srv, err := w.engine.Server(ctx, w.id)
	if err == nil && srv.TaskState == launcher.TaskPoweringOn {
		srv, err = w.started(ctx)
	}
	switch {
	case err != nil:
	case srv.VMState == launcher.VMBuilding:
		w.deleted.Store(true)
		err = w.engine.Delete(ctx, w.id)
	case srv.VMState != launcher.VMActive: // it has ended by itself
	case n > 1:
		now := time.Duration(0)
		err = w.engine.Stop(ctx, w.id, &now)
	default:
		err = w.engine.Stop(ctx, w.id, nil)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, launcher.ErrConflict) && !errors.Is(err, launcher.ErrNotFound) {
		fmt.Fprintln(os.Stderr, "slipway:", err)
	}
}

// detach waits until the entrypoint runs, prints the server's ID and lets go.
func (w *watcher) detach(ctx context.Context, signals <-chan os.Signal, timeline bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-signals:
			cancel(errors.New("interrupted"))
		case <-ctx.Done():
		}
	}()
	last, err := w.started(ctx)
	if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), w.engine.Delete(context.WithoutCancel(ctx), w.id))
	}
	if err != nil {
		return &exitError{codeSlipway, err}
	}
	if last.Launched.IsZero() {
		return outcome(last)
	}
	if timeline {
		printTimeline(os.Stderr, last)
	}
	fmt.Println(last.ID)
	return nil
}

// started waits until the entrypoint has been started, or cannot be any more.
func (w *watcher) started(ctx context.Context) (launcher.Server, error) {
	return w.until(ctx, func(srv launcher.Server) bool { return !srv.Launched.IsZero() })
}

// settled waits until nothing is done to the server any more that was asked for.
func (w *watcher) settled(ctx context.Context) (launcher.Server, error) {
	return w.until(ctx, func(srv launcher.Server) bool { return srv.TaskState == launcher.TaskNone })
}

// until waits for something of the server that runs, or for its end.
func (w *watcher) until(ctx context.Context, seen func(launcher.Server) bool) (last launcher.Server, err error) {
	err = w.engine.Watch(ctx, w.id, func(srv launcher.Server) bool {
		last = srv
		w.show.server(srv)
		return seen(srv) || over(srv)
	})
	w.show.done()
	return last, err
}

// printTimeline says how a server ended and how its boot's time was spent.
func printTimeline(w io.Writer, srv launcher.Server) {
	if srv.Exit != nil {
		fmt.Fprintf(w, "exit status: %d\n", srv.Exit.Code)
	}
	if srv.Launched.IsZero() {
		return
	}
	t := srv.Timeline
	var parts []string
	for _, s := range []struct {
		name string
		took time.Duration
	}{
		{"resolve", t.Resolve}, {"fetch", t.Fetch}, {"unpack", t.Unpack}, {"clone", t.Clone},
		{"probe", t.Probe}, {"define", t.Define}, {"kernel", t.Kernel}, {"init", t.Init}, {"first output", t.FirstOutput},
	} {
		parts = append(parts, fmt.Sprintf("%s %d ms", s.name, s.took.Round(time.Millisecond).Milliseconds()))
	}
	fmt.Fprintf(w, "timeline: %s; total %d ms (%s, %s)\n", strings.Join(parts, ", "), t.Total.Milliseconds(), srv.Accel, srv.RootMode)
}
