package launcher

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipway-vm/slipway/rootfs"
)

// Reboot ends a server's entrypoint, with the patience of a stop or, hard, none, and
// boots the server again.
func (m *Manager) Reboot(ctx context.Context, id string, hard bool) error {
	a := ActionReboot
	if hard {
		a = ActionRebootHard
	}
	return m.reworked(ctx, id, a, func(s *Server) error {
		s.Again = true
		return nil
	})
}

// Rebuild gives a server a fresh root, from the image that change has put into its
// Spec. A server that is stopped stays so, and is cloned when it starts.
func (m *Manager) Rebuild(ctx context.Context, id string, change func(*Server) error) error {
	return m.reworked(ctx, id, ActionRebuild, func(s *Server) error {
		s.Again = s.VMState != VMStopped
		s.ImageDigest, s.ImageID = "", ""
		return change(s)
	})
}

// Resize gives a server another flavor. It is then to be confirmed or reverted.
func (m *Manager) Resize(ctx context.Context, id string, to Flavor) error {
	if err := to.validate(); err != nil {
		return err
	}
	return m.reworked(ctx, id, ActionResize, func(s *Server) error {
		if to.Disk < s.Flavor.Disk {
			return errorf(ErrInvalid, "Resize to a flavor with a smaller disk is not possible.")
		}
		s.Again, s.OtherFlavor = s.Running(), &to
		return nil
	})
}

// RevertResize gives a server the flavor back that it had before. What it has written
// since stays: where that does not fit the old disk, the disk keeps its new size.
func (m *Manager) RevertResize(ctx context.Context, id string) error {
	return m.reworked(ctx, id, ActionRevertResize, func(s *Server) error {
		s.Again = s.Running()
		return nil
	})
}

// ConfirmResize makes a server's new flavor the only one.
func (m *Manager) ConfirmResize(ctx context.Context, id string) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	return i.act(ctx, m.cfg.Store, ActionConfirmResize, func(s *Server) error {
		s.OtherFlavor, s.VMState = nil, VMStopped
		if s.Running() {
			s.VMState = VMActive
		}
		return nil
	})
}

// reworked records an action whose task is a rework, and begins it.
func (m *Manager) reworked(ctx context.Context, id string, a Action, change func(*Server) error) error {
	i, err := m.find(id)
	if err != nil {
		return err
	}
	var before TaskState
	var ended <-chan struct{}
	err = i.act(ctx, m.cfg.Store, a, func(s *Server) error {
		before, ended = s.TaskState, i.ended
		return change(s)
	})
	switch {
	case err != nil:
		return err
	case before != TaskRebooting:
		m.rework(i)
		return nil
	}
	// The work on the soft reboot goes on, without a guest to wait for.
	select {
	case <-ended:
		return nil
	default:
		return m.cfg.Hypervisor.Destroy(context.WithoutCancel(ctx), m.cfg.DomainPrefix+i.id)
	}
}

// rework takes a server down, changes it, and boots it again where Again says so.
// Its task says what is to be done, its record all that this takes: an engine that
// finds the task does all of it again, which does no harm.
func (m *Manager) rework(i *instance) {
	m.background(i, m.patience(i)+workTime, func(ctx context.Context) {
		if err := m.takeDown(ctx, i); err != nil {
			m.giveUp(ctx, i, err, nil)
			return
		}
		if err := m.alter(ctx, i); err != nil {
			m.giveUp(ctx, i, err, func(s *Server) {
				s.VMState, s.Fault, s.FaultCode, s.FaultAt = VMError, message(err), codeSlipway, s.Updated
			})
		}
	})
}

func (m *Manager) takeDown(ctx context.Context, i *instance) error {
	if srv, _ := i.snapshot(); srv.TaskState == TaskRebootingHard {
		return m.cut(ctx, i)
	}
	_, err := m.halt(ctx, i, nil)
	return err
}

// alter changes a server that is down, as its task says, and has it boot or rest.
func (m *Manager) alter(ctx context.Context, i *instance) error {
	srv, _ := i.snapshot()
	var (
		up    TaskState
		rest  VMState
		apply = func(*Server) {}
	)
	switch srv.TaskState {
	case TaskRebooting:
		up = TaskRebootStarted
	case TaskRebootingHard:
		up = TaskRebootStartedHard
	case TaskRebuilding:
		up, rest = TaskRebuildSpawning, VMStopped
		if err := m.discardRoot(ctx, i); err != nil {
			return fmt.Errorf("discard the root: %w", err)
		}
	case TaskResizePrep:
		up, rest = TaskResizeFinish, VMResized
		if err := m.resizeRoot(ctx, i, srv.OtherFlavor.Disk); err != nil {
			return err
		}
		apply = func(s *Server) {
			before := s.Flavor
			s.Flavor, s.OtherFlavor = *s.OtherFlavor, &before
		}
	case TaskResizeReverting:
		up, rest = TaskResizeFinish, VMStopped
		if err := m.resizeRoot(ctx, i, srv.OtherFlavor.Disk); err != nil {
			m.log.Warn("disk keeps its size", "server", i.id, "err", err)
		}
		apply = func(s *Server) { s.Flavor, s.OtherFlavor = *s.OtherFlavor, nil }
	default: // it is being deleted, or its state was reset
		return nil
	}
	if srv.Again {
		return m.startChanged(ctx, i, up, nil, func(s *Server) error {
			apply(s)
			return nil
		})
	}
	return i.update(ctx, m.cfg.Store, func(s *Server) {
		apply(s)
		s.VMState, s.TaskState = rest, TaskNone
	})
}

// discardRoot removes what a server has written, so that its next boot clones anew.
func (m *Manager) discardRoot(ctx context.Context, i *instance) error {
	if err := i.disk.settle(ctx); err != nil {
		return err
	}
	if err := m.unmountServer(ctx, i); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(i.dir, baseFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, m.cfg.Roots.Discard(i.dir))
}

// resizeRoot changes the size of a server's disk, where there is one already.
func (m *Manager) resizeRoot(ctx context.Context, i *instance, size int64) error {
	overlay, err := m.cfg.Roots.Overlay(i.dir)
	if errors.Is(err, rootfs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := i.disk.settle(ctx); err != nil {
		return err
	}
	if err := m.unmountServer(ctx, i); err != nil {
		return err
	}
	return overlay.Resize(ctx, size)
}
