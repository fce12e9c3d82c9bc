package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// A guest that stands by has booted as far as it can before it is known which server it
// is for: its domain runs, and its init waits with the share mounted, in which there is
// nothing yet. It has the ID, the directory and the interfaces of the server that it will
// be. That server is created with it, fills the share, and tells it to go on. It is used
// once, as any guest is, and has nothing of another server's.

// standbyDelay is how long no server may have started before guests are made that stand
// by: they are to take nothing from those who wait.
const standbyDelay = time.Second

// standbyShare is which part of the memory that is free a guest may have that nobody has
// asked for.
const standbyShare = 8

// standbyKind is what guests that stand by have in common with the servers that can take
// them.
type standbyKind struct {
	request standbyRequest
	// domain is that of a server of this kind, but for what differs with each.
	domain domain.Spec
}

// standbyRequest is what is known of a domain when its server is asked for.
type standbyRequest struct {
	kernel  string // as in Spec
	vcpus   int
	memory  int64
	nics    int
	volumes bool // any
}

// standby is one guest that stands by.
type standby struct {
	id, dir string
	kind    standbyKind
	domain  domain.Spec
	share   *shareDirectory
	agent   *agent.Client
	taken   bool          // by a server
	gone    chan struct{} // closed when its domain has ended
}

// standbys keeps guests standing by of the kind that was wanted last.
type standbys struct {
	m    *Manager
	want int

	mu     sync.Mutex
	kind   *standbyKind
	guests map[string]*standby // by ID, those taken by servers that have not begun included
	timer  *time.Timer
	closed bool

	filling sync.Mutex
	why     string // no guest could be made lately; filling's
}

func newStandbys(m *Manager, want int) *standbys {
	s := &standbys{m: m, want: want, guests: map[string]*standby{}}
	s.timer = time.AfterFunc(standbyDelay, func() { s.begin(s.fill) })
	s.timer.Stop()
	return s
}

// begin starts work of which the manager's end waits for the end.
func (s *standbys) begin(work func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.m.runs.Go(work)
	}
}

// standbyRequestOf says what a server asks of a guest that stands by; ok is false where
// none can be the server's.
func (m *Manager) standbyRequestOf(srv *Server) (r standbyRequest, ok bool) {
	spec := &srv.Spec
	if srv.VMState == VMError || guest.RootMode(srv.RootMode) != guest.RootVirtioFS || srv.classic() || srv.ConfigDrive ||
		spec.SeedDisk != "" || len(spec.Preload) > 0 || spec.hostUser() {
		return r, false
	}
	r = standbyRequest{kernel: spec.Kernel, vcpus: srv.Flavor.VCPUs, memory: srv.Flavor.Memory, volumes: len(spec.Volumes) > 0}
	if spec.Networks == nil && m.cfg.Networks != nil {
		r.nics = 1
	}
	for _, n := range spec.Networks {
		if n.Port != "" || n.MAC != "" {
			return r, false
		}
		if n.Network != NetworkNone {
			r.nics++
		}
	}
	_, able := m.cfg.Networks.(Sparer)
	return r, r.nics == 0 || able
}

// standbyKindOf is what a guest would have to be for a server whose domain is d; nil where
// none can be.
func (m *Manager) standbyKindOf(srv *Server, d domain.Spec) *standbyKind {
	r, ok := m.standbyRequestOf(srv)
	if !ok || len(d.Disks) > 0 {
		return nil
	}
	d.Name, d.UUID, d.Title = "", "", ""
	d.Share, d.ConsoleLog, d.AgentSocket = "", "", ""
	d.NICs = slices.Clone(d.NICs)
	for i := range d.NICs {
		if d.NICs[i].Tap == "" {
			return nil
		}
		d.NICs[i].Tap, d.NICs[i].MAC = "", ""
	}
	return &standbyKind{r, d}
}

// wanted says that a server has started, and which kind of guest it could have had.
func (s *standbys) wanted(kind *standbyKind) {
	if s.want == 0 || kind == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kind = kind
	s.timer.Reset(standbyDelay)
}

// take gives a new server a guest that stands by; nil where none is fit for it.
func (s *standbys) take(srv *Server) *standby {
	r, ok := s.m.standbyRequestOf(srv)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sb := range s.guests {
		if ok && !sb.taken && sb.agent != nil && sb.kind.request == r {
			sb.taken = true
			s.timer.Reset(standbyDelay) // for the next, whatever becomes of this one
			return sb
		}
	}
	return nil
}

