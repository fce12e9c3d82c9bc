// Package virt runs domains through libvirt. It is the only importer of the cgo
// binding, and binding errors go no further than here.
//
// Domains are transient: libvirt forgets one when it ends, so an ended domain
// leaves nothing to undefine. With a URI of qemu:///embed the QEMU driver runs
// inside this process; its domains outlive the process, and the next process on
// the same root finds them again.
package virt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// EmbedURI is the QEMU driver inside this process.
const EmbedURI = "qemu:///embed"

// keepAlive is how often the event loop turns when nothing happens, so that it
// notices the end of its process.
const keepAlive = time.Second

// Config says which libvirt to use.
type Config struct {
	// URI is a libvirt connection URI; EmbedURI, without a root, where empty.
	URI string
	// Root is the directory of an embedded driver: its configuration, its
	// capability cache and its sockets.
	Root string
	// Prefix begins the name of every domain that is ours on the connection.
	Prefix string
	Log    *slog.Logger
}

// Hypervisor is a libvirt connection. It implements launcher.Hypervisor.
type Hypervisor struct {
	conn   *libvirt.Connect
	root   string // of an embedded driver, else empty
	prefix string
	log    *slog.Logger
	lost   chan error

	mu       sync.Mutex
	watchers []func(launcher.DomainEvent)
	// memory is where guests have theirs that share it; nil, in a memfd.
	memory *os.File
}

// qemuConf is the embedded driver's qemu.conf. The guests' files are ours and
// keep their owner; control groups and mount namespaces of libvirt's own need a
// systemd or a /dev that many hosts of containers do not have.
const qemuConf = `# Written by slipwayd at every start.
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
`

// asRoot is what comes to it where we are root. Else guests run as who we are.
const asRoot = `user = "root"
group = "root"
`

var startLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	// A timer keeps the loop turning; the loop itself never ends.
	if _, err := libvirt.EventAddTimeout(int(keepAlive.Milliseconds()), func(int) {}); err != nil {
		return err
	}
	go func() {
		for {
			if err := libvirt.EventRunDefaultImpl(); err != nil {
				time.Sleep(keepAlive)
			}
		}
	}()
	return nil
})

// Open connects to libvirt. The error matches launcher.ErrUnavailable and says
// what to install where a driver is missing.
func Open(cfg Config) (*Hypervisor, error) {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	uri, root := cfg.URI, ""
	if uri == "" {
		uri = EmbedURI
	}
	if uri == EmbedURI {
		if err := writeConf(cfg.Root); err != nil {
			return nil, err
		}
		if err := clearOrphans(cfg.Root); err != nil {
			return nil, err
		}
		uri += "?root=" + cfg.Root
		root = cfg.Root
		if err := reapDaemons(); err != nil {
			return nil, err
		}
	}
	quiet()
	if err := startLoop(); err != nil {
		return nil, fmt.Errorf("start libvirt's event loop: %w", err)
	}
	conn, err := libvirt.NewConnect(uri)
	if err != nil {
		return nil, fmt.Errorf("connect to libvirt at %s: %w", uri, explain(err))
	}
	h := &Hypervisor{conn: conn, root: root, prefix: cfg.Prefix, log: log, lost: make(chan error, 1)}
	if err := h.watchConnection(uri); err != nil {
		_, cerr := conn.Close()
		return nil, errors.Join(err, cerr)
	}
	if _, err := conn.DomainEventLifecycleRegister(nil, h.lifecycle); err != nil {
		_, cerr := conn.Close()
		return nil, errors.Join(fmt.Errorf("watch libvirt's domains: %w", err), cerr)
	}
	h.settle()
	if err := h.sweep(); err != nil {
		_, cerr := conn.Close()
		return nil, errors.Join(err, cerr)
	}
	if root != "" && os.Geteuid() == 0 {
		if h.memory, err = sharedMemory(); err != nil {
			log.Warn("guests' memory is in small pages", "err", err)
		}
	}
	return h, nil
}

