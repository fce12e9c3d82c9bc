package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// overlayOptions are those of every overlay besides its directories. Whatever
// the defaults of who mounts it: the same root everywhere, one st_dev for all
// of it.
const overlayOptions = "index=off,metacopy=off,redirect_dir=off,xino=on"

// upperOptions are those of upper.img.
const upperOptions = "discard,noinit_itable"

// Disks is an overlay as whoever has its files for disks can mount it: upper.img
// holds the directories fs and work, upperdir and workdir of overlayfs, or is
// empty, and then fs is to be made with the attributes of Root.
type Disks struct {
	Layers []DiskFile // EROFS, read-only, the lowest first
	Upper  string     // ext4, to be written by nobody else
	// Root is what the merged root directory has for attributes at first.
	Root erofs.Attr
	// Options of overlayfs besides the directories, and of upper.img.
	Options, UpperOptions string
}

// DiskFile is a file that is a disk, its size in bytes a multiple of 4096.
type DiskFile struct {
	Path string
	Size int64
}

// Disks gives the overlay away as disks. Nothing of it is mounted then; as long
// as a QEMU has the disks, [Overlay.Mount] refuses. The caller has a [Store.Hold]
// until the layer images are open.
func (o *Overlay) Disks(ctx context.Context) (Disks, error) {
	d := Disks{
		Upper: filepath.Join(o.Dir, upperName), Root: o.Base.Root,
		Options: overlayOptions, UpperOptions: upperOptions,
	}
	if err := o.Unmount(ctx); err != nil {
		return d, err
	}
	if err := o.detached(ctx); err != nil {
		return d, fmt.Errorf("overlay %s: %w", o.Dir, err)
	}
	// The base may have been pruned since, or its mend alone.
	base, err := o.store.base(ctx, o.Base.DiffIDs)
	if err != nil {
		return d, fmt.Errorf("overlay %s: %w", o.Dir, err)
	}
	images := base.Images()
	if err := checkDepth(len(images)); err != nil {
		return d, fmt.Errorf("overlay %s: %w", o.Dir, err)
	}
	for _, image := range images {
		st, err := os.Stat(image)
		if err != nil {
			return d, fmt.Errorf("overlay %s: %w", o.Dir, err)
		}
		if st.Size()%erofs.BlockSize != 0 {
			return d, fmt.Errorf("layer image %s: %d bytes: %w", filepath.Base(image), st.Size(), ErrCorrupt)
		}
		d.Layers = append(d.Layers, DiskFile{image, st.Size()})
	}
	return d, nil
}

func checkDepth(layers int) error {
	if layers > maxStack {
		return fmt.Errorf("%d layers, of which overlayfs takes %d: %w", layers, maxStack, ErrUnsupported)
	}
	return nil
}

// detached waits until upper.img has no loop device: what the host still writes
// through one, a guest would not know of.
func (o *Overlay) detached(ctx context.Context) error {
	for deadline := time.Now().Add(3 * time.Second); ; {
		device, err := loopOf(filepath.Join(o.Dir, upperName))
		if err != nil || device == "" {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("upper.img is mounted from %s by a process of another mount namespace: %w", device, ErrBusy)
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// The bytes of an image file by which QEMU tells others what it does with it: it
// holds locks (fcntl(2), of open file descriptions) on some of them.
const (
	qemuLocks     = 100
	qemuLocksSize = 200
)

// lockedByQEMU says whether a QEMU has a file for a disk.
func lockedByQEMU(file string) (bool, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Start: qemuLocks, Len: qemuLocksSize}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	if errors.Is(err, unix.EINVAL) {
		return false, nil // a file system without such locks, which QEMU then does without
	}
	if err != nil {
		return false, os.NewSyscallError("fcntl", err)
	}
	return lock.Type != unix.F_UNLCK, nil
}
