package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cmd/internal/cloud"
	"github.com/slipway-vm/slipway/cmd/internal/config"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/api"
	"github.com/slipway-vm/slipway/launcher/client"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/host"
	"github.com/slipway-vm/slipway/launcher/network"
	"github.com/slipway-vm/slipway/launcher/network/passt"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/launcher/store"
	"github.com/slipway-vm/slipway/launcher/virt"
	"github.com/slipway-vm/slipway/rootfs"
)

// errRunning says that the state directory has an engine already.
var errRunning = errors.New("an engine runs already")

// engine is everything that runs in a slipwayd, wired.
type engine struct {
	cfg      *config.Config
	log      *slog.Logger
	store    *store.Store
	virt     *virt.Hypervisor
	manager  *launcher.Manager
	networks *network.Service
	kernels  *guest.KernelStore
	hostUser *passt.Network
	server   *http.Server
	socket   net.Listener
	service  *service     // nil where no network service is wanted
	cloud    *cloud.Cloud // nil where it belongs to none
	// onDemand: the engine may be ended by one that serves the network too.
	onDemand   bool
	processors int
	closers    []func() error // in the order of opening

	ctx    context.Context // of all requests
	cancel context.CancelFunc
	active atomic.Int64 // requests being answered
	mu     sync.Mutex
	used   time.Time // when the last request ended
}

// start is how an engine is started.
type start struct {
	onDemand      bool // by a command, which wants no network service
	resetPassword bool // of the user admin
	processors    int
}

// open brings an engine up as far as its socket. After an error nothing is left.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger, how start) (_ *engine, err error) {
	e := &engine{cfg: cfg, log: log, onDemand: how.onDemand, processors: how.processors, used: time.Now()}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
		}
	}()
	if len(cfg.StateDir) > client.MaxStateDir {
		return nil, fmt.Errorf("state_dir %s: longer than %d characters, too long for the sockets below it", cfg.StateDir, client.MaxStateDir)
	}
	if err := e.claim(); err != nil {
		return nil, err
	}
	if err := e.openManager(ctx); err != nil {
		return nil, err
	}
	if cfg.API.Listen != "" && !how.onDemand {
		if e.service, err = openService(ctx, e, how.resetPassword); err != nil {
			return nil, err
		}
	}
	return e, e.listen()
}

// claim makes this process the state directory's one engine.
func (e *engine) claim() error {
	if err := os.MkdirAll(e.cfg.StateDir, 0o711); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	f, err := os.OpenFile(e.path(client.LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open the state directory: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) && !e.onDemand {
		err = takeOver(f)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.Join(errRunning, f.Close())
	}
	if err == nil {
		err = sign(f, e.onDemand)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock the state directory: %w", err), f.Close())
	}
	e.onClose(f.Close)
	return nil
}

// onDemandMark stands in the lock file, after the process id, of an engine that a
// command has started.
const onDemandMark = " on demand"

// sign says in the lock file who has it.
func sign(f *os.File, onDemand bool) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	text := strconv.Itoa(os.Getpid())
	if onDemand {
		text += onDemandMark
	}
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// takeOver ends the engine that has the lock file f, where a command has started
// it, and gets the lock. Its servers run on. The error is EWOULDBLOCK where another
// engine stays.
func takeOver(f *os.File) error {
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSuffix(string(text), onDemandMark))
	if err != nil || !strings.HasSuffix(string(text), onDemandMark) {
		return unix.EWOULDBLOCK
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	for limit := time.Now().Add(2 * shutdownTime); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(limit) {
			return err
		}
	}
}

func (e *engine) path(name string) string { return filepath.Join(e.cfg.StateDir, name) }

func (e *engine) onClose(f func() error) { e.closers = append(e.closers, f) }

