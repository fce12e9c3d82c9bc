package launcher

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
	"github.com/slipway-vm/slipway/guest/archive"
	"github.com/slipway-vm/slipway/guest/process"
	"github.com/slipway-vm/slipway/launcher/events"
)

// ErrDetached is the cause with which the context of who attaches is cancelled when
// he leaves by his own will.
var ErrDetached = errors.New("detached")

// reconnectTime is how long those who ask something of an active server wait for
// its guest's agent: an engine that has just started finds running servers before it
// has reached into them.
const reconnectTime = 10 * time.Second

// inside finds a server and the agent in it; the error is a *StateError where it
// does not run.
func (m *Manager) inside(ctx context.Context, ref, action string) (*instance, *agent.Client, error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, nil, err
	}
	c, srv := i.reach(ctx, func(s Server) bool {
		return (s.TaskState == TaskNone || s.TaskState == TaskImageSnapshot) && !s.Restarting
	})
	if c == nil {
		return nil, nil, &StateError{Server: srv.Name, Action: action, VM: srv.VMState, Task: srv.TaskState}
	}
	return i, c, nil
}

// reach returns the agent in an active server. Where there is none, it waits for it
// as long as soon says that one is to be expected, and returns nil after that, with
// the server as it is then.
func (i *instance) reach(ctx context.Context, soon func(Server) bool) (*agent.Client, Server) {
	ctx, cancel := context.WithTimeout(ctx, reconnectTime)
	defer cancel()
	for {
		i.mu.Lock()
		c, srv, changed := i.agent, i.srv, i.changed
		i.mu.Unlock()
		switch {
		case srv.VMState != VMActive:
			return nil, srv
		case c != nil:
			return c, srv
		case !soon(srv):
			return nil, srv
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, srv
		}
	}
}

// Exec runs a process in a server, beside its entrypoint; see [agent.Client.Exec].
func (m *Manager) Exec(ctx context.Context, ref string, req agent.ExecRequest, streams agent.ExecIO) (agent.Exit, error) {
	i, c, err := m.inside(ctx, ref, "execute in")
	if err != nil {
		return agent.Exit{}, err
	}
	about := attributes{"execID": newID(), "command": strings.Join(req.Args, " ")}
	m.happened(i, events.ExecCreate, about)
	m.happened(i, events.ExecStart, about)
	exit, err := c.Exec(ctx, req, streams)
	switch {
	case exit.Detached && !req.Detach:
		m.happened(i, events.ExecDetach, about)
	case err == nil && !exit.Detached:
		about["exitCode"] = strconv.Itoa(exit.Code)
		m.happened(i, events.ExecDie, about)
	}
	return exit, err
}

// Attach copies stdin to a server's entrypoint; see [agent.Client.Attach].
func (m *Manager) Attach(ctx context.Context, ref string, req agent.AttachRequest, stdin io.Reader, resize <-chan agent.WindowSize) error {
	i, c, err := m.inside(ctx, ref, "attach to")
	if err != nil {
		return err
	}
	m.happened(i, events.Attach, nil)
	sizes := make(chan agent.WindowSize)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case size := <-resize:
				m.happened(i, events.Resize, attributes{"height": strconv.Itoa(int(size.Rows)), "width": strconv.Itoa(int(size.Columns))})
				select {
				case sizes <- size:
				case <-ended:
					return
				}
			case <-ended:
				return
			}
		}
	}()
	err = c.Attach(ctx, req, stdin, sizes)
	if errors.Is(context.Cause(ctx), ErrDetached) {
		m.happened(i, events.Detach, nil)
		return ErrDetached
	}
	return err
}

// Stat describes a file of a server's root, whether it runs or not.
func (m *Manager) Stat(ctx context.Context, ref, path string) (agent.FileInfo, error) {
	if i, ok := m.stopped(ref); ok {
		var info agent.FileInfo
		err := m.atRest(ctx, i, "look into", path, func(_ context.Context, root *process.Root) (err error) {
			info, err = agent.StatFile(root, path)
			return err
		})
		return info, err
	}
	_, c, err := m.inside(ctx, ref, "look into")
	if err != nil {
		return agent.FileInfo{}, err
	}
	return c.Stat(ctx, path)
}