// watchConnection has Lost tell of the connection's end. Only one to a daemon can end.
func (h *Hypervisor) watchConnection(uri string) error {
	err := h.conn.RegisterCloseCallback(func(*libvirt.Connect, libvirt.ConnectCloseReason) {
		h.lost <- fmt.Errorf("%w: libvirt at %s has ended the connection", launcher.ErrUnavailable, uri)
	})
	if err != nil {
		return fmt.Errorf("watch the connection to libvirt: %w", explain(err))
	}
	// Without support for it there is nothing that could die silently.
	if err := h.conn.SetKeepAlive(5, 3); err != nil && !errors.Is(err, libvirt.ERR_NO_SUPPORT) {
		return fmt.Errorf("watch the connection to libvirt: %w", explain(err))
	}
	return nil
}

// Lost tells when libvirt has gone, as its daemon does that is restarted. Domains run
// on, but what happens to them from then on is not told: a new Hypervisor finds out.
func (h *Hypervisor) Lost() <-chan error { return h.lost }

// quiet keeps libvirt's warnings (a tainted domain, a disabled security driver)
// off our standard error; its errors reach us as errors.
func quiet() {
	const onlyErrors = "4"
	_ = os.Setenv("LIBVIRT_DEBUG", onlyErrors)
}

// settleTime bounds how long settle waits for a QEMU that does not answer.
const settleTime = 5 * time.Second

// settle waits until libvirt has found its domains again, which it does in the
// background. One whose QEMU is gone, or goes meanwhile, would be listed until
// then and vanish without an event.
func (h *Hypervisor) settle() {
	doms, err := h.conn.ListAllDomains(0)
	if err != nil {
		return // whoever lists next will hear of it
	}
	settled := make(chan struct{}, len(doms))
	for _, dom := range doms {
		go func() {
			// Any query will do that has to wait for its turn.
			_, _ = dom.MemoryStats(1, 0)
			_ = dom.Free()
			settled <- struct{}{}
		}()
	}
	limit := time.After(settleTime)
	for range doms {
		select {
		case <-settled:
		case <-limit:
			return
		}
	}
}

// sweep forgets the domains that ended while no process watched.
func (h *Hypervisor) sweep() error {
	doms, err := h.Domains(context.Background())
	if err != nil || h.root == "" {
		return err
	}
	logs, _ := filepath.Glob(filepath.Join(h.root, "log/qemu", h.prefix+"*.log"))
	for _, f := range logs {
		name := strings.TrimSuffix(filepath.Base(f), ".log")
		name, _, _ = strings.Cut(name, "-fs0-")
		if _, runs := doms[name]; !runs {
			_ = os.Remove(f)
		}
	}
	return nil
}

// Warm makes libvirt learn what QEMU can do, which the first domain of a new root
// would otherwise wait seconds for.
func (h *Hypervisor) Warm() error {
	_, err := h.conn.GetDomainCapabilities("", "x86_64", string(guest.MachineMicroVM), "qemu", 0)
	if err != nil {
		return explain(err)
	}
	return nil
}

func writeConf(root string) error {
	if !filepath.IsAbs(root) {
		return fmt.Errorf("libvirt's root %q is not an absolute path", root)
	}
	dir := filepath.Join(root, "etc")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	conf := qemuConf
	if os.Geteuid() == 0 {
		conf += asRoot
	}
	return os.WriteFile(filepath.Join(dir, "qemu.conf"), []byte(conf), 0o600)
}

// Close closes the connection. Running domains go on.
func (h *Hypervisor) Close() error {
	h.giveUpMemory()                     // guests keep theirs
	_ = h.conn.UnregisterCloseCallback() // there is none after the connection was lost
	_, err := h.conn.Close()
	return err
}

