package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest/share"
)

// ownDisk is the self-contained disk that the guest was booted from.
type ownDisk struct {
	file  *os.File
	size  int64
	table *gpt.Table
	parts map[string]diskPart // by name
}

type diskPart struct {
	device string
	size   int64
}

// noDisks are block devices that are no disks.
var noDisks = []string{"loop", "ram", "sr", "fd", "dm-", "md", "zram"}

// findOwnDisk looks for a disk by its GUID, or for any that has the partitions.
func findOwnDisk(guid string) (*ownDisk, error) {
	dirs, err := filepath.Glob("/sys/block/*")
	if err != nil {
		return nil, err
	}
	var seen []string
search:
	for _, dir := range dirs {
		name := filepath.Base(dir)
		for _, prefix := range noDisks {
			if strings.HasPrefix(name, prefix) {
				continue search
			}
		}
		seen = append(seen, name)
		d, err := openOwnDisk(name)
		if err != nil {
			continue
		}
		if guid == "" || strings.EqualFold(d.table.UUID(), guid) {
			return d, nil
		}
		d.file.Close()
	}
	return nil, fmt.Errorf("no disk %s with partitions of Slipway: there are %q", guid, seen)
}

const sectorSize = 512

func openOwnDisk(name string) (_ *ownDisk, err error) {
	f, err := os.OpenFile(filepath.Join("/dev", name), os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		f, err = os.Open(filepath.Join("/dev", name))
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	d := &ownDisk{file: f, parts: map[string]diskPart{}}
	if d.table, err = gpt.Read(f, sectorSize, sectorSize); err != nil {
		return nil, err
	}
	if d.size, err = f.Seek(0, 2); err != nil {
		return nil, err
	}
	devices, err := partitionDevices(name)
	if err != nil {
		return nil, err
	}
	for _, p := range d.table.Partitions {
		if device, ok := devices[p.Index]; ok {
			d.parts[p.Name] = diskPart{device, int64(p.Size)}
		}
	}
	for _, want := range []string{share.PartitionSeed, share.PartitionBase, share.PartitionUpper} {
		if _, ok := d.parts[want]; !ok {
			return nil, fmt.Errorf("/dev/%s has no partition %s", name, want)
		}
	}
	return d, nil
}

// partitionDevices are a disk's partitions by number.
func partitionDevices(disk string) (map[int]string, error) {
	files, err := filepath.Glob(filepath.Join("/sys/block", disk, "*/partition"))
	if err != nil {
		return nil, err
	}
	devices := map[int]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return nil, err
		}
		devices[n] = filepath.Join("/dev", filepath.Base(filepath.Dir(file)))
	}
	return devices, nil
}

// growth is the least that a partition grows by, and what its end is a multiple of.
const growth = 1 << 20

// grow gives the last partition what the disk has more than its table says.
func (d *ownDisk) grow() error {
	last := d.table.Partitions[0]
	for _, p := range d.table.Partitions {
		if p.End > last.End {
			last = p
		}
	}
	part := d.parts[last.Name]
	if last.Name != share.PartitionUpper {
		return nil
	}
	d.table.Resize(uint64(d.size / sectorSize * sectorSize))
	end := (int64(d.table.LastDataSector()) + 1) * sectorSize / growth * growth
	start := int64(last.Start) * sectorSize
	if end < start+part.size+growth {
		return nil
	}
	last.End, last.Size = uint64(end/sectorSize-1), uint64(end-start)
	if err := d.table.Write(d.file, d.size/sectorSize*sectorSize); err != nil {
		return err
	}
	if err := changePartition(d.file, unix.BLKPG_RESIZE_PARTITION, last.Index, start, end-start); err != nil {
		return fmt.Errorf("partition %d: %w", last.Index, err)
	}
	d.parts[last.Name] = diskPart{part.device, end - start}
	return nil
}

// resizeExt4 is EXT4_IOC_RESIZE_FS: _IOW('f', 16, __u64).
const resizeExt4 = 0x40086610

const ext4Block = 4096

// growUpper grows the mounted file system to its partition's size.
func growUpper(size int64) error {
	dir, err := os.Open(upperDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return err
	}
	// What the file system shows is less what its own records take.
	if shown := int64(st.Blocks) * st.Bsize; size-shown < size/8 {
		return nil
	}
	blocks := uint64(size / ext4Block)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), resizeExt4, uintptr(unsafe.Pointer(&blocks))); errno != 0 {
		return errno
	}
	return nil
}
