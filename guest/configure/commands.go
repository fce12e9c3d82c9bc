package configure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/slipway-vm/slipway/cloudinit"
)

func (s *System) boothooks(ctx context.Context, u *cloudinit.UserData) error {
	return s.execute(ctx, filepath.Join(s.instanceDir(), "boothooks"), u.Boothooks)
}

func (s *System) scripts(ctx context.Context, u *cloudinit.UserData) error {
	return s.execute(ctx, filepath.Join(s.instanceDir(), "scripts"), u.Scripts)
}

func (s *System) instanceDir() string {
	return filepath.Join(stateDir, "instances", filepath.Base(s.Meta.InstanceID))
}

// execute keeps scripts in a directory of the root and runs each.
func (s *System) execute(ctx context.Context, dir string, scripts []cloudinit.Script) error {
	var bad []error
	for _, script := range scripts {
		name := filepath.Base(filepath.Clean("/" + script.Name))
		file := filepath.Join(dir, name)
		err := s.writeFile(file, script.Body, 0o700)
		if err == nil {
			err = s.Run(ctx, []string{file})
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(bad...)
}

func (s *System) bootCommands(ctx context.Context, u *cloudinit.UserData) error {
	return s.runAll(ctx, u.Config.BootCmd)
}

func (s *System) runCommands(ctx context.Context, u *cloudinit.UserData) error {
	return s.runAll(ctx, u.Config.RunCmd)
}

func (s *System) runAll(ctx context.Context, commands []cloudinit.Command) error {
	var bad []error
	for i, c := range commands {
		args := c.Args
		if c.Shell != "" {
			args = []string{"/bin/sh", "-c", c.Shell}
		}
		if err := s.Run(ctx, args); err != nil {
			bad = append(bad, fmt.Errorf("command %d: %w", i+1, err))
		}
	}
	return errors.Join(bad...)
}

// mounts mounts what the image does not hold: devices, and file systems that have
// none.
func (s *System) mounts(_ context.Context, u *cloudinit.UserData) error {
	var bad []error
	for _, m := range u.Config.Mounts {
		var err error
		switch {
		case m.FSType == "swap":
			err = s.swapOnDevice(m.Device)
		case m.MountPoint == "" || m.MountPoint == "none":
			continue // takes a mount back, of which there is none
		default:
			err = s.mount(m)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s on %s: %w", m.Device, m.MountPoint, err))
		}
	}
	return errors.Join(bad...)
}

func (s *System) swapOnDevice(name string) error {
	d, err := s.device(name)
	if err != nil {
		return err
	}
	return s.SwapOn(s.path(d.Path))
}

func (s *System) mount(m cloudinit.MountEntry) error {
	d, err := s.device(m.Device)
	if err != nil {
		return err
	}
	if m.FSType == "auto" {
		if m.FSType = d.FSType; m.FSType == "" {
			return errors.New("no file system that is known: name its type")
		}
	}
	if err := os.MkdirAll(s.path(m.MountPoint), 0o755); err != nil {
		return err
	}
	return s.Mount(d.Path, s.path(m.MountPoint), m.FSType, m.Options)
}
