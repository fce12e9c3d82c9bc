package layer

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// node is one name's file. Hard links share a node.
type node struct {
	mode   uint16
	links  uint32
	nid    erofs.NID
	target string // of a symbolic link
	dir    *dir   // of a directory
}

func (n *node) whiteout() bool { return n != nil && n.mode == erofs.ModeChar && n.nid == 0 }

// whiteout stands for every whiteout until the image is finished; all are one
// inode.
func newWhiteout() *node { return &node{mode: erofs.ModeChar} }

type dir struct {
	attr     erofs.Attr
	children map[string]*node
	opaque   bool
	implied  bool
}

func newDir() *dir {
	return &dir{attr: erofs.Attr{Mode: erofs.ModeDir | 0o755}, implied: true}
}

func (d *dir) set(name string, n *node) {
	if d.children == nil {
		d.children = map[string]*node{}
	}
	d.children[name] = n
}

const (
	maxPath    = 4095 // PATH_MAX without its NUL
	maxFollows = 40   // as Linux
)

var (
	errMissing = errors.New("no such file in this layer")
	errLoop    = errors.New("too many levels of symbolic links")
)

// split cleans an entry's name as if the layer's root were "/": no name leads
// out of it. The root itself gives nothing.
func split(name string) ([]string, error) {
	if len(name) > maxPath {
		return nil, fmt.Errorf("name of %d bytes: %w", len(name), erofs.ErrUnrepresentable)
	}
	if strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("name with a zero byte: %w", erofs.ErrUnrepresentable)
	}
	clean := path.Clean("/" + name)[1:]
	if clean == "" {
		return nil, nil
	}
	parts := strings.Split(clean, "/")
	for _, p := range parts {
		if len(p) > erofs.MaxName {
			return nil, fmt.Errorf("name of %d bytes: %w", len(p), erofs.ErrUnrepresentable)
		}
	}
	return parts, nil
}

// walk goes to the directory that parts name, following links inside the
// tree. With create, what is missing is made, and what is no directory is
// replaced by one; a made directory is counted by grow.
func (t *tree) walk(parts []string, create bool) (*dir, error) {
	stack := []*dir{t.root}
	follows := 0
	for len(parts) > 0 {
		name := parts[0]
		parts = parts[1:]
		here := stack[len(stack)-1]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(stack) > 1 {
				stack = stack[:len(stack)-1]
			}
			continue
		}
		n := here.children[name]
		switch {
		case n != nil && n.dir != nil:
			stack = append(stack, n.dir)
		case n != nil && n.target != "":
			if follows++; follows > maxFollows {
				return nil, errLoop
			}
			if strings.HasPrefix(n.target, "/") {
				stack = stack[:1]
			}
			parts = append(strings.Split(n.target, "/"), parts...)
		case !create:
			return nil, errMissing
		default:
			if err := t.grow(); err != nil {
				return nil, err
			}
			if len(name) > erofs.MaxName || len(stack) > maxPath/2 {
				return nil, fmt.Errorf("directory %.300q: %w", name, erofs.ErrUnrepresentable)
			}
			d := newDir()
			if n.whiteout() {
				// Removed and made anew: nothing below has a say.
				d.opaque, d.implied = true, false
			}
			t.place(here, name, &node{mode: erofs.ModeDir, dir: d})
			stack = append(stack, d)
		}
	}
	return stack[len(stack)-1], nil
}

// parent gives the directory of an entry, made if missing, and its last name.
func (t *tree) parent(parts []string) (*dir, string, error) {
	d, err := t.walk(parts[:len(parts)-1], true)
	return d, parts[len(parts)-1], err
}

// lookup finds an entry without following a link in its last name.
func (t *tree) lookup(parts []string) (*node, error) {
	if len(parts) == 0 {
		return &node{mode: erofs.ModeDir, dir: t.root}, nil
	}
	d, err := t.walk(parts[:len(parts)-1], false)
	if err != nil {
		return nil, err
	}
	n := d.children[parts[len(parts)-1]]
	if n == nil || n.whiteout() {
		return nil, errMissing
	}
	return n, nil
}

// place puts a node at a name, over whatever the layer had there.
func (t *tree) place(d *dir, name string, n *node) {
	if old := d.children[name]; old != nil {
		t.drop(old)
	}
	n.links++
	d.set(name, n)
}

// drop takes one link from a node, and from everything below it.
func (t *tree) drop(n *node) {
	n.links--
	if n.dir == nil {
		return
	}
	for _, child := range n.dir.children {
		t.drop(child)
	}
}
