package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/launcher/domain"
	"github.com/slipway-vm/slipway/launcher/events"
	"github.com/slipway-vm/slipway/rootfs"
)

// The steps of a boot, as a spawning server shows them.
const (
	StepQueue   = "waiting for its turn"
	StepResolve = "resolving the image"
	StepFetch   = "fetching and unpacking"
	StepPush    = "uploading" // of a push, which is no part of a boot
	StepClone   = "cloning the root"
	StepProbe   = "finding out whether guests run under KVM"
	StepDefine  = "starting the guest"
	StepGuest   = "booting"
)

// build is spawn in its turn and its time.
func (r *run) build(ctx context.Context) error {
	limit := r.m.cfg.BuildTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the server was not ready to boot after %s", limit))
	defer cancel()
	err := r.spawn(ctx)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// take waits for the run's turn at one kind of work, and returns what ends it.
func (r *run) take(ctx context.Context, s slots) (func(), error) {
	release, err := s.take(ctx, func() { r.step(StepQueue) })
	if err == nil {
		r.i.set(func(s *Server) {
			if s.TaskState == TaskScheduling {
				s.TaskState = TaskSpawning
			}
		})
	}
	return release, err
}

// giveTurn lets the next server boot.
func (r *run) giveTurn() {
	if r.yield != nil {
		r.yield()
	}
}

// spawn boots the server's domain. What it made before a failure is taken back by
// the run.
func (r *run) spawn(ctx context.Context) error {
	if err := r.i.disk.settle(ctx); err != nil {
		return err
	}
	srv, _ := r.i.snapshot()
	kernel, err := r.m.kernel(ctx, &srv)
	if err != nil {
		return err
	}
	programs, err := r.m.programs(&srv)
	if err != nil {
		return err
	}
	process, err := r.root(ctx, &srv)
	if err != nil {
		return err
	}
	r.m.trim(ctx, nil)
	// Layer images that are disks are in use once the domain has opened them.
	release, err := r.m.cfg.Roots.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	cloned := time.Now()
	r.step(StepClone)
	plugged, err := r.plug(ctx, &srv, process)
	if err != nil {
		return err
	}
	furnish := r.furnish
	if srv.classic() {
		furnish = r.furnishClassic
	}
	disks, err := furnish(ctx, &srv, process, plugged.Config)
	if err != nil {
		return err
	}
	r.i.set(func(s *Server) { s.Timeline.Clone += time.Since(cloned) })
	spec, err := r.domainSpec(ctx, &srv, kernel, programs, disks)
	if err != nil {
		return err
	}
	spec.NICs = plugged.NICs
	r.standby = r.m.standbyKindOf(&srv, spec)
	r.step(StepDefine)
	begin := time.Now()
	adopted, err := r.adopt(ctx, spec)
	if err != nil {
		return err
	}
	err = r.i.update(ctx, r.m.cfg.Store, func(s *Server) {
		s.Standby = false
		s.Kernel, s.KernelID, s.Machine, s.Accel = kernel.Name, kernel.Digest, spec.Machine, spec.Accel
		if s.classic() {
			s.Kernel, s.KernelID = "", "" // its own
		}
	})
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if !adopted {
		if r.yield, err = r.take(ctx, r.m.boots); err != nil {
			return err
		}
		r.step(StepDefine)
		begin = time.Now()
		if err := r.m.cfg.Hypervisor.Start(ctx, spec); err != nil {
			return err
		}
	}
	r.defined = time.Now()
	r.i.set(func(s *Server) { s.Timeline.Define, s.Step = r.defined.Sub(begin), StepGuest })
	return nil
}

func (r *run) step(name string) { r.i.set(func(s *Server) { s.Step = name }) }

// programs are what a domain is run with.
type programs struct {
	emulator, virtiofsd string
	// share is how the share reaches the guest; empty, it does not.
	share guest.RootMode
}

// programs finds out, before any work is done in vain, whether the host has what
// the server's domain needs.
func (m *Manager) programs(srv *Server) (p programs, err error) {
	if p.emulator, err = m.cfg.Host.Emulator(); err != nil {
		return p, err
	}
	switch guest.RootMode(srv.RootMode) {
	case guest.RootVirtioFS:
		p.share = guest.RootVirtioFS
		p.virtiofsd, err = m.cfg.Host.Virtiofsd()
	case guest.Root9P:
		p.share = guest.Root9P
	case guest.RootBlock:
		if len(srv.Spec.Volumes) == 0 {
			break
		}
		p.share = guest.RootVirtioFS
		if found, err := m.cfg.Host.Virtiofsd(); err == nil {
			p.virtiofsd = found
		} else {
			p.share = guest.Root9P
		}
	}
	return p, err
}

// kernel finds the server's kernel and refuses a server too small for it.
func (m *Manager) kernel(ctx context.Context, srv *Server) (guest.Kernel, error) {
	k, err := m.cfg.Kernels.Lookup(ctx, srv.Spec.Kernel)
	if errors.Is(err, guest.ErrKernelNotFound) {
		return k, errorf(ErrInvalid, "%v: build one with `slipway kernel build`, or give one to `slipway kernel import`; `slipway kernel list` shows those that are there", err)
	}
	if err != nil {
		return k, err
	}
	if srv.Flavor.Memory < k.MinMemory {
		return k, errorf(ErrInvalid, "%d MiB of memory are too little: the guest kernel %s needs %d MiB",
			srv.Flavor.Memory>>20, k.Name, k.MinMemory>>20)
	}
	return k, nil
}

// root makes the server's root ready, which a server that was stopped has already:
// image resolved, layers unpacked, overlay cloned.
func (r *run) root(ctx context.Context, srv *Server) (*guest.Spec, error) {
	if _, err := r.m.cfg.Roots.Overlay(r.i.dir); err == nil {
		return r.m.recordedProcess(r.i.dir)
	}
	done, err := r.take(ctx, r.m.builds)
	if err != nil {
		return nil, err
	}
	defer done()
	// Until the overlay holds on to its layers, nobody may collect them.
	release, err := r.m.cfg.Roots.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	when, err := pullPolicy(srv.Spec.Pull)
	if err != nil {
		return nil, err
	}
	img, base, err := r.m.pull(r.i.auth.with(ctx), srv.Spec.Image, images.ResolveOptions{Pull: when}, r.pullProgress)
	if err != nil {
		return nil, err
	}
	defer func() { _ = img.Close() }()
	if r.i.auth != nil && r.i.auth.Glance != nil {
		r.i.auth = nil // a token does not last until a rebuild
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	process, err := srv.Spec.process(&cfg.Config, first(srv.Spec.Hostname, Hostname(srv.Name)))
	if err != nil {
		return nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	if process.Healthcheck, err = srv.Spec.healthcheck(raw); err != nil {
		return nil, err
	}
	id, err := img.ConfigName()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	r.step(StepClone)
	if _, err := r.m.cfg.Roots.Create(ctx, r.i.dir, base, srv.Flavor.Disk); err != nil {
		return nil, fmt.Errorf("clone the root: %w", err)
	}
	r.i.set(func(s *Server) {
		s.ImageDigest, s.ImageID, s.InitMode = img.Digest.String(), id.String(), process.InitMode
		s.Timeline.Clone = time.Since(begin)
	})
	return process, nil
}

// recordedProcess reads what a server that has run before is to run again.
func (m *Manager) recordedProcess(dir string) (*guest.Spec, error) {
	b, err := os.ReadFile(filepath.Join(dir, shareDir, guest.SpecFile))
	if err != nil {
		return nil, err
	}
	spec, err := guest.ParseSpec(b)
	if err == nil {
		spec.Found = nil // in the root as it was
	}
	return spec, err
}

// pullProgress shows how far a pull is.
func (r *run) pullProgress(p PullProgress) {
	r.i.set(func(s *Server) {
		s.Step = p.String()
		s.Timeline.Resolve, s.Timeline.Fetch, s.Timeline.Unpack = p.Resolve, p.Fetch, p.Unpack
	})
}

// furnish brings together what the guest is given: the seed, the volumes and the
// root, mounted in the share or as disks.
func (r *run) furnish(ctx context.Context, srv *Server, spec *guest.Spec, networks *cloudinit.NetworkConfig) (*disks, error) {
	overlay, err := r.m.cfg.Roots.Overlay(r.i.dir)
	if err != nil {
		return nil, err
	}
	share, mounted := r.takeShare()
	if !mounted {
		if share, err = makeShare(r.i.dir); err != nil {
			return nil, err
		}
	}
	defer func() { _ = share.Close() }()
	if err := r.writeSeed(srv, spec, networks, share); err != nil {
		return nil, err
	}
	mode := guest.RootMode(srv.RootMode)
	var upper *disks
	if mode == guest.Root9P {
		if upper, err = makeUpper(ctx, r.i.dir, overlay); err != nil {
			return nil, err
		}
	}
	// The share is read-only once it is mounted, and what this says is known then.
	capable, err := createCapable(share.Name(), mode)
	if err != nil {
		return nil, err
	}
	defer func() { _ = capable.Close() }()
	if !mounted && (mode != guest.RootBlock || len(srv.Spec.Volumes) > 0) {
		if err := mountShare(r.i.dir); err != nil {
			return nil, err
		}
	}
	if err := mountVolumes(share, r.i.dir, srv.Spec.Volumes); err != nil {
		return nil, err
	}
	if mode == guest.RootBlock {
		return makeDisks(ctx, r.i.dir, overlay)
	}
	root := filepath.Join(r.i.dir, shareDir, guest.RootDir)
	mount := overlay.Mount
	if upper != nil {
		mount = overlay.MountBase
	}
	if err := mount(ctx, root); err != nil {
		return nil, fmt.Errorf("mount the root: %w", err)
	}
	if err := writeCapable(capable, root, overlay.Base.Capable()); err != nil {
		return nil, fmt.Errorf("look for files with capabilities: %w", err)
	}
	// A volume, or what the server wrote before, may bring the entrypoint or its
	// users; then only the guest can say.
	if len(srv.Spec.Volumes) > 0 || upper != nil && srv.Run > 1 {
		return upper, nil
	}
	// What it takes to look for the entrypoint is spared to the guest.
	if err := preflight(root, spec); err != nil {
		return nil, err
	}
	return upper, writeSpec(share, spec)
}

// preflight finds the entrypoint in the mounted root, or what the guest would fail on:
// a missing or unusable entrypoint, an unknown user.
func preflight(dir string, spec *guest.Spec) error {
	root, err := process.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	found, err := find(root, spec)
	spec.Found = &found
	return err
}

// find looks for the entrypoint in a root, or says why it could not be started.
func find(root process.Files, spec *guest.Spec) (process.Found, error) {
	found, err := process.Find(root, spec.Request())
	if err != nil {
		err = codedError{err, process.ExitCode(err)}
	}
	return found, err
}

// domainSpec says what the hypervisor is to run.
func (r *run) domainSpec(ctx context.Context, srv *Server, kernel guest.Kernel, p programs, d *disks) (domain.Spec, error) {
	host := r.m.cfg.Host
	initramfs, err := r.m.cfg.Kernels.Initramfs(ctx, kernel, r.m.cfg.Init)
	if err != nil {
		return domain.Spec{}, err
	}
	r.step(StepProbe)
	begin := time.Now()
	accel, err := host.Accelerator(ctx, kernel)
	if err != nil {
		return domain.Spec{}, err
	}
	r.i.set(func(s *Server) { s.Timeline.Probe = time.Since(begin).Round(time.Millisecond) })
	machine := guest.DefaultMachine(accel)
	options := guest.CommandLineOptions{
		Machine: machine, Accel: accel, Root: guest.RootMode(srv.RootMode), TSCKHz: host.TSCKHz(), VCPUs: uint(srv.Flavor.VCPUs), MPTable: kernel.MPTable, Minimal: kernel.Minimal,
	}
	var attached []domain.Disk
	if d != nil {
		options.Seed, options.Share, attached = d.seed, p.share, d.attached
	}
	if seed, err := seedDisk(srv, r.i.dir); err != nil {
		return domain.Spec{}, err
	} else if seed != nil {
		attached = append(attached, *seed)
	}
	preloaded, err := srv.Spec.preloadDisks()
	if err != nil {
		return domain.Spec{}, err
	}
	attached = append(attached, preloaded...)
	spec := domain.Spec{
		Name:    r.domain,
		UUID:    srv.ID,
		Title:   srv.Name,
		Machine: machine,
		Accel:   accel,
		VCPUs:   uint(srv.Flavor.VCPUs),
		Memory:  srv.Flavor.Memory,
		Kernel:  kernel.Path, Initramfs: initramfs,
		CommandLine: guest.CommandLine(options),
		Disks:       attached,
		ShareMode:   p.share,
		Virtiofsd:   p.virtiofsd,
		OwnShare:    len(srv.Spec.Volumes) == 0,
		Emulator:    p.emulator,
	}
	setFiles(&spec, r.i.dir)
	if srv.classic() { // it boots as a machine does
		spec.Machine, spec.Kernel, spec.Initramfs, spec.CommandLine = guest.MachinePC, "", "", ""
	}
	return spec, nil
}

// setFiles says which files of a server's directory its domain has.
func setFiles(d *domain.Spec, dir string) {
	d.Share = filepath.Join(dir, shareDir)
	d.ConsoleLog = filepath.Join(dir, consoleFile)
	d.AgentSocket = filepath.Join(dir, agentFile)
}

// unmountServer unmounts all there is of a server.
func (m *Manager) unmountServer(ctx context.Context, i *instance) error {
	var errs []error
	overlay, err := m.cfg.Roots.Overlay(i.dir)
	switch {
	case err == nil:
		errs = append(errs, overlay.Unmount(ctx))
	case !errors.Is(err, rootfs.ErrNotFound):
		errs = append(errs, err)
	}
	return errors.Join(append(errs, unmountShare(ctx, i.dir))...)
}

// remove deletes all there is of a server that does not run, and its record last:
// until then a crash is made good by the next engine.
func (m *Manager) remove(ctx context.Context, i *instance) error {
	i.removing.Lock()
	defer i.removing.Unlock()
	srv, _ := i.snapshot()
	if srv.VMState == VMDeleted {
		return nil
	}
	i.insist(ctx, m.cfg.Store, m.log, func(s *Server) { s.TaskState = TaskDeleting })
	i.log.End()
	if err := i.disk.settle(ctx); err != nil {
		return fmt.Errorf("delete server %s: %w", i.id, err)
	}
	domain := m.cfg.DomainPrefix + i.id
	if err := errors.Join(m.cfg.Hypervisor.Destroy(ctx, domain), m.unmountServer(ctx, i), m.release(ctx, i)); err != nil {
		return fmt.Errorf("delete server %s: %w", i.id, err)
	}
	if err := errors.Join(i.log.Close(), os.RemoveAll(i.dir)); err != nil {
		return fmt.Errorf("delete server %s: %w", i.id, err)
	}
	project := srv.Project != ""
	gone := func(s *Server) {
		s.VMState, s.TaskState, s.Terminated, s.Power = VMDeleted, TaskNone, time.Now().UTC(), PowerNone
	}
	if project { // its record is kept for a while
		if err := i.update(ctx, m.cfg.Store, gone); err != nil {
			return fmt.Errorf("delete server %s: %w", i.id, err)
		}
		m.forget(i, project)
	} else {
		if err := m.cfg.Store.Remove(ctx, i.id); err != nil {
			return err
		}
		m.forget(i, project)
		i.set(gone)
	}
	m.happened(i, events.Destroy, nil)
	m.log.Info("server deleted", "server", i.id)
	return nil
}

// isServerID tells the directories of servers from other things.
func isServerID(s string) bool { return len(s) == 36 && strings.Count(s, "-") == 4 }
