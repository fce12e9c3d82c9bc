package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// Overlay is one server's clone of a base, in a directory of the server's:
//
//	upper.img     what the server wrote: ext4 with the directories fs and work
//	overlay.json  which base it belongs to
//	upper, l      while mounted: upper.img, and a link to the base's stack
type Overlay struct {
	Dir  string
	Base *Base
	// Size bounds upper.img.
	Size int64
	// ID tells the overlay's mounts from those of others.
	ID string

	store *Store
}

type overlayRecord struct {
	Version int       `json:"version"`
	ID      string    `json:"id"`
	DiffIDs []v1.Hash `json:"diff_ids"`
	Size    int64     `json:"size"`
}

const (
	upperName  = "upper.img"
	recordName = "overlay.json"

	// maxStack is how many layers overlayfs takes. The link's short name lets
	// the names of so many fit into the page that mount options may be.
	maxStack = 500
)

// Create clones a base into dir, which must exist and hold no overlay. On
// error nothing of it stays. The record comes last: without it there is no
// overlay.
func (s *Store) Create(ctx context.Context, dir string, base *Base, size int64) (_ *Overlay, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("create overlay in %s: %w", dir, err)
		}
	}()
	if size < MinUpper {
		return nil, fmt.Errorf("size %d: at least %d bytes are needed", size, MinUpper)
	}
	if dir, err = existingDir(dir); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, recordName)); err == nil {
		return nil, fs.ErrExist
	}
	size = erofsAlign(size)
	template, err := s.template(ctx, size)
	if err != nil {
		return nil, err
	}
	from, err := os.Open(template)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	// What a crash left under this name is no overlay's.
	upper := filepath.Join(dir, upperName)
	f, err := os.OpenFile(upper, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err = clone(f, from); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(upper))
	}
	r := overlayRecord{Version: 1, ID: randomID(), DiffIDs: base.DiffIDs, Size: size}
	if err := content.WriteRecord(dir, filepath.Join(dir, recordName), r); err != nil {
		return nil, errors.Join(err, os.Remove(upper))
	}
	return &Overlay{Dir: dir, Base: base, Size: size, ID: r.ID, store: s}, nil
}

// existingDir gives a directory's name as the kernel shows it in its list of
// mounts.
func existingDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir, err
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return dir, err
	}
	return resolved, nil
}

func erofsAlign(n int64) int64 { return (n + erofs.BlockSize - 1) / erofs.BlockSize * erofs.BlockSize }

// Overlay opens the overlay that Create made in dir.
func (s *Store) Overlay(dir string) (*Overlay, error) {
	dir, err := existingDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("overlay in %s: %w", dir, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("overlay: %w", err)
	}
	var r overlayRecord
	err = content.ReadRecord(filepath.Join(dir, recordName), &r)
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("overlay in %s: %w", dir, ErrNotFound)
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("overlay in %s: record: %w", dir, ErrCorrupt)
	case err != nil:
		return nil, fmt.Errorf("overlay in %s: %w", dir, err)
	}
	base, err := s.Base(r.DiffIDs)
	if err != nil {
		return nil, fmt.Errorf("overlay in %s: %w", dir, err)
	}
	return &Overlay{Dir: dir, Base: base, Size: r.Size, ID: r.ID, store: s}, nil
}

// source marks a mount as this store's, and tells the stack it holds and
// whose it is.
func (o *Overlay) source() string { return o.store.sourcePrefix() + o.Base.ID + "-" + o.ID }

func (s *Store) sourcePrefix() string { return "slipway-" + s.id + "-" }

// Mount shows the merged tree at target, which is made if missing. Mounting
// what is mounted there does nothing.
func (o *Overlay) Mount(ctx context.Context, target string) error {
	return o.mountAt(ctx, target, (*Overlay).mountUpper)
}

// MountBase shows at target what the overlay is of, read-only, without what was
// written to it: that is upper.img, which [Overlay.Disks] gives.
func (o *Overlay) MountBase(ctx context.Context, target string) error {
	return o.mountAt(ctx, target, nil)
}

func (o *Overlay) mountAt(ctx context.Context, target string, upper func(*Overlay, map[string]bool) error) (err error) {
	s := o.store
	release, err := s.locks.Acquire(ctx, lockMounts)
	if err != nil {
		return fmt.Errorf("mount overlay %s: %w", o.Dir, err)
	}
	defer release()
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("mount overlay %s: %w", o.Dir, err)
	}
	if target, err = existingDir(target); err != nil {
		return fmt.Errorf("mount overlay %s: %w", o.Dir, err)
	}
	points, err := mountinfo.GetMounts(nil)
	if err != nil {
		return fmt.Errorf("mount overlay %s: %w", o.Dir, err)
	}
	for _, p := range points {
		if p.Mountpoint == target && p.Source == o.source() {
			return nil
		}
	}
	// The base may have been pruned since, or its mend alone.
	base, err := s.base(ctx, o.Base.DiffIDs)
	if err != nil {
		return fmt.Errorf("mount overlay %s: %w", o.Dir, err)
	}
	if err := o.mount(base, points, target, upper); err != nil {
		err = fmt.Errorf("mount overlay %s: %w", o.Dir, err)
		return errors.Join(err, unmount(o.upper()), s.releaseLayers())
	}
	return nil
}

