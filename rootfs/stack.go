package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// A stack is a directory of numbered links to the mount points of a base's
// layers: its name in a mount's source tells which layers the mount uses, and
// the numbers keep overlayfs' options short.

// mountStack mounts the layers of a base that are not mounted yet. The lock of
// mounts is held.
func (s *Store) mountStack(b *Base, mounted map[string]bool) error {
	stack := s.path("stacks", b.ID)
	if err := os.MkdirAll(stack, 0o700); err != nil {
		return err
	}
	for i, x := range b.stack {
		link := filepath.Join(stack, strconv.Itoa(i))
		to := filepath.Join("..", "..", "mounts", x.name)
		if have, err := os.Readlink(link); err != nil || have != to {
			os.Remove(link)
			if err := os.Symlink(to, link); err != nil {
				return err
			}
		}
		target := s.path("mounts", x.name)
		if mounted[target] {
			continue
		}
		if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.mountLayer(x.image, target); err != nil {
			return err
		}
	}
	return nil
}

// usedStacks are the bases of the overlays that are mounted.
func (s *Store) usedStacks(points []*mountinfo.Info) map[string]bool {
	used := map[string]bool{}
	for _, p := range points {
		if rest, ok := strings.CutPrefix(p.Source, s.sourcePrefix()); ok && p.FSType == "overlay" {
			id, _, _ := strings.Cut(rest, "-")
			used[id] = true
		}
	}
	return used
}

// usedLayers are the names of the layers under the overlays that are mounted.
func (s *Store) usedLayers(points []*mountinfo.Info) (map[string]bool, error) {
	used := map[string]bool{}
	for id := range s.usedStacks(points) {
		links, err := os.ReadDir(s.path("stacks", id))
		if err != nil {
			return nil, err
		}
		for _, l := range links {
			to, err := os.Readlink(s.path("stacks", id, l.Name()))
			if err != nil {
				return nil, err
			}
			used[filepath.Base(to)] = true
		}
	}
	return used, nil
}

// releaseLayers unmounts the layers no mounted overlay uses. The lock of
// mounts is held.
func (s *Store) releaseLayers() error {
	points, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	used, err := s.usedLayers(points)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range points {
		if filepath.Dir(p.Mountpoint) == s.path("mounts") && !used[filepath.Base(p.Mountpoint)] {
			errs = append(errs, unmount(p.Mountpoint))
		}
	}
	entries, err := os.ReadDir(s.path("mounts"))
	errs = append(errs, err)
	for _, e := range entries {
		if !used[e.Name()] {
			os.Remove(s.path("mounts", e.Name())) // fails where still mounted
		}
	}
	return errors.Join(errs...)
}

// unmount takes down every mount of the overlay, copies by bind mount too.
func (o *Overlay) unmount() error {
	points, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if p.FSType == "overlay" && p.Source == o.source() {
			errs = append(errs, unmount(p.Mountpoint))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := unmount(o.upper()); err != nil {
		return err
	}
	for _, name := range []string{o.upper(), o.lower(), o.empty()} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return o.store.releaseLayers()
}