// part ends what the pool has to do with a guest, and reports whether its domain runs.
func (s *standbys) part(sb *standby) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.guests, sb.id)
	select {
	case <-sb.gone:
		return false
	default:
		return true
	}
}

// ended notes that a domain has, and reports whether it was of a guest that stands by.
func (s *standbys) ended(id string) bool {
	s.mu.Lock()
	sb := s.guests[id]
	if sb == nil {
		s.mu.Unlock()
		return false
	}
	select {
	case <-sb.gone: // told twice
	default:
		close(sb.gone)
	}
	idle := !sb.taken && sb.agent != nil
	if idle {
		delete(s.guests, id)
	}
	s.mu.Unlock()
	if idle {
		s.m.log.Warn("guest that stood by has ended", "guest", id)
		s.begin(func() { s.end(sb) })
	}
	return true
}

// count returns how many guests can be taken.
func (s *standbys) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, sb := range s.guests {
		if !sb.taken && sb.agent != nil {
			n++
		}
	}
	return n
}

// fill makes as many guests as are wanted, and ends those of another kind.
func (s *standbys) fill() {
	s.filling.Lock()
	defer s.filling.Unlock()
	for s.m.ctx.Err() == nil {
		if s.m.booting() {
			s.timer.Reset(standbyDelay)
			return
		}
		s.mu.Lock()
		kind, have := s.kind, 0
		var stale []*standby
		for _, sb := range s.guests {
			switch {
			case sb.taken:
			case reflect.DeepEqual(sb.kind, *kind):
				have++
			default:
				delete(s.guests, sb.id)
				stale = append(stale, sb)
			}
		}
		s.mu.Unlock()
		for _, sb := range stale {
			s.end(sb)
		}
		if have >= s.want {
			return
		}
		if err := s.make(kind); err != nil {
			if why := err.Error(); s.m.ctx.Err() == nil && why != s.why {
				s.why = why
				s.m.log.Info("no guest stands by", "err", err)
			}
			return
		}
	}
}

// booting reports whether a server is on its way up.
func (m *Manager) booting() bool {
	for _, i := range m.all() {
		i.mu.Lock()
		boots := i.srv.TaskState.boots()
		i.mu.Unlock()
		if boots {
			return true
		}
	}
	return false
}

// make boots a guest that stands by.
func (s *standbys) make(kind *standbyKind) (err error) {
	m := s.m
	ctx, cancel := context.WithTimeout(m.ctx, m.cfg.BootTimeout)
	defer cancel()
	if free, err := m.cfg.Host.MemoryFree(); err != nil || kind.domain.Memory > free/standbyShare {
		return errors.Join(err, fmt.Errorf("one may take %d MiB of memory, which is too much of the %d MiB that are free", kind.domain.Memory>>20, free>>20))
	}
	sb := &standby{id: newID(), kind: *kind, domain: kind.domain, gone: make(chan struct{})}
	sb.dir = filepath.Join(m.cfg.Dir, sb.id)
	defer func() {
		if err != nil {
			s.part(sb)
			s.end(sb)
		}
	}()
	if err := os.MkdirAll(sb.dir, 0o711); err != nil {
		return err
	}
	if sb.share, err = makeShare(sb.dir); err != nil {
		return err
	}
	if err := mountShare(sb.dir); err != nil {
		return err
	}
	// Root and volumes will be mounted there, and virtiofsd is to see them.
	if err := unix.Mount("", filepath.Join(sb.dir, shareDir), "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts of %s: %w", sb.dir, err)
	}
	d := &sb.domain
	d.Name, d.UUID, d.Title = m.cfg.DomainPrefix+sb.id, sb.id, "standing by"
	setFiles(d, sb.dir)
	d.CommandLine = standbyCommandLine(d.CommandLine)
	if len(d.NICs) > 0 {
		var mtus []int
		for _, n := range d.NICs {
			mtus = append(mtus, n.MTU)
		}
		if d.NICs, err = m.cfg.Networks.(Sparer).Spare(ctx, sb.id, mtus); err != nil {
			return err
		}
	}
	release, err := m.boots.take(ctx, func() {})
	if err != nil {
		return err
	}
	defer release()
	s.mu.Lock()
	s.guests[sb.id] = sb
	s.mu.Unlock()
	if err := m.cfg.Hypervisor.Start(ctx, *d); err != nil {
		return err
	}
	c, err := s.dial(ctx, sb)
	if err != nil {
		return err
	}
	s.mu.Lock()
	sb.agent = c
	s.mu.Unlock()
	m.log.Info("guest stands by", "guest", sb.id)
	return nil
}