func (o *Overlay) upper() string { return filepath.Join(o.Dir, "upper") }

func (o *Overlay) lower() string { return filepath.Join(o.Dir, "l") }

// empty is a directory below layers that overlayfs would not take alone.
func (o *Overlay) empty() string { return filepath.Join(o.Dir, "e") }

func (o *Overlay) mount(base *Base, points []*mountinfo.Info, target string, upper func(*Overlay, map[string]bool) error) error {
	mounted := map[string]bool{}
	for _, p := range points {
		mounted[p.Mountpoint] = true
	}
	if upper != nil {
		if err := upper(o, mounted); err != nil {
			return err
		}
	}
	s := o.store
	if err := s.mountStack(base, mounted); err != nil {
		return err
	}
	if err := os.Remove(o.lower()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(s.path("stacks", o.Base.ID), o.lower()); err != nil {
		return err
	}
	names := make([]string, len(base.stack))
	for i := range names {
		// overlayfs wants the uppermost first.
		names[i] = "l/" + strconv.Itoa(len(names)-1-i)
	}
	if err := checkDepth(len(names)); err != nil {
		return err
	}
	if upper == nil && len(names) == 1 {
		if err := os.MkdirAll(o.empty(), 0o700); err != nil {
			return err
		}
		names = append(names, filepath.Base(o.empty()))
	}
	options := "lowerdir=" + strings.Join(names, ":") + "," + overlayOptions
	if upper != nil {
		options += ",upperdir=upper/fs,workdir=upper/work"
	}
	if err := mountFrom(o.Dir, o.source(), target, options); err != nil {
		return fmt.Errorf("overlayfs of %d layers: %w", len(names), err)
	}
	return nil
}

// mountUpper mounts upper.img and, the first time, gives the root directory
// the attributes it has in the image.
func (o *Overlay) mountUpper(mounted map[string]bool) error {
	target := o.upper()
	if err := os.MkdirAll(target, 0o700); err != nil {
		return err
	}
	if !mounted[target] {
		if err := o.attachUpper(target); err != nil {
			return err
		}
	}
	root := filepath.Join(target, "fs")
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := filepath.Join(target, "fs.new")
	for _, d := range []string{filepath.Join(target, "work"), fresh} {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := setAttr(fresh, &o.Base.Root); err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	return os.Rename(fresh, root)
}

// attachUpper mounts upper.img. A second loop device of one file would be a
// second, unknowing file system on the same bytes, so the one that the last mount
// has left is waited for, or used again: a process that copied our mounts into a
// namespace of its own can keep it for as long as it likes, and a device that is
// mounted twice is one file system.
func (o *Overlay) attachUpper(target string) error {
	image := filepath.Join(o.Dir, upperName)
	locked, err := lockedByQEMU(image)
	if err != nil {
		return fmt.Errorf("upper.img: %w", err)
	}
	if locked {
		return fmt.Errorf("upper.img is a disk of a running QEMU: %w", ErrBusy)
	}
	for deadline := time.Now().Add(300 * time.Millisecond); ; time.Sleep(10 * time.Millisecond) {
		device, err := loopOf(image)
		if err != nil {
			return fmt.Errorf("upper.img: %w", err)
		}
		if device == "" {
			break
		}
		if time.Now().Before(deadline) {
			continue
		}
		err = mountUpper(device, target)
		if !errors.Is(err, unix.ENXIO) { // else it went this moment
			return err
		}
	}
	loop, err := attachLoop(image, false)
	if err != nil {
		return fmt.Errorf("upper.img: %w", err)
	}
	defer loop.Close()
	return mountUpper(loop.Name(), target)
}

func mountUpper(device, target string) error {
	err := unix.Mount(device, target, "ext4", unix.MS_NODEV|unix.MS_NOSUID, upperOptions)
	if err != nil {
		return fmt.Errorf("mount upper.img: %w", err)
	}
	return nil
}

// setAttr gives a directory the attributes of the image's root.
func setAttr(dir string, a *erofs.Attr) error {
	if err := unix.Lchown(dir, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	if err := unix.Chmod(dir, uint32(a.Mode&0o7777)); err != nil {
		return err
	}
	for _, x := range a.Xattrs {
		if err := unix.Lsetxattr(dir, x.Name, x.Value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	return os.Chtimes(dir, time.Time{}, time.Unix(a.Sec, int64(a.Nsec)))
}

// Unmount undoes Mount, wherever the overlay is mounted, and releases the
// layer images nobody else uses. What is not mounted is no error.
func (o *Overlay) Unmount(ctx context.Context) error {
	s := o.store
	release, err := s.locks.Acquire(ctx, lockMounts)
	if err != nil {
		return fmt.Errorf("unmount overlay %s: %w", o.Dir, err)
	}
	defer release()
	if err := o.unmount(); err != nil {
		return fmt.Errorf("unmount overlay %s: %w", o.Dir, err)
	}
	return nil
}
