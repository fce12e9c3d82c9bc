package main

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
	"github.com/slipway-vm/slipway/guest/configure"
)

// devices lists the guest's block devices, and makes their nodes, which containers
// do not have.
func devices() ([]configure.Device, error) {
	entries, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return nil, err
	}
	var list []configure.Device
	for _, e := range entries {
		about, err := uevent(filepath.Join("/sys/class/block", e.Name(), "uevent"))
		if err != nil {
			return nil, err
		}
		d := configure.Device{Name: e.Name(), Path: filepath.Join("/dev", e.Name()), PartLabel: about["PARTNAME"], PartUUID: about["PARTUUID"]}
		if err := makeNode(d.Path, about); err != nil {
			return nil, err
		}
		if content, err := os.Open(d.Path); err == nil { // a loop device without a file cannot be
			err = d.Identify(content)
			_ = content.Close()
			if err != nil {
				continue
			}
		}
		list = append(list, d)
	}
	return list, nil
}

func makeNode(path string, about map[string]string) error {
	major, err := strconv.ParseUint(about["MAJOR"], 10, 32)
	if err != nil {
		return err
	}
	minor, err := strconv.ParseUint(about["MINOR"], 10, 32)
	if err != nil {
		return err
	}
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mknod", Path: path, Err: err}
	}
	return nil
}

// uevent reads what the kernel says of a device.
func uevent(name string) (map[string]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	about := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		about[key] = value
	}
	return about, lines.Err()
}

// seedLabels are those of disks with a seed. FAT has capital letters only.
var seedLabels = []string{cloudinit.NoCloudLabel, cloudinit.ConfigDriveLabel}

// diskSeed reads the seed of a disk that is known by its label; nil where there is
// none. NoCloud comes first, as with cloud-init.
func diskSeed() (*cloudinit.Seed, error) {
	list, err := devices()
	if err != nil {
		return nil, err
	}
	for _, label := range seedLabels {
		i := slices.IndexFunc(list, func(d configure.Device) bool { return strings.EqualFold(d.Label, label) })
		if i < 0 {
			continue
		}
		disk, err := os.Open(list[i].Path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = disk.Close() }()
		return seed.ReadDisk(disk)
	}
	return nil, nil
}