func (e *engine) openManager(ctx context.Context) error {
	cfg := e.cfg
	layers, err := rootfs.Open(ctx, rootfs.Config{
		Dir: e.path("rootfs"), Log: e.log, Processors: e.processors,
		Limits: rootfs.Limits{Bytes: int64(cfg.Images.MaxUnpacked), Inodes: cfg.Images.MaxInodes, Memory: int64(cfg.Images.MaxMemory)},
	})
	if err != nil {
		return err
	}
	if e.cloud, err = cloud.Open(cfg, "slipway/"+version); err != nil {
		return err
	}
	pulled, err := images.Open(images.Config{
		Dir: e.path("images"), Log: e.log,
		Insecure: cfg.Images.InsecureRegistries, Mirrors: cfg.Images.Mirrors, CAFiles: cfg.Images.CAFiles,
		Glance: e.cloud.Glance(cfg.Image),
	})
	if err != nil {
		return err
	}
	e.onClose(layers.Close)
	if e.kernels, err = guest.OpenKernels(e.path("kernels")); err != nil {
		return err
	}
	e.kernels.Prefer(cfg.Boot.Kernel)
	initPath, err := program("slipway-init")
	if err != nil {
		return err
	}
	configure, err := program("slipway-configure")
	if err != nil {
		return err
	}
	if e.store, err = store.Open(ctx, e.path("slipway.db")); err != nil {
		return err
	}
	e.onClose(e.store.Close)
	answers, err := e.openNetworks(ctx)
	if err != nil {
		return err
	}
	happened, err := events.Open(e.path("events.log"))
	if err != nil {
		return err
	}
	e.onClose(happened.Close)
	prefix := domainPrefix(cfg)
	e.virt, err = virt.Open(virt.Config{URI: cfg.Libvirt.URI, Root: e.path("libvirt"), Prefix: prefix, Log: e.log})
	if err != nil {
		return err
	}
	e.onClose(e.virt.Close)
	here := host.New(host.Config{
		Memo: e.path("host.json"), Accel: cfg.Libvirt.Accel,
		Kernels: e.kernels, Init: initPath, Log: e.log,
	})
	var networks launcher.Networks
	if !rootless() {
		networks = e.networks // else nothing of the host's can be changed
	}
	e.manager, err = launcher.New(ctx, launcher.Config{
		Dir: e.path("servers"), Images: pulled, Roots: layers, Kernels: e.kernels,
		Hypervisor: e.virt, DomainPrefix: prefix, Store: e.store, Host: here, Init: initPath, Configure: configure,
		Flavors: flavors(cfg), DefaultFlavor: cfg.Boot.Flavor,
		RootMode: cfg.Boot.Root, Rootless: rootless(), MaxImages: int64(cfg.Images.MaxStore),
		Networks: networks, HostUser: e.hostUser, BaseVMImage: cfg.Boot.BaseVM,
		Events:       happened,
		OutputLimit:  output.Limit{Bytes: int64(cfg.Logs.MaxSize), Files: int(cfg.Logs.MaxFiles)},
		ConsoleLimit: int64(cfg.Logs.MaxConsole),
		BootTimeout:  cfg.Boot.Timeout, StopGrace: cfg.Boot.StopGrace, Standby: int(cfg.Boot.Standby), Log: e.log,
	})
	if err != nil {
		return err
	}
	e.onClose(e.manager.Close)
	answers.Connect(e.manager)
	e.server = &http.Server{
		Handler:           e.counted(api.New(e.manager, e.networks, e.kernels, e.info, e.log)),
		BaseContext:       func(net.Listener) context.Context { return e.ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	return nil
}

// rootless reports whether an ordinary user runs the engine.
func rootless() bool { return os.Geteuid() != 0 }

// program finds one of the guest's programs beside this one.
func program(name string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	p := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(p); err != nil {
		return "", fmt.Errorf("%s is not beside slipwayd: %w", name, err)
	}
	return p, nil
}

// domainPrefix begins the names of our domains. On a libvirt that others use too,
// it must tell the servers of this state directory from those of another.
func domainPrefix(cfg *config.Config) string {
	if cfg.Libvirt.URI == virt.EmbedURI {
		return "slipway-"
	}
	return "slipway-" + identityOf(cfg) + "-"
}

// identityOf tells what this state directory has on the host from what others have.
func identityOf(cfg *config.Config) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(cfg.StateDir))
	return fmt.Sprintf("%08x", h.Sum32())
}

func flavors(cfg *config.Config) []launcher.Flavor {
	var list []launcher.Flavor
	for _, f := range cfg.Flavors {
		list = append(list, launcher.Flavor{Name: f.Name, VCPUs: f.VCPUs, Memory: int64(f.Memory), Disk: int64(f.Disk)})
	}
	return list
}

