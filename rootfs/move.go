package rootfs

import (
	"os"
	"slices"
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
	move := func(path string) string {
		for from, to := range moves {
			if rest, ok := strings.CutPrefix(path, from); ok && (rest == "" || rest[0] == '/') {
				return to + rest
			}
		}
		return path
	}
	var info layer.Info
	err := m.image(which, func(f *os.File, uuid [16]byte) (_ int64, err error) {
		info, err = layer.Rewrite(m.readers[i], m.implied[i], move, borrowed, f, uuid)
		return info.Size, err
	})
	if err != nil {
		return err
	}
	m.implied[i] = map[string]bool{}
	for _, p := range info.Implied {
		m.implied[i][p] = true
	}
	return m.open(i, m.base.store.mendImage(m.base.ID, which))
}

// moves finds the directories of a layer that are made up and links below, and
// where those lead. Of nested ones it gives the outermost.
func (m *mender) moves(i int) (map[string]string, error) {
	moves := map[string]string{}
	for _, path := range sortedPaths(m.implied[i]) {
		from, err := m.link(i, path)
		if err != nil {
			return nil, err
		}
		if from == "" || moves[from] != "" {
			continue
		}
		to, err := m.resolve(i, from)
		if err != nil {
			return nil, err
		}
		if to != "" && to != from {
			moves[from] = to
		}
	}
	return moves, nil
}

func sortedPaths(set map[string]bool) []string {
	paths := make([]string, 0, len(set))
	for p := range set {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

// link finds the first directory on a layer's path that is made up and a link
// below; nothing if there is none.
func (m *mender) link(i int, path string) (string, error) {
	stack := m.stack(i)
	here := ""
	for _, name := range strings.Split(path, "/")[1:] {
		here += "/" + name
		dirs, other, err := m.merge(stack, here)
		if err != nil {
			return "", err
		}
		if other != nil && other.inode.Mode&erofs.ModeType == erofs.ModeSymlink && m.implied[i][here] {
			return here, nil
		}
		if len(dirs) == 0 {
			return "", nil
		}
		stack = dirs
	}
	return "", nil
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
		at := "/" + strings.Join(append(slices.Clone(here), name), "/")
		dirs, other, err := m.merge(stacks[len(stacks)-1], at)
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
