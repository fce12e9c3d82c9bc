package rootfs

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// moveAll replaces the layers that have files in what is a link below, or hard
// links to files below, from the bottom, and gives their places in the stack.
func (m *mender) moveAll() ([]int, error) {
	var moved []int
	for i := range m.roots {
		moves, err := m.moves(i)
		if err != nil {
			return nil, err
		}
		borrowed, err := m.borrow(i)
		if err != nil {
			return nil, err
		}
		if len(moves) == 0 && len(borrowed) == 0 {
			continue
		}
		if err := m.replace(i, moves, borrowed); err != nil {
			return nil, err
		}
		moved = append(moved, i)
	}
	return moved, nil
}

// replace makes the layer that has everything where the moves lead, and goes
// on with that one.
func (m *mender) replace(i int, moves map[string]string, borrowed []layer.Borrowed) error {
	which := strconv.Itoa(i)
	_, err := m.image(which, func(f *os.File, uuid [16]byte) (int64, error) {
		info, err := layer.Rewrite(m.readers[i], mover(moves), borrowed, f, uuid, mendBudget{m.memory})
		m.implied[i] = info.Implied
		return info.Size, err
	})
	if err != nil {
		return err
	}
	return m.open(i, m.base.store.mendImage(m.base.ID, which))
}

// mover says where paths go.
func mover(moves map[string]string) func(string) string {
	return func(path string) string {
		if len(moves) == 0 {
			return path
		}
		for end := range len(path) + 1 {
			if end < len(path) && path[end] != '/' {
				continue
			}
			if to, ok := moves[path[:end]]; ok {
				return to + path[end:]
			}
		}
		return path
	}
}

// maxMoves bounds the paths of directories that are links below.
const maxMoves = 4 << 20

// moves finds the directories of a layer that are made up and links below, and
// where those lead. Of nested ones it gives the outermost.
func (m *mender) moves(i int) (map[string]string, error) {
	moves := map[string]string{}
	if m.implied[i] == 0 {
		return moves, nil
	}
	named := 0
	return moves, m.findLinks(i, m.roots[i], m.stack(i), "", func(from string) error {
		to, err := m.resolve(i, from)
		if err != nil || to == "" || to == from {
			return err
		}
		moves[from] = to
		if named += len(from) + len(to); named > maxMoves {
			return fmt.Errorf("%w of %d bytes of names of directories that are links in layers below", ErrTooLarge, maxMoves)
		}
		return nil
	})
}

// findLinks goes through a layer's directories beside what is below them, and finds
// those that are made up and links below.
func (m *mender) findLinks(i int, dir *erofs.Inode, stack []place, path string, found func(path string) error) error {
	for e, err := range m.readers[i].Entries(dir) {
		if err != nil {
			return err
		}
		if e.Mode != erofs.ModeDir {
			continue
		}
		name := string(e.Name)
		dirs, other, err := m.merge(stack, name)
		if err != nil {
			return err
		}
		symlink := other != nil && other.inode.Mode&erofs.ModeType == erofs.ModeSymlink
		if len(dirs) == 0 && !symlink {
			continue
		}
		inode, err := m.readers[i].Inode(e.NID)
		if err != nil {
			return err
		}
		switch {
		case len(dirs) > 0:
			err = m.findLinks(i, inode, dirs, path+"/"+name, found)
		case layer.Implied(inode):
			err = found(path + "/" + name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maxLinks is how many links Linux follows.
const maxLinks = 40

// resolve follows the links on a path in the layers below one. What is not
// there is taken as a directory to be made; of links in a circle it gives nothing.
func (m *mender) resolve(below int, path string) (string, error) {
	parts := strings.Split(path, "/")
	stacks, here := [][]place{m.stack(below)}, []string{}
	for links := 0; len(parts) > 0; {
		name := parts[0]
		parts = parts[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(here) > 0 {
				here, stacks = here[:len(here)-1], stacks[:len(stacks)-1]
			}
			continue
		}
		dirs, other, err := m.merge(stacks[len(stacks)-1], name)
		if err != nil {
			return "", err
		}
		if other == nil || other.inode.Mode&erofs.ModeType != erofs.ModeSymlink {
			here, stacks = append(here, name), append(stacks, dirs)
			continue
		}
		if links++; links > maxLinks {
			return "", nil
		}
		target, err := layer.Target(m.readers[other.layer], other.inode)
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(target, "/") {
			here, stacks = here[:0], stacks[:1]
		}
		parts = append(strings.Split(target, "/"), parts...)
	}
	return "/" + strings.Join(here, "/"), nil
}
