package launcher

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/guest/agent"
)

// inside finds a server and the agent in it; the error is a *StateError where it
// does not run. ended is closed with the server's run.
func (m *Manager) inside(ref, action string) (c *agent.Client, ended <-chan struct{}, err error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.srv.VMState != VMActive || i.agent == nil {
		return nil, nil, &StateError{Server: i.srv.Name, Action: action, VM: i.srv.VMState, Task: i.srv.TaskState}
	}
	return i.agent, i.ended, nil
}

// Exec runs a process in a server, beside its entrypoint; see [agent.Client.Exec].
func (m *Manager) Exec(ctx context.Context, ref string, req agent.ExecRequest, streams agent.ExecIO) (agent.Exit, error) {
	c, _, err := m.inside(ref, "execute in")
	if err != nil {
		return agent.Exit{}, err
	}
	return c.Exec(ctx, req, streams)
}

// Attach copies stdin to a server's entrypoint; see [agent.Client.Attach].
func (m *Manager) Attach(ctx context.Context, ref string, req agent.AttachRequest, stdin io.Reader, resize <-chan agent.WindowSize) error {
	c, _, err := m.inside(ref, "attach to")
	if err != nil {
		return err
	}
	return c.Attach(ctx, req, stdin, resize)
}

// Stat describes a file of a running server's root.
func (m *Manager) Stat(ctx context.Context, ref, path string) (agent.FileInfo, error) {
	c, _, err := m.inside(ref, "look into")
	if err != nil {
		return agent.FileInfo{}, err
	}
	return c.Stat(ctx, path)
}

// CopyFrom writes a file or tree of a running server to w as a tar stream.
func (m *Manager) CopyFrom(ctx context.Context, ref, path string, w io.Writer) error {
	c, _, err := m.inside(ref, "copy from")
	if err != nil {
		return err
	}
	return c.CopyFrom(ctx, path, w)
}

// CopyTo extracts a tar stream into a directory of a running server.
func (m *Manager) CopyTo(ctx context.Context, ref, dir string, r io.Reader) error {
	c, _, err := m.inside(ref, "copy to")
	if err != nil {
		return err
	}
	return c.CopyTo(ctx, dir, r)
}

// Stats returns what a running server's guest counts of itself.
func (m *Manager) Stats(ctx context.Context, ref string) (agent.Stats, error) {
	c, _, err := m.inside(ref, "measure")
	if err != nil {
		return agent.Stats{}, err
	}
	return c.Stats(ctx)
}

// Top returns the processes of a running server.
func (m *Manager) Top(ctx context.Context, ref string) ([]agent.ProcessInfo, error) {
	c, _, err := m.inside(ref, "list the processes of")
	if err != nil {
		return nil, err
	}
	return c.Top(ctx)
}

// Signal sends a signal, by name or number, to the server's entrypoint.
func (m *Manager) Signal(ctx context.Context, ref, signal string) error {
	c, ended, err := m.inside(ref, "signal")
	if err != nil {
		return err
	}
	if _, err := guest.ParseSignal(signal); err != nil {
		return errorf(ErrInvalid, "%v", err)
	}
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
