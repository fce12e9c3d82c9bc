package launcher

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/images/glance"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/launcher/output"
	"github.com/slipway-vm/slipway/rootfs"
)

// Config is what a Manager works with.
type Config struct {
	// Dir holds one directory for each server.
	Dir        string
	Images     *images.Store
	Roots      *rootfs.Store
	Kernels    Kernels
	Hypervisor Hypervisor
	// DomainPrefix begins the names of our domains on the hypervisor, and of no
	// others; the server's ID follows it.
	DomainPrefix string
	Store        Store
	// Standby is how many guests are kept that have booted for servers yet to come.
	Standby int
	// Host says how guests run on this host.
	Host Host
	// Init is the path of slipway-init, Configure that of slipway-configure.
	Init, Configure string
	// Flavors are the sizes that servers may have; DefaultFlavor names one.
	Flavors       []Flavor
	DefaultFlavor string
	// RootMode is for servers that do not say; empty means virtiofs.
	RootMode string
	// Rootless says that nothing of the host's can be changed: servers need the root
	// mode block, and have neither volumes nor networks.
	Rootless bool
	// BaseVMImage is for servers that do not say; see Spec.
	BaseVMImage string
	// MaxImages is how many bytes layer images may take before those that were used
	// least recently, and by no server, are removed; 0: any number.
	MaxImages int64
	// BootTimeout is how long a guest may take from its domain's start to its
	// entrypoint's; 0 means two minutes.
	BootTimeout time.Duration
	// OutputLimit bounds the output log of servers that do not say.
	OutputLimit output.Limit
	// ConsoleLimit is how many bytes a console log may take; 0: any number.
	ConsoleLimit int64
	// Networks gives servers their interfaces; where it is nil they have none but
	// HostUser's, which may be nil too.
	Networks Networks
	HostUser HostUser
	// Events is told what happens to servers; nil is told nothing.
	Events *events.Log
	// BuildTimeout is how long all of a boot may take, pulls included; 0 means an hour.
	BuildTimeout time.Duration
	// MaxBoots is how many guests boot at once, MaxBuilds how many roots are made at
	// once; more wait for their turn. 0 means twice the number of processors, but
	// four at least.
	MaxBoots, MaxBuilds int
	// KeepDeleted is how long the records of projects' deleted servers are kept; 0
	// means a day.
	KeepDeleted time.Duration
	// StopGrace is for servers that do not say; 0 means guest.DefaultGrace.
	StopGrace time.Duration
	Log       *slog.Logger
}

// Kernels are the guest kernels at hand; *guest.KernelStore is one.
type Kernels interface {
	// Lookup finds a kernel by name, digest or file; empty means the default. The
	// error matches guest.ErrKernelNotFound where there is none.
	Lookup(ctx context.Context, ref string) (guest.Kernel, error)
	// Initramfs makes what a kernel starts with, and returns its path.
	Initramfs(ctx context.Context, k guest.Kernel, init string) (string, error)
}

// Host decides what the guests of this host run on.
type Host interface {
	// Accelerator says what runs guests of a kernel, after trying it where that
	// has not been done.
	Accelerator(ctx context.Context, k guest.Kernel) (guest.Accel, error)
	// TSCKHz is the frequency of the time-stamp counter in kHz, 0 if unknown.
	TSCKHz() int
	// MemoryFree is how much memory could be had without swapping, in bytes.
	MemoryFree() (int64, error)
	// Virtiofsd is the path of virtiofsd, or an error that says what to install.
	Virtiofsd() (string, error)
	// Emulator is the path of QEMU, or an error that says what to install.
	Emulator() (string, error)
}

// Manager owns the servers of a state directory.
type Manager struct {
	cfg Config
	log *slog.Logger

	// ctx ends when the manager is closed; its cause tells runs to let their
	// servers go on.
	ctx    context.Context
	cancel context.CancelCauseFunc
	runs   sync.WaitGroup
	boots  slots
	builds slots

	standbys *standbys

	mu      sync.Mutex
	servers map[string]*instance
	// deleted servers are still told of for a while.
	deleted map[string]*instance
	closed  bool
}

// The causes with which a run is cancelled.
var (
	errDetached = errors.New("the engine is ending")
	errDeleted  = errors.New("the server is being deleted")
)

