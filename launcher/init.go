package launcher

import (
	"slices"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// inits are the commands by which an image is known to bring its own init; podman
// goes by the same.
var inits = []string{
	"/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "systemd",
}

// ValidInitMode reports whether there is such an init mode; empty is the default.
func ValidInitMode(m guest.InitMode) bool {
	return m == "" || m == guest.InitEntrypoint || m == guest.InitSystem
}

// giveInit settles the init mode of what g runs, and gives an init what it needs.
// label is the image's.
func (s *Spec) giveInit(g *guest.Spec, label string) error {
	user, _, _ := strings.Cut(g.User, ":")
	root := user == "" || user == "root" || user == "0"
	g.InitMode = guest.InitMode(first(string(s.InitMode), label))
	switch {
	case !ValidInitMode(g.InitMode):
		return errorf(ErrInvalid, "the image's label %s is %q: --init-mode entrypoint or system overrides it", SpecInitMode, label)
	case g.InitMode == "" && root && !s.Init && len(g.Args) > 0 && slices.Contains(inits, g.Args[0]):
		g.InitMode = guest.InitSystem
	}
	if g.InitMode != guest.InitSystem {
		g.InitMode = guest.InitEntrypoint
		return nil
	}
	if !root {
		return errorf(ErrInvalid, "an image's own init runs as root, and not as %s: give --user root, or --init-mode entrypoint", g.User)
	}
	g.Stdin, g.TTY = true, true
	// It is to look after the whole guest, as on a machine of its own; but for the
	// kernel's modules, of which the image has none.
	if !slices.Contains(g.CapAdd, "SYS_MODULE") {
		g.CapDrop = append(slices.Clone(g.CapDrop), "SYS_MODULE")
	}
	g.CapAdd = append(slices.Clone(g.CapAdd), "ALL")
	return nil
}

// HasTerminal reports whether the server's entrypoint has an input and a terminal,
// asked for or as an init's console.
func (s *Server) HasTerminal() (stdin, tty bool) {
	system := s.InitMode == guest.InitSystem
	return s.Spec.Stdin || system, s.Spec.TTY || system
}

// initGrace is how long an init has at least to stop what it has started, unless
// it was said: systemd's own limit for each service.
const initGrace = 90 * time.Second

// grace is how long a server's entrypoint has between its stop signal and its end.
func (m *Manager) grace(s *Server) time.Duration {
	switch {
	case s.Spec.StopGrace != nil:
		return *s.Spec.StopGrace
	case s.InitMode == guest.InitSystem:
		return max(m.cfg.StopGrace, initGrace)
	}
	return m.cfg.StopGrace
}