// dial waits for the guest to answer.
func (s *standbys) dial(ctx context.Context, sb *standby) (*agent.Client, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := ctx.Done()
	go func() {
		select {
		case <-sb.gone:
			cancel(errEnded)
		case <-done:
		}
	}()
	return agent.Dial(ctx, sb.domain.AgentSocket)
}

func standbyCommandLine(of string) string { return of + " " + guest.ArgStandby }

// fits reports whether a guest is what a server's domain is to be.
func (sb *standby) fits(d domain.Spec) bool {
	d.Title, d.CommandLine = sb.domain.Title, standbyCommandLine(d.CommandLine)
	return reflect.DeepEqual(d, sb.domain)
}

// close lets go of what the engine holds of a guest.
func (sb *standby) close() {
	if sb.share != nil {
		_ = sb.share.Close()
	}
	if sb.agent != nil {
		_ = sb.agent.Close()
	}
}

// end takes back all there is of a guest that no server has, or will have.
func (s *standbys) end(sb *standby) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.m.ctx), cleanupTime)
	defer cancel()
	if err := s.m.endStandby(ctx, sb); err != nil {
		s.m.log.Error("guest that stood by not removed", "guest", sb.id, "err", err)
	}
}

// endStandby takes back all there is of a guest; nil is none.
func (m *Manager) endStandby(ctx context.Context, sb *standby) error {
	if sb == nil {
		return nil
	}
	m.standbys.part(sb)
	sb.close()
	errs := []error{
		m.cfg.Hypervisor.Destroy(ctx, m.cfg.DomainPrefix+sb.id),
		m.unmountServer(ctx, &instance{id: sb.id, dir: sb.dir}),
	}
	if m.cfg.Networks != nil {
		errs = append(errs, m.cfg.Networks.Release(ctx, sb.id))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(sb.dir)
}

// close has no more guests made.
func (s *standbys) close() {
	s.mu.Lock()
	s.closed = true
	s.timer.Stop()
	s.mu.Unlock()
}

// endAll ends the guests that no server has taken; the others are their servers'.
func (s *standbys) endAll() {
	s.mu.Lock()
	var idle []*standby
	for _, sb := range s.guests {
		if !sb.taken {
			idle = append(idle, sb)
		}
	}
	s.mu.Unlock()
	for _, sb := range idle {
		s.end(sb)
	}
}

// Standby returns how many guests stand by.
func (m *Manager) Standby() int { return m.standbys.count() }

// takeShare returns the share of the guest that stands by, if there is one; it is mounted.
func (r *run) takeShare() (share *shareDirectory, ok bool) {
	if sb := r.i.standby; sb != nil {
		share, sb.share = sb.share, nil
	}
	return share, share != nil
}

// adopt makes the guest that stands by the server's, where it is what d says, and else
// ends it.
func (r *run) adopt(ctx context.Context, d domain.Spec) (adopted bool, err error) {
	sb := r.i.standby
	if sb == nil {
		return false, nil
	}
	r.i.standby = nil
	defer r.m.standbys.part(sb)
	if sb.fits(d) {
		if r.m.standbys.part(sb) {
			r.up.Store(true)
			r.dialed = sb.agent
			r.m.runs.Go(func() { r.m.entitle(r.domain, d.Title) })
			return true, nil
		}
		r.m.log.Warn("guest that stood by has ended, another is started", "server", r.i.id)
	}
	_ = sb.agent.Close()
	if err := r.m.cfg.Hypervisor.Destroy(ctx, r.domain); err != nil {
		return false, err
	}
	// Its end, once it is told, must not be taken for the end of the next.
	select {
	case <-sb.gone:
	case <-time.After(powerOffTime):
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	return false, nil
}

// entitle gives a domain the title that it would have been started with.
func (m *Manager) entitle(domain, title string) {
	t, able := m.cfg.Hypervisor.(Titler)
	if !able {
		return
	}
	if err := t.SetTitle(context.WithoutCancel(m.ctx), domain, title); err != nil && !errors.Is(err, ErrNotFound) {
		m.log.Warn("title not set", "domain", domain, "err", err)
	}
}
