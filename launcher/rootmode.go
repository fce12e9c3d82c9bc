package launcher

import (
	"context"
	"slices"
	"strings"

	"github.com/slipway-vm/slipway/guest"
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

// rootMode is the mode that a new server's root has.
func (m *Manager) rootMode(s *Spec) string {
	mode := first(s.RootMode, m.cfg.RootMode, string(guest.RootVirtioFS))
	if s.RootMode == "" && s.preloadable(mode) != nil {
		mode = string(guest.RootBlock)
	}
	return mode
}

// permitted refuses a mode that the server cannot have, and what an ordinary user's engine
// cannot do: it mounts nothing, and changes nothing of the host's networks.
func (m *Manager) permitted(mode string, s *Spec) error {
	switch {
	case !m.cfg.Rootless:
	case mode != string(guest.RootBlock):
		return errorf(ErrInvalid, "root mode %s needs root, which mounts: use --root block, or run slipway with sudo", mode)
	case len(s.Volumes) > 0:
		return errorf(ErrInvalid, "volume %s: volumes need root, which mounts: run slipway with sudo, or copy files with `slipway server cp`", s.Volumes[0].Host)
	case len(s.Networks) > 0 && s.Networks[0].Network != NetworkNone && !s.hostUser():
		return errorf(ErrInvalid, "networks need root, which changes the host's: use --network %s or --network %s, or run slipway with sudo", NetworkHostUser, NetworkNone)
	}
	return s.preloadable(mode)
}

// SetRootMode chooses how a server's root reaches it from its next start on. The
// server must not run; its disk is the same in every mode.
func (m *Manager) SetRootMode(ctx context.Context, ref, mode string) error {
	if !validRootMode(mode) {
		return unknownRootMode(mode)
	}
	if err := m.permitted(mode, &Spec{}); err != nil {
		return err
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
		if refused = s.Spec.preloadable(mode); refused != nil {
			return
		}
		s.RootMode = mode
	})
	if refused != nil {
		return refused
	}
	return err
}
