package launcher

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher/domain"
	"github.com/slipway-vm/slipway/rootfs"
)

// seedFile is the seed of a root on disks, in the server's directory, where
// baseN.vmdk say what the base disks consist of.
const seedFile = "seed.tar"

// disks are what a guest gets whose root mode is 9p or block.
type disks struct {
	attached []domain.Disk
	seed     int64 // bytes that come before the first layer
}

// makeDisks makes disks of a server's root and of the seed in its share.
func makeDisks(ctx context.Context, dir string, overlay *rootfs.Overlay) (*disks, error) {
	root, err := overlay.Disks(ctx)
	if err != nil {
		return nil, fmt.Errorf("make disks of the root: %w", err)
	}
	d := &disks{}
	seed := filepath.Join(dir, seedFile)
	if d.seed, err = packSeed(seed, filepath.Join(dir, shareDir, guest.SeedDir), &root); err != nil {
		return nil, fmt.Errorf("make disks of the root: %w", err)
	}
	extents := []domain.Extent{{Path: seed, Size: d.seed}}
	number := 0
	for i, l := range root.Layers {
		extents = append(extents, domain.Extent{Path: l.Path, Size: l.Size})
		if (i+1)%guest.LayersPerDisk != 0 && i+1 < len(root.Layers) {
			continue
		}
		b, err := domain.Concatenate(extents)
		if err != nil {
			return nil, fmt.Errorf("make disks of the root: %w", err)
		}
		name := "base" + strconv.Itoa(number)
		file := filepath.Join(dir, name+".vmdk")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return nil, fmt.Errorf("make disks of the root: %w", err)
		}
		d.attached = append(d.attached, domain.Disk{
			Path: file, Serial: guest.DiskBase + strconv.Itoa(number), Format: domain.FormatVMDK, ReadOnly: true,
		})
		extents = nil
		number++
	}
	d.attached = append(d.attached, upperDisk(&root))
	return d, nil
}

// makeUpper makes a disk of what a server has written, and says so in its share.
func makeUpper(ctx context.Context, dir string, overlay *rootfs.Overlay) (*disks, error) {
	root, err := overlay.Disks(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a disk of the server's own: %w", err)
	}
	root.Layers = nil
	list, err := json.Marshal(diskList(&root))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, shareDir, guest.DisksFile), list, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("make a disk of the server's own: %w", err)
	}
	return &disks{attached: []domain.Disk{upperDisk(&root)}}, nil
}

func upperDisk(root *rootfs.Disks) domain.Disk {
	return domain.Disk{Path: root.Upper, Serial: guest.DiskUpper, Format: domain.FormatRaw}
}

// seedBlock is what the seed's size is a multiple of, so that the layer images
// behind it lie in the guest as they do on the host.
const seedBlock = 4096

// packSeed writes the files of the seed's directory, with the list of what is on
// the disks, as a tar archive and gives its size. There is no file system to be
// mounted in it, which the guest would need a driver and time for.
func packSeed(name, dir string, root *rootfs.Disks) (int64, error) {
	list, err := json.Marshal(diskList(root))
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return 0, err
		}
	}
	files[path.Base(guest.DisksFile)] = list
	archive, err := pack(files)
	if err != nil {
		return 0, err
	}
	return int64(len(archive)), os.WriteFile(name, archive, 0o600)
}

// diskList is what the guest is told of the disks.
func diskList(root *rootfs.Disks) *guest.Disks {
	a := &root.Root
	d := &guest.Disks{
		Options: root.Options, UpperOptions: root.UpperOptions,
		Root: guest.Directory{Mode: uint32(a.Mode & 0o7777), UID: a.UID, GID: a.GID, Sec: a.Sec, Nsec: a.Nsec, Xattrs: map[string][]byte{}},
	}
	for _, x := range a.Xattrs {
		d.Root.Xattrs[x.Name] = x.Value
	}
	for _, l := range root.Layers {
		d.Layers = append(d.Layers, l.Size)
	}
	return d
}
