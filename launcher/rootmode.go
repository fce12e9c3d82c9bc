package launcher

import (
	"context"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/rootfs"
)

func validRootMode(name string) bool {
	return slices.ContainsFunc(rootfs.Modes, func(m rootfs.Mode) bool { return m.Name == name })
}

func unknownRootMode(name string) error {
	var names []string
	for _, m := range rootfs.Modes {
		names = append(names, m.Name)
	}
	return errorf(ErrInvalid, "root mode %q: use one of %s", name, strings.Join(names, ", "))
}

// SetRootMode chooses how a server's root reaches it from its next start on. The
// server must not run; its disk is the same in every mode.
func (m *Manager) SetRootMode(ctx context.Context, ref, mode string) error {
	if !validRootMode(mode) {
		return unknownRootMode(mode)
	}
	i, err := m.find(ref)
	if err != nil {
		return err
	}
	var refused error
	err = i.update(ctx, m.cfg.Store, func(s *Server) {
		if !s.settled() {
			refused = &StateError{Server: s.Name, Action: "change the root mode of", VM: s.VMState, Task: s.TaskState}
			return
		}
		s.RootMode = mode
	})
	if refused != nil {
		return refused
	}
	return err
}
