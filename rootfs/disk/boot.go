package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// The boot loader is GRUB, put together by grub-mkimage for this disk alone: all
// that it does is in its image, so that it reads no configuration and shows no menu.

// Files of the EFI system partition.
const (
	efiDir        = "/EFI/BOOT"
	efiFile       = "/EFI/BOOT/BOOTX64.EFI" // what UEFI looks for on a disk
	kernelFile    = "/vmlinuz"
	initramfsFile = "/initrd.img"
)

// grubTarget is a platform of GRUB's.
type grubTarget struct {
	format  string
	from    string // the package that has it
	modules []string
}

var (
	grubBIOS = grubTarget{"i386-pc", "grub-pc-bin", []string{"biosdisk", "part_gpt", "fat", "linux", "boot"}}
	grubUEFI = grubTarget{"x86_64-efi", "grub-efi-amd64-bin", []string{"part_gpt", "fat", "linux", "boot"}}
)

// grubDir is where Debian has GRUB's parts.
const grubDir = "/usr/lib/grub"

// image makes GRUB's image; prefix tells it where its files would be, and so the
// partition that it reads.
func (t grubTarget) image(ctx context.Context, prefix, commandLine string) ([]byte, error) {
	parts := filepath.Join(grubDir, t.format)
	if _, err := os.Stat(parts); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("GRUB for %s: %w: install the package %s, or choose another layout", t.format, ErrMissing, t.from)
	}
	dir, err := os.MkdirTemp("", "slipway-grub-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	config, image := filepath.Join(dir, "config"), filepath.Join(dir, "image")
	commands := fmt.Sprintf("linux %s %s\ninitrd %s\nboot\n", kernelFile, commandLine, initramfsFile)
	if err := os.WriteFile(config, []byte(commands), 0o600); err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, "grub-mkimage", append([]string{
		"--directory", parts, "--format", t.format, "--prefix", prefix, "--config", config, "--output", image,
	}, t.modules...)...)
	c.Env = append(os.Environ(), "LC_ALL=C", "SOURCE_DATE_EPOCH=0")
	if err := run(c, "grub-common"); err != nil {
		return nil, err
	}
	return os.ReadFile(image)
}

// biosBootStart is where the BIOS boot partition begins: it takes what is left
// before the first aligned partition.
const biosBootStart = 2*sectorSize + (tableSectors-1)*sectorSize

// biosBoot writes GRUB's core image, which the boot sector loads.
func (b *builder) biosBoot(ctx context.Context) error {
	if !b.bootsBIOS() {
		return nil
	}
	core, err := grubBIOS.image(ctx, "(,gpt2)/", b.CommandLine)
	if err != nil {
		return err
	}
	if len(core) > alignment-biosBootStart {
		return fmt.Errorf("GRUB's core image has %d bytes", len(core))
	}
	const first = biosBootStart / sectorSize
	b.core = (int64(len(core)) + sectorSize - 1) / sectorSize
	// Its first sector loads the others: where from, how many and to which segment.
	list := core[sectorSize-12 : sectorSize]
	binary.LittleEndian.PutUint64(list, first+1)
	binary.LittleEndian.PutUint16(list[8:], uint16(b.core-1))
	binary.LittleEndian.PutUint16(list[10:], 0x820)
	b.Partitions = append(b.Partitions, &gpt.Partition{
		Index: 1, Start: first, End: alignment/sectorSize - 1, Size: alignment - biosBootStart,
		Type: gpt.BIOSBoot, Name: "BIOS boot", GUID: guid(b.ID, "BIOS boot"),
	})
	_, err = b.file.WriteAt(core, biosBootStart)
	return err
}

// Places in GRUB's boot.img, of include/grub/i386/pc/boot.h.
const (
	bootKernelSector = 0x5c
	bootDriveCheck   = 0x66
	bootCodeEnd      = 0x1b8
)

// bootSector puts GRUB's boot code beside the protective MBR.
func (b *builder) bootSector() error {
	boot, err := os.ReadFile(filepath.Join(grubDir, grubBIOS.format, "boot.img"))
	if err != nil {
		return err
	}
	if len(boot) != sectorSize {
		return fmt.Errorf("GRUB's boot.img has %d bytes", len(boot))
	}
	binary.LittleEndian.PutUint64(boot[bootKernelSector:], biosBootStart/sectorSize)
	// As for every hard disk: what drive the BIOS says it booted is believed.
	copy(boot[bootDriveCheck:], []byte{0x90, 0x90})
	_, err = b.file.WriteAt(boot[:bootCodeEnd], 0)
	return err
}

// efiSystem writes the partition that GRUB reads, under either firmware.
func (b *builder) efiSystem(ctx context.Context) error {
	if b.Layout == LayoutNone {
		return nil
	}
	files := []struct {
		name string
		data []byte
	}{{kernelFile, b.Kernel}, {initramfsFile, b.Initramfs}}
	if b.bootsUEFI() {
		image, err := grubUEFI.image(ctx, "/", b.CommandLine)
		if err != nil {
			return err
		}
		files = append(files, struct {
			name string
			data []byte
		}{efiFile, image})
	}
	size := int64(fatOverhead)
	for _, f := range files {
		size += int64(len(f.data)) + fatCluster
	}
	size = max(align(size+size/256), fatMinimum) // two tables of 2 bytes for each cluster
	start := b.add("EFI system", gpt.EFISystemPartition, size)
	if err := b.file.Truncate(b.end); err != nil {
		return err
	}
	fat, err := makeFAT(b.file, start, size)
	if err != nil {
		return err
	}
	names := []string{}
	if b.bootsUEFI() {
		if err := fat.Mkdir(efiDir); err != nil {
			return err
		}
		names = append(names, efiDir+"/..", efiDir+"/.", path.Dir(efiDir)+"/..", path.Dir(efiDir)+"/.", efiDir, path.Dir(efiDir))
	}
	for _, f := range files {
		w, err := fat.OpenFile(f.name, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return err
		}
		if _, err := w.Write(f.data); err != nil {
			return err
		}
		names = append(names, f.name)
	}
	for _, name := range names {
		if err := fat.Chtimes(name, epoch, epoch, epoch); err != nil {
			return err
		}
	}
	return nil
}

const (
	fatOverhead = 64 << 10 // boot sectors and the root directory
	fatCluster  = 2 << 10
	fatMinimum  = 8 << 20 // FAT16 has 4085 clusters at least
)

// epoch is the first time that FAT knows.
var epoch = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// makeFAT makes an empty file system. go-diskfs 1.9 would have the first cluster be
// the root directory's, which FAT16 has elsewhere, and a label that bears the time.
func makeFAT(disk *os.File, start, size int64) (*fat16.FileSystem, error) {
	storage := file.New(disk, false)
	if _, err := fat16.Create(storage, size, start, sectorSize, "", true); err != nil {
		return nil, err
	}
	boot := make([]byte, sectorSize)
	if _, err := disk.ReadAt(boot, start); err != nil {
		return nil, err
	}
	first := start + int64(binary.LittleEndian.Uint16(boot[14:]))*sectorSize
	table := int64(binary.LittleEndian.Uint16(boot[22:])) * sectorSize
	for _, mend := range []struct{ at, size int64 }{{first + 4, 2}, {first + table + 4, 2}, {first + 2*table, 32}} {
		if _, err := disk.WriteAt(make([]byte, mend.size), mend.at); err != nil {
			return nil, err
		}
	}
	return fat16.Read(storage, size, start, sectorSize)
}