// New opens the servers of cfg.Dir and brings records and hypervisor together:
// servers that run go on, half-made ones are undone, what has no record is removed.
func New(ctx context.Context, cfg Config) (*Manager, error) {
	m := &Manager{cfg: cfg, log: cfg.Log, servers: map[string]*instance{}, deleted: map[string]*instance{}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.cfg.BootTimeout == 0 {
		m.cfg.BootTimeout = 2 * time.Minute
	}
	if m.cfg.StopGrace == 0 {
		m.cfg.StopGrace = guest.DefaultGrace
	}
	if m.cfg.BuildTimeout == 0 {
		m.cfg.BuildTimeout = time.Hour
	}
	if m.cfg.KeepDeleted == 0 {
		m.cfg.KeepDeleted = 24 * time.Hour
	}
	m.boots, m.builds = newSlots(cfg.MaxBoots), newSlots(cfg.MaxBuilds)
	m.standbys = newStandbys(m, cfg.Standby)
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("make servers' directory: %w", err)
	}
	m.ctx, m.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	cfg.Hypervisor.Watch(m.domainEvent)
	if err := m.reconcile(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// Close lets go of all servers, which run on, and waits for the work on them to
// come to a rest.
func (m *Manager) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.standbys.close()
	m.cancel(errDetached)
	m.runs.Wait()
	m.standbys.endAll()
	var errs []error
	for _, i := range m.all() {
		errs = append(errs, i.log.Close())
	}
	return errors.Join(errs...)
}

// Busy reports whether a server runs or is about to.
func (m *Manager) Busy() bool {
	for _, i := range m.all() {
		if srv, _ := i.snapshot(); !srv.settled() {
			return true
		}
	}
	return false
}

func (m *Manager) all() []*instance {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*instance, 0, len(m.servers))
	for _, i := range m.servers {
		all = append(all, i)
	}
	return all
}

// Servers returns all servers, oldest first.
func (m *Manager) Servers() []Server {
	return sorted(m.all())
}

// Each yields all servers, in no order and without copying them: they must be neither
// kept nor changed.
func (m *Manager) Each(yield func(*Server) bool) {
	for _, i := range m.all() {
		i.mu.Lock()
		more := yield(&i.srv)
		i.mu.Unlock()
		if !more {
			return
		}
	}
}

// Deleted returns the deleted servers of projects, oldest first, for as long as
// their records are kept.
func (m *Manager) Deleted() []Server {
	m.mu.Lock()
	var all []*instance
	for _, i := range m.deleted {
		if i.srv.Project != "" { // the owner never changes
			all = append(all, i)
		}
	}
	m.mu.Unlock()
	return sorted(all)
}

func sorted(all []*instance) []Server {
	list := make([]Server, len(all))
	order := make([]*Server, len(all)) // servers are large: sorting moves these instead
	for n, i := range all {
		list[n], _ = i.snapshot()
		order[n] = &list[n]
	}
	slices.SortFunc(order, func(a, b *Server) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	inOrder := make([]Server, len(all))
	for n, s := range order {
		inOrder[n] = *s
	}
	return inOrder
}

// find returns the server that ref names: an ID, a name, or the beginning of an
// ID of at least four characters.
func (m *Manager) find(ref string) (*instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i, ok := m.servers[ref]; ok {
		return i, nil
	}
	if isServerID(ref) {
		return nil, errorf(ErrNotFound, "no server with an ID of %q exists", ref)
	}
	var named, begun []*instance
	for id, i := range m.servers {
		i.mu.Lock()
		if i.srv.Name == ref {
			named = append(named, i)
		}
		i.mu.Unlock()
		if len(ref) >= 4 && strings.HasPrefix(id, ref) {
			begun = append(begun, i)
		}
	}
	found := named
	if len(found) == 0 {
		found = begun
	}
	switch len(found) {
	case 0:
		return nil, errorf(ErrNotFound, "no server with a name or ID of %q exists", ref)
	case 1:
		return found[0], nil
	}
	return nil, errorf(ErrConflict, "more than one server has the name or ID %q: use a whole ID", ref)
}

// Server returns the server that ref names; see [Manager.Servers] for all.
func (m *Manager) Server(ref string) (Server, error) {
	i, err := m.find(ref)
	if err != nil {
		return Server{}, err
	}
	srv, _ := i.snapshot()
	return srv, nil
}

// deletedTime is how long a deleted server of the local socket can be watched: one
// that fails at once is gone before whoever has created it asks how it does.
const deletedTime = time.Minute

// forget takes a server that has been deleted from the others. The record of a
// project's is kept for a while.
func (m *Manager) forget(i *instance, project bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.servers, i.id)
	m.deleted[i.id] = i
	keep := deletedTime
	if project {
		keep = time.Until(i.srv.Terminated.Add(m.cfg.KeepDeleted))
	}
	time.AfterFunc(keep, func() {
		m.mu.Lock()
		delete(m.deleted, i.id)
		closed := m.closed
		m.mu.Unlock()
		if !project || closed {
			return
		}
		if err := m.cfg.Store.Remove(m.ctx, i.id); err != nil {
			m.log.Error("record of a deleted server not removed", "server", i.id, "err", err)
		}
	})
}