// listen opens the socket. Only its owner can connect, and is asked who he is
// all the same: the directory may be open to others.
func (e *engine) listen() error {
	path := e.path(client.SocketFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	old := unix.Umask(0o177)
	l, err := new(net.ListenConfig).Listen(e.ctx, "unix", path)
	unix.Umask(old)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	unixListener := l.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false) // by then the path may be the next engine's
	e.socket = ownerOnly{unixListener}
	return nil
}

// ownerOnly is a listener that accepts processes of this user only.
type ownerOnly struct{ *net.UnixListener }

func (l ownerOnly) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peer(conn); err == nil && uid == os.Geteuid() {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func peer(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(cerr, err); err != nil {
		return 0, err
	}
	return int(cred.Uid), nil
}

// counted notes when the engine is in use.
func (e *engine) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.active.Add(1)
		defer func() {
			e.mu.Lock()
			e.used = time.Now()
			e.mu.Unlock()
			e.active.Add(-1)
		}()
		h.ServeHTTP(w, r)
	})
}

// serve answers until ctx ends or nothing has happened for the idle time, 0 being
// for ever.
func (e *engine) serve(ctx context.Context, idle time.Duration) error {
	e.log.Info("engine ready", "version", version, "state_dir", e.cfg.StateDir, "pid", os.Getpid())
	warmed := make(chan struct{})
	go func() {
		defer close(warmed)
		// What the first domain would wait for is learnt while its image is fetched.
		if err := e.virt.Warm(); err != nil {
			e.log.Warn("libvirt knows no QEMU", "err", err)
		}
	}()
	// The QEMU that is asked would outlive us.
	defer func() { <-warmed }()
	failed := make(chan error, 3)
	go func() { failed <- e.server.Serve(e.socket) }()
	if e.service != nil {
		idle = 0
		go func() { failed <- e.service.serve() }()
		go e.service.metrics.watch(e.ctx)
	}
	tellSystemd(e.log, daemon.SdNotifyReady)
	go feedWatchdog(e.ctx, e.log, e.healthy)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case err := <-e.virt.Lost():
			// What happened to servers meanwhile is for the next start to find out.
			return err
		case <-ctx.Done():
			e.log.Info("engine ending")
			return nil
		case <-tick.C:
		}
		if idle == 0 || !e.idleFor(idle) {
			continue
		}
		// Out of sight first: who connected just before is still served.
		if err := os.Remove(e.path(client.SocketFile)); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
		if e.idleFor(idle) {
			e.log.Info("engine ending: nothing to do", "idle", idle)
			return nil
		}
		if err := e.listen(); err != nil {
			return err
		}
		go func() { failed <- e.server.Serve(e.socket) }()
	}
}

// idleFor reports whether nothing has run and nobody has asked for that long.
func (e *engine) idleFor(idle time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.active.Load() > 0 || e.manager.Busy() {
		e.used = time.Now()
	}
	return time.Since(e.used) >= idle
}

// close ends the engine. Servers run on. The socket goes first, so that a client
// that comes now starts an engine of its own, which waits for our lock.
func (e *engine) close() error {
	var errs []error
	tellSystemd(e.log, daemon.SdNotifyStopping)
	if e.service != nil {
		errs = append(errs, e.service.close())
	}
	if e.socket != nil {
		_ = os.Remove(e.path(client.SocketFile))
		e.cancel() // who follows something is let go
		ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
		errs = append(errs, ignoreTimeout(e.server.Shutdown(ctx)))
		cancel()
	}
	for _, f := range slices.Backward(e.closers) {
		errs = append(errs, f())
	}
	e.cancel()
	return errors.Join(errs...)
}

// ignoreTimeout: a request that does not end is no reason for the engine to fail.
func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

func (e *engine) info(context.Context) api.Info {
	info := api.Info{Version: version, PID: os.Getpid(), StateDir: e.cfg.StateDir, URI: e.cfg.Libvirt.URI, Standby: e.manager.Standby()}
	info.Libvirt, info.QEMU, _ = e.virt.Version()
	return info
}