// Version describes libvirt and the hypervisor behind it, as "9.0.0" and "7.2.22".
func (h *Hypervisor) Version() (lib, hypervisor string, err error) {
	l, err := h.conn.GetLibVersion()
	if err != nil {
		return "", "", explain(err)
	}
	v, err := h.conn.GetVersion()
	if err != nil {
		return dotted(uint64(l)), "", explain(err)
	}
	return dotted(uint64(l)), dotted(uint64(v)), nil
}

// HypervisorVersion is QEMU's version as libvirt counts: 7002000 is 7.2.0.
func (h *Hypervisor) HypervisorVersion() (int, error) {
	v, err := h.conn.GetVersion()
	return int(v), explain(err)
}

func dotted(v uint64) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}

// Start creates and starts a domain. On an error nothing of it runs.
func (h *Hypervisor) Start(_ context.Context, spec domain.Spec) error {
	spec.MemoryDir = h.memoryDir()
	err := h.create(spec)
	if err != nil && spec.MemoryDir != "" && strings.Contains(err.Error(), spec.MemoryDir) {
		// A QEMU with fewer rights than ours cannot open it.
		h.log.Warn("guests' memory is in small pages from now on", "err", err)
		h.giveUpMemory()
		spec.MemoryDir = ""
		err = h.create(spec)
	}
	return err
}

func (h *Hypervisor) create(spec domain.Spec) error {
	xml, err := spec.XML()
	if err != nil {
		return err
	}
	dom, err := h.conn.DomainCreateXML(xml, 0)
	if err != nil {
		h.forget(spec.Name)
		return fmt.Errorf("start domain %s: %w", spec.Name, explain(err))
	}
	return dom.Free()
}

// Destroy ends a domain at once, as by pulling its plug. A domain that is not
// there is no error.
func (h *Hypervisor) Destroy(_ context.Context, name string) error {
	dom, err := h.conn.LookupDomainByName(name)
	if errors.Is(err, libvirt.ERR_NO_DOMAIN) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find domain %s: %w", name, explain(err))
	}
	defer func() { _ = dom.Free() }()
	err = dom.Destroy()
	if err != nil && !errors.Is(err, libvirt.ERR_NO_DOMAIN) && !errors.Is(err, libvirt.ERR_OPERATION_INVALID) {
		return fmt.Errorf("destroy domain %s: %w", name, explain(err))
	}
	h.forget(name)
	return nil
}

// SetTitle implements launcher.Titler.
func (h *Hypervisor) SetTitle(_ context.Context, name, title string) error {
	return h.with(name, "entitle", func(dom *libvirt.Domain) error {
		return dom.SetMetadata(libvirt.DOMAIN_METADATA_TITLE, title, "", "", libvirt.DOMAIN_AFFECT_LIVE)
	})
}

// Pause implements launcher.Pauser.
func (h *Hypervisor) Pause(_ context.Context, name string) error {
	return h.with(name, "pause", (*libvirt.Domain).Suspend)
}

// Unpause implements launcher.Pauser.
func (h *Hypervisor) Unpause(_ context.Context, name string) error {
	return h.with(name, "unpause", (*libvirt.Domain).Resume)
}

func (h *Hypervisor) with(name, what string, do func(*libvirt.Domain) error) error {
	dom, err := h.conn.LookupDomainByName(name)
	if err != nil {
		return fmt.Errorf("%s domain %s: %w", what, name, explain(err))
	}
	defer func() { _ = dom.Free() }()
	if err := do(dom); err != nil {
		return fmt.Errorf("%s domain %s: %w", what, name, explain(err))
	}
	return nil
}