// CopyFrom writes a file or tree of a server, whether it runs or not, to w as a tar
// stream; see [agent.Client.CopyFrom].
func (m *Manager) CopyFrom(ctx context.Context, ref, path string, follow bool, w io.Writer) error {
	about := attributes{"path": path}
	if i, ok := m.stopped(ref); ok {
		m.happened(i, events.CopyOut, about)
		return m.atRest(ctx, i, "copy from", path, func(ctx context.Context, root *process.Root) error {
			return writeArchive(ctx, root, path, follow, w)
		})
	}
	i, c, err := m.inside(ctx, ref, "copy from")
	if err != nil {
		return err
	}
	m.happened(i, events.CopyOut, about)
	if done, err := m.copyShared(ctx, i, c, path, follow, w); done || err != nil {
		return err
	}
	return c.CopyFrom(ctx, path, follow, w)
}

// CopyTo extracts a tar stream into a directory of a server, whether it runs or not.
func (m *Manager) CopyTo(ctx context.Context, ref, dir string, r io.Reader) error {
	about := attributes{"path": dir}
	if i, ok := m.stopped(ref); ok {
		m.happened(i, events.CopyIn, about)
		return m.atRest(ctx, i, "copy to", dir, func(ctx context.Context, root *process.Root) error {
			return archive.Extract(ctx, root, dir, r, archive.Options{Owner: true, Devices: true})
		})
	}
	i, c, err := m.inside(ctx, ref, "copy to")
	if err != nil {
		return err
	}
	m.happened(i, events.CopyIn, about)
	return c.CopyTo(ctx, dir, r)
}

// Stats are what a running server's guest counts of itself, and what it uses of
// the host where the hypervisor can tell.
type Stats struct {
	agent.Stats
	Host *HostUsage `json:"host,omitempty"`
}

// HostUsage is what a server's hypervisor process uses of the host. Times and bytes
// read and written add up from its start.
type HostUsage struct {
	At      time.Time     `json:"at"`
	CPU     time.Duration `json:"cpu"`
	Memory  uint64        `json:"memory"` // resident bytes
	Read    uint64        `json:"read"`   // bytes from disks
	Written uint64        `json:"written"`
}

// hostMeter is a Hypervisor that can measure.
type hostMeter interface {
	Usage(ctx context.Context, domain string) (HostUsage, error)
}

// Stats returns what a running server uses.
func (m *Manager) Stats(ctx context.Context, ref string) (Stats, error) {
	i, c, err := m.inside(ctx, ref, "measure")
	if err != nil {
		return Stats{}, err
	}
	inner, err := c.Stats(ctx)
	if err != nil {
		return Stats{}, err
	}
	s := Stats{Stats: inner}
	if h, ok := m.cfg.Hypervisor.(hostMeter); ok {
		usage, err := h.Usage(ctx, m.cfg.DomainPrefix+i.id)
		if err != nil {
			return Stats{}, err
		}
		s.Host = &usage
	}
	return s, nil
}

// Top returns the processes of a running server.
func (m *Manager) Top(ctx context.Context, ref string) ([]agent.ProcessInfo, error) {
	_, c, err := m.inside(ctx, ref, "list the processes of")
	if err != nil {
		return nil, err
	}
	return c.Top(ctx)
}

// Signal sends a signal, by name or number, to the server's entrypoint.
func (m *Manager) Signal(ctx context.Context, ref, signal string) error {
	i, c, err := m.inside(ctx, ref, "signal")
	if err != nil {
		return err
	}
	i.mu.Lock()
	ended := i.ended
	i.mu.Unlock()
	number, err := guest.ParseSignal(signal)
	if err != nil {
		return errorf(ErrInvalid, "%v", err)
	}
	m.happened(i, events.Kill, attributes{"signal": strconv.Itoa(int(number))})
	err = c.Signal(ctx, signal)
	if !errors.Is(err, agent.ErrDisconnected) {
		return err
	}
	// It may have ended the server before it was answered.
	select {
	case <-ended:
		return nil
	case <-time.After(time.Second):
		return err
	}
}

// Freeze stops a running server's processes, what they have written being on its
// disk, until [Manager.Thaw].
func (m *Manager) Freeze(ctx context.Context, ref string) error {
	_, c, err := m.inside(ctx, ref, "freeze")
	if err != nil {
		return err
	}
	return c.Freeze(ctx)
}

// Thaw lets a frozen server's processes run on.
func (m *Manager) Thaw(ctx context.Context, ref string) error {
	_, c, err := m.inside(ctx, ref, "thaw")
	if err != nil {
		return err
	}
	return c.Thaw(ctx)
}
