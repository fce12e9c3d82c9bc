package rootfs

import (
	"fmt"
	"path"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// borrow finds the files below that a layer has hard links to. Who applies layers
// one upon another links the file that is there; in a stack, the layer needs a copy
// of its own.
func (m *mender) borrow(i int) ([]layer.Borrowed, error) {
	var all []layer.Borrowed
	type file struct {
		layer int
		nid   erofs.NID
	}
	at := map[file]int{}
	linked := map[string]string{} // this layer's links to what is below
	for _, l := range m.base.Layers[i].Links {
		to := string(l.Target)
		if first, ok := linked[to]; ok {
			to = first
		}
		linked[string(l.Name)] = to
		found, target, err := m.target(i, to)
		if err != nil {
			return nil, fmt.Errorf("layer %s: hard link %.300q to %.300q: %w", m.base.Layers[i].DiffID, l.Name, l.Target, err)
		}
		name, err := m.home(i, string(l.Name))
		if err != nil {
			return nil, err
		}
		// An inode is read anew each time; its number is what tells it.
		key := file{found.layer, found.inode.NID}
		n, known := at[key]
		if !known {
			if m.copied += found.inode.Size; m.copied > m.base.store.config.Limits.Bytes {
				return nil, fmt.Errorf("%w of %d bytes", ErrTooLarge, m.base.store.config.Limits.Bytes)
			}
			n = len(all)
			at[key] = n
			all = append(all, layer.Borrowed{Reader: m.readers[found.layer], Inode: found.inode, Paths: []string{target}})
		}
		all[n].Paths = append(all[n].Paths, name)
	}
	return all, nil
}

// target finds the file below a layer that a path means, and its path without
// links to directories.
func (m *mender) target(i int, name string) (*place, string, error) {
	dir, err := m.resolve(i, path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	name = path.Join(dir, path.Base(name))
	stack := m.stack(i)
	parts := strings.Split(name, "/")[1:]
	for n, part := range parts {
		dirs, other, err := m.merge(stack, part)
		if err != nil {
			return nil, "", err
		}
		if n < len(parts)-1 {
			stack = dirs
			continue
		}
		if other != nil && (other.inode.Mode&erofs.ModeType != erofs.ModeChar || other.inode.Rdev != 0) {
			return other, name, nil
		}
		if len(dirs) > 0 {
			return nil, "", fmt.Errorf("%w: it is a directory", ErrMalformed)
		}
	}
	return nil, "", fmt.Errorf("%w: no such file, neither in this layer nor below", ErrMalformed)
}

// home is where a layer's new name goes: into its own directory, or where a link
// below leads.
func (m *mender) home(i int, name string) (string, error) {
	here := m.roots[i]
	for _, part := range strings.Split(path.Dir(name), "/")[1:] {
		if part == "" {
			break
		}
		next, err := m.readers[i].Lookup(here, part)
		if err != nil || next.Mode&erofs.ModeType != erofs.ModeDir {
			dir, err := m.resolve(i, path.Dir(name))
			return path.Join(dir, path.Base(name)), err
		}
		here = next
	}
	return name, nil
}