// Domains returns the power state of every domain of ours, by name.
func (h *Hypervisor) Domains(context.Context) (map[string]launcher.PowerState, error) {
	doms, err := h.conn.ListAllDomains(0)
	if err != nil {
		return nil, fmt.Errorf("list domains: %w", explain(err))
	}
	found := map[string]launcher.PowerState{}
	for _, dom := range doms {
		name, err := dom.GetName()
		if err == nil && strings.HasPrefix(name, h.prefix) {
			var state libvirt.DomainState
			if state, _, err = dom.GetState(); err == nil {
				found[name] = powerState(state)
			}
		}
		_ = dom.Free()
		if err != nil && !errors.Is(err, libvirt.ERR_NO_DOMAIN) {
			return nil, fmt.Errorf("list domains: %w", explain(err))
		}
	}
	return found, nil
}

func powerState(s libvirt.DomainState) launcher.PowerState {
	switch s {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED:
		return launcher.PowerRunning
	case libvirt.DOMAIN_PAUSED:
		return launcher.PowerPaused
	case libvirt.DOMAIN_SHUTDOWN, libvirt.DOMAIN_SHUTOFF:
		return launcher.PowerShutdown
	case libvirt.DOMAIN_CRASHED:
		return launcher.PowerCrashed
	case libvirt.DOMAIN_PMSUSPENDED:
		return launcher.PowerSuspended
	default:
		return launcher.PowerNone
	}
}

// Watch calls f, from one goroutine, whenever a domain of ours has started,
// been paused, gone on, or ended. It must not block and cannot be taken back.
func (h *Hypervisor) Watch(f func(launcher.DomainEvent)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers = append(h.watchers, f)
}

func (h *Hypervisor) lifecycle(_ *libvirt.Connect, dom *libvirt.Domain, ev *libvirt.DomainEventLifecycle) {
	name, err := dom.GetName()
	if err != nil || !strings.HasPrefix(name, h.prefix) {
		return
	}
	e := launcher.DomainEvent{Domain: name}
	switch ev.Event {
	case libvirt.DOMAIN_EVENT_STARTED, libvirt.DOMAIN_EVENT_RESUMED:
		e.State = launcher.PowerRunning
	case libvirt.DOMAIN_EVENT_SUSPENDED:
		e.State = launcher.PowerPaused
	case libvirt.DOMAIN_EVENT_STOPPED:
		e.State = launcher.PowerShutdown
		if r := libvirt.DomainEventStoppedDetailType(ev.Detail); r == libvirt.DOMAIN_EVENT_STOPPED_CRASHED ||
			r == libvirt.DOMAIN_EVENT_STOPPED_FAILED {
			e.State = launcher.PowerCrashed
		}
	case libvirt.DOMAIN_EVENT_CRASHED:
		e.State = launcher.PowerCrashed
	default:
		return
	}
	if e.State != launcher.PowerRunning && e.State != launcher.PowerPaused {
		if e.State == launcher.PowerCrashed {
			h.log.Warn("domain crashed", "domain", name, "qemu", h.lastWords(name))
		}
		h.forget(name)
	}
	h.mu.Lock()
	watchers := h.watchers
	h.mu.Unlock()
	for _, f := range watchers {
		f(e)
	}
}

// explain puts libvirt's error into the launcher's kinds and our user's words.
func explain(err error) error {
	var lerr libvirt.Error
	if !errors.As(err, &lerr) {
		return err
	}
	msg := lerr.Message
	switch {
	case strings.Contains(msg, "no connection driver"):
		return fmt.Errorf("%w: libvirt has no QEMU driver: install libvirt-daemon-driver-qemu", launcher.ErrUnavailable)
	case strings.Contains(msg, "Failed to parse user") || strings.Contains(msg, "Failed to parse group"):
		return fmt.Errorf("%w: libvirt's QEMU driver needs the user libvirt-qemu: run useradd --system --user-group libvirt-qemu", launcher.ErrUnavailable)
	case strings.Contains(msg, "Failed to acquire pid file"):
		return fmt.Errorf("%w: another process runs libvirt's driver there", launcher.ErrConflict)
	case errors.Is(err, libvirt.ERR_NO_DOMAIN):
		return launcher.ErrNotFound
	}
	return errors.New(msg)
}
