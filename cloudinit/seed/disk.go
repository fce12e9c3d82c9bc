package seed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"github.com/slipway-vm/slipway/cloudinit"
)

// FileSystem is what a disk is formatted with.
type FileSystem string

// The file systems of seeds on disks.
const (
	ISO9660 FileSystem = "iso9660"
	FAT     FileSystem = "vfat"
)

// fatSize is a FAT disk's, sparse: FAT16 takes no less than 4 MiB, and user-data no
// more than this.
const fatSize = 16 << 20

// WriteDisk writes the seed as a disk image without partitions, over what is there:
// a config drive where label is cloudinit.ConfigDriveLabel, NoCloud's files where it
// is cloudinit.NoCloudLabel. A reader finds the old disk or the new one.
func WriteDisk(name string, kind FileSystem, label string, s *cloudinit.Seed) (err error) {
	encode := s.Files
	if label == cloudinit.ConfigDriveLabel {
		encode = s.ConfigDrive
	}
	files, err := encode()
	if err != nil {
		return fmt.Errorf("write seed %s: %w", name, err)
	}
	// The library wants to make the file itself.
	dir, err := os.MkdirTemp(filepath.Dir(name), ".seed-")
	if err != nil {
		return fmt.Errorf("write seed: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tmp := filepath.Join(dir, "disk")
	switch kind {
	case ISO9660:
		err = writeISO(tmp, filepath.Join(dir, "files"), label, files)
	case FAT:
		err = writeFAT(tmp, label, files)
	default:
		err = fmt.Errorf("unknown file system %q", kind)
	}
	if err == nil {
		err = os.Chmod(tmp, 0o600) // user data can hold secrets
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	if err != nil {
		return fmt.Errorf("write seed %s: %w", name, err)
	}
	return nil
}

// writeISO writes names with Rock Ridge, which Linux takes, and Joliet, which others
// do. The files are gathered in the directory tree, which the library removes.
func writeISO(name, tree, label string, files map[string][]byte) error {
	for f, data := range files {
		to := filepath.Join(tree, filepath.FromSlash(f))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	disk, err := file.CreateFromPath(name, 1)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	iso, err := iso9660.Create(disk, 0, 0, 2048, tree)
	if err != nil {
		return err
	}
	err = iso.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, VolumeIdentifier: label})
	return errors.Join(err, disk.Close())
}

func writeFAT(name, label string, files map[string][]byte) error {
	disk, err := file.CreateFromPath(name, fatSize)
	if err != nil {
		return err
	}
	defer func() { _ = disk.Close() }()
	// No label of FAT has small letters; cloud-init looks for either.
	fat, err := fat16.Create(disk, fatSize, 0, 512, strings.ToUpper(label), false)
	if err != nil {
		return err
	}
	for _, f := range slices.Sorted(maps.Keys(files)) {
		if dir := path.Dir(f); dir != "." {
			if err := fat.Mkdir(dir); err != nil {
				return err
			}
		}
		w, err := fat.OpenFile(f, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		_, err = w.Write(files[f])
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
	}
	return errors.Join(fat.Close(), disk.Close())
}

// ErrNoSeed is matched where a disk holds no seed.
var ErrNoSeed = errors.New("no seed: the disk has neither of the labels " + cloudinit.NoCloudLabel + " and " + cloudinit.ConfigDriveLabel)

// ReadDisk reads the seed of a disk, which must not have partitions. The content is
// a stranger's.
func ReadDisk(disk *os.File) (s *cloudinit.Seed, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("read seed %s: %v", disk.Name(), v)
		}
	}()
	label, open, err := probe(disk)
	if err != nil {
		return nil, err
	}
	size, err := disk.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	fsys, err := open(disk, size)
	if err != nil {
		return nil, fmt.Errorf("read seed %s: %w", disk.Name(), err)
	}
	if s, err = cloudinit.ParseSeed(label, fsys); err != nil {
		return nil, fmt.Errorf("read seed %s: %w", disk.Name(), err)
	}
	return s, nil
}

type opener func(disk *os.File, size int64) (fs.FS, error)

// probe finds out what seed a disk holds, by its label.
func probe(disk *os.File) (label string, open opener, err error) {
	head := make([]byte, 0x8800)
	if _, err := disk.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return "", nil, err
	}
	switch {
	case string(head[0x8001:0x8006]) == "CD001":
		label, open = string(head[0x8028:0x8048]), openISO
	case head[510] != 0x55 || head[511] != 0xaa:
	case string(head[0x52:0x57]) == "FAT32":
		label, open = string(head[0x47:0x52]), openFAT32
	case string(head[0x36:0x3b]) == "FAT16":
		label, open = string(head[0x2b:0x36]), openFAT16
	case string(head[0x36:0x39]) == "FAT":
		label, open = string(head[0x2b:0x36]), openFAT12
	}
	label = strings.ToLower(strings.TrimRight(label, " \x00"))
	if label != cloudinit.NoCloudLabel && label != cloudinit.ConfigDriveLabel {
		return "", nil, fmt.Errorf("%s: %w", disk.Name(), ErrNoSeed)
	}
	return label, open, nil
}

func openISO(disk *os.File, size int64) (fs.FS, error) {
	return opened(iso9660.Read(file.New(disk, true), size, 0, 2048))
}

func openFAT32(disk *os.File, size int64) (fs.FS, error) {
	return opened(fat32.Read(file.New(disk, true), size, 0, 0))
}

func openFAT16(disk *os.File, size int64) (fs.FS, error) {
	return opened(fat16.Read(file.New(disk, true), size, 0, 0))
}

func openFAT12(disk *os.File, size int64) (fs.FS, error) {
	return opened(fat12.Read(file.New(disk, true), size, 0, 0))
}

// opened keeps a nil pointer from becoming a file system.
func opened[F filesystem.FileSystem](f F, err error) (fs.FS, error) {
	if err != nil {
		return nil, err
	}
	return onDisk{f}, nil
}

// onDisk says of a missing file that it is missing, which not all of the library's
// file systems do.
type onDisk struct{ filesystem.FileSystem }

// Open implements fs.FS.
func (d onDisk) Open(name string) (fs.File, error) {
	dir, base := path.Split(name)
	entries, err := d.ReadDir(path.Clean(dir))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == base }) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return d.FileSystem.Open(name)
}
