package source

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/cloudinit"
)

// mountPoint is where a seed's disk is mounted while it is read.
const mountPoint = "/run/slipway/drive"

// fromDrive reads the disk with a seed; nil if there is none.
func fromDrive() (_ *cloudinit.Seed, err error) {
	dirs, err := filepath.Glob("/sys/class/block/*")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		device := filepath.Join("/dev", filepath.Base(dir))
		label, fstype := labelOf(device)
		if label == "" {
			continue
		}
		if err := os.MkdirAll(mountPoint, 0o700); err != nil {
			return nil, err
		}
		if err := unix.Mount(device, mountPoint, fstype, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
			return nil, fmt.Errorf("mount %s: %w", device, err)
		}
		told, err := read(os.DirFS(mountPoint), label)
		if err != nil {
			err = fmt.Errorf("%s: %w", device, err)
		}
		_ = unix.Unmount(mountPoint, 0)
		return told, err
	}
	return nil, nil
}

func labelOf(device string) (label, fstype string) {
	f, err := os.Open(device)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	return fileSystem(f)
}

// Where the file systems that seeds come in have their signatures and labels.
var signatures = []struct {
	fstype    string
	at        int64
	signature string
	label     int64
	size      int
}{
	{"iso9660", 0x8001, "CD001", 0x8028, 32},
	{"vfat", 0x36, "FAT", 0x2b, 11},
	{"vfat", 0x52, "FAT32", 0x47, 11},
}

// fileSystem tells a seed's file system by its label, in lower case.
func fileSystem(r io.ReaderAt) (label, fstype string) {
	for _, s := range signatures {
		b := make([]byte, len(s.signature))
		if _, err := r.ReadAt(b, s.at); err != nil || string(b) != s.signature {
			continue
		}
		b = make([]byte, s.size)
		if _, err := r.ReadAt(b, s.label); err != nil {
			continue
		}
		label := strings.ToLower(strings.TrimRight(string(b), " \x00"))
		if label == cloudinit.ConfigDriveLabel || label == cloudinit.NoCloudLabel {
			return label, s.fstype
		}
	}
	return "", ""
}

func read(drive fs.FS, label string) (*cloudinit.Seed, error) {
	if label == cloudinit.ConfigDriveLabel {
		return cloudinit.ParseConfigDrive(drive)
	}
	s := new(cloudinit.Seed)
	data, err := fs.ReadFile(drive, cloudinit.MetaDataFile)
	if err == nil {
		s.MetaData, err = cloudinit.ParseMetaData(data)
	}
	if err != nil {
		return nil, err
	}
	if s.MetaData.InstanceID == "" {
		s.MetaData.InstanceID = "nocloud"
	}
	s.UserData, _ = fs.ReadFile(drive, cloudinit.UserDataFile)
	s.VendorData, _ = fs.ReadFile(drive, cloudinit.VendorDataFile)
	return s, nil
}