// findDeleted is find for those that were deleted lately as well, by ID.
func (m *Manager) findDeleted(ref string) (*instance, error) {
	m.mu.Lock()
	i, ok := m.deleted[ref]
	m.mu.Unlock()
	if ok {
		return i, nil
	}
	return m.find(ref)
}

// Watch calls emit with the server as it is and after each change, until it has
// been deleted, emit fails, or ctx ends. Changes in quick succession come as one.
func (m *Manager) Watch(ctx context.Context, ref string, emit func(Server) error) error {
	i, err := m.findDeleted(ref)
	if err != nil {
		return err
	}
	for {
		srv, changed := i.snapshot()
		if err := emit(srv); err != nil || srv.VMState == VMDeleted {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Output reads what the server's entrypoint has written; see [output.Log.Read].
// Begun while the server exists, it goes on to the end even if the server is
// deleted meanwhile.
func (m *Manager) Output(ctx context.Context, ref string, q output.Query, emit func(output.Record) error) error {
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	return i.log.Read(ctx, q, emit)
}

// Create records a new server and begins to boot it. The error is for what can be
// known at once; what comes later is in the server's Fault. Without credentials the
// engine's own are used.
func (m *Manager) Create(ctx context.Context, spec Spec, auth *Credentials) (Server, error) {
	if spec.Name != "" {
		if err := checkLocalName(spec.Name); err != nil {
			return Server{}, err
		}
	}
	return m.create(ctx, Server{Spec: spec}, auth)
}

// NewServer is a server that a project asks for.
type NewServer struct {
	Spec
	Details
	Project, User, Group string
	// Credentials are for the image's registry; nil: the engine's own.
	Credentials *Credentials
	// NoHost, where it is not empty, is why the server can run nowhere: it is made in
	// VMError and not booted.
	NoHost string
}

// CreateFor is Create for a project.
func (m *Manager) CreateFor(ctx context.Context, n NewServer) (Server, error) {
	srv := Server{Spec: n.Spec, Details: n.Details, Project: n.Project, User: n.User, Group: n.Group}
	if n.NoHost != "" {
		srv.VMState, srv.Fault, srv.FaultCode, srv.FaultAt = VMError, n.NoHost, codeSlipway, time.Now().UTC()
	}
	// Glance is asked for its image in the name of whoever asks for the server.
	auth := n.Credentials
	if caller, ok := glance.CallerOf(ctx); ok {
		if auth == nil {
			auth = &Credentials{}
		}
		auth.Glance = &caller
	}
	return m.create(ctx, srv, auth)
}

func (m *Manager) create(ctx context.Context, srv Server, auth *Credentials) (Server, error) {
	if err := srv.Spec.validate(); err != nil {
		return Server{}, err
	}
	flavor, err := srv.Spec.flavor(m.cfg.Flavors, m.cfg.DefaultFlavor)
	if err != nil {
		return Server{}, err
	}
	srv.ID, srv.Flavor = newID(), flavor
	if data := srv.Spec.CloudInit; len(data) > 0 {
		srv.UserData, srv.Spec.CloudInit = base64.StdEncoding.EncodeToString(data), nil
	}
	srv.ConfigDrive = srv.ConfigDrive || srv.Spec.WithConfigDrive
	srv.Name = first(srv.Spec.Name, defaultName(srv.Spec.Image))
	srv.RootMode = m.rootMode(&srv.Spec)
	m.chooseNetwork(ctx, &srv.Spec)
	if err := m.permitted(srv.RootMode, &srv.Spec); err != nil {
		return Server{}, err
	}
	if srv.Spec.hostUser() {
		if err := m.hostUserReady(ctx); err != nil {
			return Server{}, err
		}
	}
	srv.Spec.BaseVMImage = first(srv.Spec.BaseVMImage, m.cfg.BaseVMImage)
	if err := srv.validateBase(); err != nil {
		return Server{}, err
	}
	srv.Created = time.Now().UTC()
	srv.Updated = srv.Created
	standby := m.standbys.take(&srv)
	if standby != nil {
		srv.ID, srv.Standby = standby.id, true
	}
	i, err := m.add(srv)
	if err != nil {
		return Server{}, errors.Join(err, m.endStandby(context.WithoutCancel(ctx), standby))
	}
	i.auth, i.standby = auth, standby
	if err := m.allocate(ctx, i); err != nil {
		return Server{}, errors.Join(err, m.endStandby(context.WithoutCancel(ctx), standby), m.drop(i))
	}
	m.happened(i, events.Create, nil)
	if err := m.firstStart(ctx, i, newAction(ctx, srv.ID, ActionCreate)); err != nil {
		ctx := context.WithoutCancel(ctx)
		return Server{}, errors.Join(err, m.endStandby(ctx, standby), m.release(ctx, i), m.drop(i))
	}
	srv, _ = i.snapshot()
	return srv, nil
}

// firstStart saves the first record of a server and boots it, unless it is in error
// from the start.
func (m *Manager) firstStart(ctx context.Context, i *instance, begun *ActionRecord) error {
	srv, _ := i.snapshot()
	if srv.VMState != VMError {
		return m.startChanged(ctx, i, TaskScheduling, begun, func(s *Server) error {
			s.VMState = VMBuilding
			return nil
		})
	}
	i.log.End()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failure = srv.Fault
	i.doing = begun
	return i.save(ctx, m.cfg.Store, &srv, nil)
}

// add makes a server's directory and gives it a place among the others.
func (m *Manager) add(srv Server) (*instance, error) {
	dir := filepath.Join(m.cfg.Dir, srv.ID)
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("make the server's directory: %w", err)
	}
	log, err := output.Open(filepath.Join(dir, outputFile), srv.Spec.outputLimit(m.cfg.OutputLimit))
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	i := &instance{id: srv.ID, dir: dir, log: log, srv: srv, changed: make(chan struct{}), disk: newDisk()}
	i.ctx, i.cancelAll = context.WithCancelCause(m.ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.Join(errorf(ErrUnavailable, "the engine is ending"), log.Close(), os.RemoveAll(dir))
	}
	m.servers[srv.ID] = i
	return i, nil
}

// drop takes back what add made.
func (m *Manager) drop(i *instance) error {
	m.mu.Lock()
	delete(m.servers, i.id)
	m.mu.Unlock()
	return errors.Join(i.log.Close(), os.RemoveAll(i.dir))
}

// domainEvent notes what the hypervisor says, and passes the end of a domain to the
// run of its server.
func (m *Manager) domainEvent(e DomainEvent) {
	id := strings.TrimPrefix(e.Domain, m.cfg.DomainPrefix)
	if e.State != PowerRunning && e.State != PowerPaused && m.standbys.ended(id) {
		return
	}
	m.mu.Lock()
	i := m.servers[id]
	m.mu.Unlock()
	if i == nil {
		return
	}
	i.mu.Lock()
	r := i.run
	i.mu.Unlock()
	switch {
	case r == nil || e.State == PowerPaused:
	case e.State == PowerRunning:
		r.up.Store(true)
		r.wentOn()
	case !r.up.Load():
		return
	default:
		r.domainGone(e.State == PowerCrashed)
	}
	i.set(func(s *Server) { s.Power = e.State })
}
