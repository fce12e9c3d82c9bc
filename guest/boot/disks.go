package boot

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// Where the layers and upper.img of a root on disks are mounted. The layers are
// numbered: overlayfs' options must fit into one page.
const (
	layersDir = "/run/slipway/layers"
	upperDir  = "/run/slipway/upper"
)

// mountDisks reads the seed into the share's directory and mounts the root
// there.
func mountDisks(seed int64) error {
	disks, err := disksBySerial()
	if err != nil {
		return err
	}
	first, err := disks.find(share.DiskBase + "0")
	if err != nil {
		return err
	}
	if err := extractSeed(first, seed); err != nil {
		return fmt.Errorf("read the seed from %s: %w", first, err)
	}
	d, err := readDisks()
	if err != nil {
		return err
	}
	if err := mountLayers(disks, seed, d.Layers); err != nil {
		return err
	}
	upper, err := disks.find(share.DiskUpper)
	if err != nil {
		return err
	}
	if err := mountUpper(upper, d); err != nil {
		return err
	}
	if err := os.Chdir(layersDir); err != nil {
		return err
	}
	names := make([]string, len(d.Layers))
	for i := range names {
		// overlayfs wants the uppermost first.
		names[i] = strconv.Itoa(len(names) - 1 - i)
	}
	if err := mountOverlay(d, names); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return mountPreloaded(disks)
}

// mountOverShare lays upper.img over the root that the share brings, if it is a
// disk of this guest; else the share's root is all there is.
func mountOverShare() error {
	d, err := readDisks()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	disks, err := disksBySerial()
	if err != nil {
		return err
	}
	upper, err := disks.find(share.DiskUpper)
	if err != nil {
		return err
	}
	if err := mountUpper(upper, d); err != nil {
		return err
	}
	if err := mountOverlay(d, []string{filepath.Join(shareDir, share.RootDir)}); err != nil {
		return err
	}
	return setCapable()
}

func readDisks() (*share.Disks, error) {
	data, err := os.ReadFile(filepath.Join(shareDir, share.DisksFile))
	if err != nil {
		return nil, err
	}
	return share.ParseDisks(data)
}

// diskNames are block devices by serial.
type diskNames map[string]string

func disksBySerial() (diskNames, error) {
	files, err := filepath.Glob("/sys/block/vd*/serial")
	if err != nil {
		return nil, err
	}
	disks := diskNames{}
	for _, file := range files {
		serial, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		disks[strings.TrimSpace(string(serial))] = "/dev/" + filepath.Base(filepath.Dir(file))
	}
	return disks, nil
}

func (d diskNames) find(serial string) (string, error) {
	name, ok := d[serial]
	if !ok {
		return "", fmt.Errorf("there is no disk %s", serial)
	}
	return name, nil
}

// extractSeed unpacks the archive at the disk's beginning: plain files in the
// seed's directory, for they are the host's to write, and nothing else.
func extractSeed(disk string, size int64) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	defer f.Close()
	dir := filepath.Join(shareDir, share.SeedDir)
	for _, d := range []string{dir, filepath.Join(shareDir, share.RootDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	for in := tar.NewReader(io.LimitReader(f, size)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(h.Name)), data, 0o700); err != nil {
			return err
		}
	}
}

// mountLayers makes a partition of each layer image and mounts it.
func mountLayers(disks diskNames, seed int64, sizes []int64) error {
	offset := seed
	var disk *os.File
	for i, size := range sizes {
		number := i%share.LayersPerDisk + 1
		if number == 1 {
			name, err := disks.find(share.DiskBase + strconv.Itoa(i/share.LayersPerDisk))
			if err != nil {
				return err
			}
			if i > 0 {
				disk.Close()
				offset = 0
			}
			if disk, err = os.Open(name); err != nil {
				return err
			}
		}
		if err := addPartition(disk, number, offset, size); err != nil {
			disk.Close()
			return fmt.Errorf("partition %d of %s: %w", number, disk.Name(), err)
		}
		offset += size
		target := filepath.Join(layersDir, strconv.Itoa(i))
		if err := os.MkdirAll(target, 0o700); err != nil {
			disk.Close()
			return err
		}
		m := mount{source: disk.Name() + strconv.Itoa(number), target: target, fstype: "erofs", flags: unix.MS_RDONLY}
		if err := m.do(); err != nil {
			disk.Close()
			return err
		}
	}
	return disk.Close()
}

// blkpgPartition is the kernel's struct blkpg_partition.
type blkpgPartition struct {
	start, length int64 // bytes
	number        int32
	_             [64]byte // names, which nobody reads
	_             [64]byte
	_             [4]byte
}

func addPartition(disk *os.File, number int, start, length int64) error {
	return changePartition(disk, unix.BLKPG_ADD_PARTITION, number, start, length)
}

func changePartition(disk *os.File, op int32, number int, start, length int64) error {
	p := blkpgPartition{start: start, length: length, number: int32(number)}
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(p)), Data: (*byte)(unsafe.Pointer(&p))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, disk.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

// mountUpper mounts upper.img and makes its directories the first time, as a
// host that mounts it does.
func mountUpper(device string, d *share.Disks) error {
	if err := os.MkdirAll(upperDir, 0o700); err != nil {
		return err
	}
	if err := (mount{source: device, target: upperDir, fstype: "ext4", data: d.UpperOptions}).do(); err != nil {
		return err
	}
	root := filepath.Join(upperDir, "fs")
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh := filepath.Join(upperDir, "fs.new")
	for _, dir := range []string{filepath.Join(upperDir, "work"), fresh} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := setAttributes(fresh, &d.Root); err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	return os.Rename(fresh, root)
}

func setAttributes(dir string, a *share.Directory) error {
	if err := unix.Lchown(dir, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	if err := unix.Chmod(dir, a.Mode&0o7777); err != nil {
		return err
	}
	for name, value := range a.Xattrs {
		if err := unix.Lsetxattr(dir, name, value, 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return os.Chtimes(dir, time.Time{}, time.Unix(a.Sec, int64(a.Nsec)))
}

func mountOverlay(d *share.Disks, layers []string) error {
	err := unix.Mount("slipway", filepath.Join(shareDir, share.RootDir), "overlay", 0,
		"lowerdir="+strings.Join(layers, ":")+",upperdir="+upperDir+"/fs,workdir="+upperDir+"/work,"+d.Options)
	if err != nil {
		return fmt.Errorf("overlayfs of %d layers: %w", len(layers), err)
	}
	return nil
}
