package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// View shows what a base's layers show together, without a mount. It resolves names
// as if the base's root were /.
type View struct {
	images  []*os.File
	readers []*erofs.Reader
	root    []place // the uppermost first
}

// View opens the layers, which the caller has a [Store.Hold] of.
func (b *Base) View() (_ *View, err error) {
	v := &View{}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.Close())
		}
	}()
	for _, name := range b.Images() {
		root, err := v.open(name)
		if err != nil {
			return nil, fmt.Errorf("layer image %s: %w", filepath.Base(name), err)
		}
		v.root = append(v.root, place{layer: len(v.readers) - 1, inode: root})
	}
	slices.Reverse(v.root)
	return v, nil
}

func (v *View) open(name string) (*erofs.Inode, error) {
	image, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	v.images = append(v.images, image)
	r, err := erofs.NewReader(image)
	if err != nil {
		return nil, err
	}
	v.readers = append(v.readers, r)
	return r.Root()
}

// Close closes the layers.
func (v *View) Close() (err error) {
	for _, image := range v.images {
		err = errors.Join(err, image.Close())
	}
	return err
}

// Stat describes the file that name leads to: its mode, owner, device and size.
func (v *View) Stat(name string) (unix.Stat_t, error) {
	found, err := v.resolve(name)
	if err != nil {
		return unix.Stat_t{}, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	if len(found) == 0 { // the root of no layers
		return unix.Stat_t{Mode: unix.S_IFDIR | 0o755}, nil
	}
	i := found[0].inode
	return unix.Stat_t{Mode: uint32(i.Mode), Uid: i.UID, Gid: i.GID, Rdev: uint64(i.Rdev), Size: i.Size}, nil
}

// maxViewed bounds the files that are read.
const maxViewed = 4 << 20

// ReadFile reads a small regular file.
func (v *View) ReadFile(name string) ([]byte, error) {
	found, err := v.resolve(name)
	switch {
	case err != nil:
	case len(found) == 0 || found[0].inode.Mode&erofs.ModeType != erofs.ModeRegular:
		err = errors.New("not a regular file")
	case found[0].inode.Size > maxViewed:
		err = errors.New("file too large")
	default:
		var data []byte
		if data, err = io.ReadAll(v.readers[found[0].layer].Data(found[0].inode)); err == nil {
			return data, nil
		}
	}
	return nil, &os.PathError{Op: "read", Path: name, Err: err}
}

// resolve finds what a name leads to: directories that are merged, or one thing of
// another kind.
func (v *View) resolve(name string) ([]place, error) {
	at := [][]place{v.root} // the directories from the root to here
	rest := strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		here := at[len(at)-1]
		if len(here) > 0 && here[0].inode.Mode&erofs.ModeType != erofs.ModeDir {
			return nil, unix.ENOTDIR
		}
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		found, err := v.lookup(here, part)
		if err != nil {
			return nil, err
		}
		if found[0].inode.Mode&erofs.ModeType != erofs.ModeSymlink {
			at = append(at, found)
			continue
		}
		if links++; links > maxLinks {
			return nil, unix.ELOOP
		}
		target, err := layer.Target(v.readers[found[0].layer], found[0].inode)
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(target, "/") {
			at = at[:1]
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return at[len(at)-1], nil
}

// lookup finds a name in a merged directory.
func (v *View) lookup(stack []place, name string) ([]place, error) {
	n := &flatName{}
	for _, p := range stack {
		i, err := v.readers[p.layer].Lookup(p.inode, name)
		if errors.Is(err, erofs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n.add(place{layer: p.layer, inode: i}, false); n.done {
			break
		}
	}
	if len(n.found) == 0 {
		return nil, unix.ENOENT
	}
	return n.found, nil
}
