package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/google/uuid"
)

// Layout says what firmware a disk is for.
type Layout string

// The layouts.
const (
	LayoutBIOS Layout = "bios"
	LayoutUEFI Layout = "uefi"
	LayoutBoth Layout = "both"
	LayoutNone Layout = "none" // the kernel does not come from the disk
)

// Layouts are all of them.
var Layouts = []Layout{LayoutBIOS, LayoutUEFI, LayoutBoth, LayoutNone}

// Errors.
var (
	ErrLayout = errors.New("unknown layout: use bios, uefi, both or none")
	ErrSize   = errors.New("disk too small")
	// ErrMissing is matched where the host lacks a tool; the text says which package
	// has it.
	ErrMissing = errors.New("missing on this host")
)

// Names of partitions, by which a guest finds them.
const (
	SeedName  = "slipway-seed"
	BaseName  = "slipway-base"
	UpperName = "slipway-upper"
)

// Spec is what a disk is made of.
type Spec struct {
	Layout Layout
	// ID is what all identifiers are derived from.
	ID [16]byte
	// Kernel is a bzImage. It, the initramfs and the command line are not on a disk
	// for LayoutNone.
	Kernel, Initramfs []byte
	CommandLine       string
	Seed              []byte
	// Base writes the file system of slipway-base and gives its size.
	Base func(io.WriterAt) (int64, error)
	// Upper is a file with the file system of slipway-upper; an empty one is made
	// where it is empty.
	Upper string
	// Size is the disk's in bytes; 0 means as small as possible.
	Size int64
}

const (
	sectorSize = 512
	// Partitions begin at multiples of it.
	alignment = 1 << 20
	// tableSectors are the sectors that the table takes at either end of a disk,
	// beside the protective MBR.
	tableSectors = 33
)

// GUID is the disk's GUID.
func GUID(id [16]byte) string { return guid(id, "disk") }

// guid derives an identifier; it has the form of a random one.
func guid(id [16]byte, name string) string {
	sum := sha256.Sum256(append(id[:], name...))
	u := uuid.UUID(sum[:16])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u.String()
}

// builder writes a disk from its beginning.
type builder struct {
	Spec
	file *os.File
	end  int64 // of what has been laid out, a multiple of alignment
	gpt.Table
	core int64 // sectors of GRUB's core image in the BIOS boot partition
}

// Write makes the disk in f, an empty file, which becomes sparse.
func Write(ctx context.Context, f *os.File, s Spec) error {
	if !slices.Contains(Layouts, s.Layout) {
		return fmt.Errorf("layout %q: %w", s.Layout, ErrLayout)
	}
	b := &builder{Spec: s, file: f, end: alignment, Table: gpt.Table{
		LogicalSectorSize: sectorSize, PhysicalSectorSize: sectorSize, GUID: GUID(s.ID), ProtectiveMBR: true,
	}}
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"BIOS boot partition", b.biosBoot},
		{"EFI system partition", b.efiSystem},
		{"seed", b.seed},
		{"base", b.base},
		{"upper", b.upper},
		{"partition table", b.table},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("write disk: %s: %w", step.name, err)
		}
	}
	return nil
}

// add lays out a partition behind the last one and gives where it begins.
func (b *builder) add(name string, kind gpt.Type, size int64) int64 {
	start := b.end
	b.end = align(start + size)
	b.Partitions = append(b.Partitions, &gpt.Partition{
		Index: len(b.Partitions) + 1,
		Start: uint64(start / sectorSize), End: uint64(b.end/sectorSize) - 1, Size: uint64(b.end - start),
		Type: kind, Name: name, GUID: guid(b.ID, name),
	})
	return start
}

func align(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

func (b *builder) seed(context.Context) error {
	_, err := b.file.WriteAt(b.Seed, b.add(SeedName, gpt.LinuxFilesystem, int64(len(b.Seed))))
	return err
}

func (b *builder) base(context.Context) error {
	size, err := b.Base(io.NewOffsetWriter(b.file, b.end))
	if err != nil {
		return err
	}
	b.add(BaseName, gpt.LinuxFilesystem, size)
	return nil
}

// table writes the partition table, when the last partition has all the room that
// is left.
func (b *builder) table(ctx context.Context) error {
	size := b.end + alignment // for the table's copy
	if err := b.file.Truncate(size); err != nil {
		return err
	}
	if err := b.Write(b.file, size); err != nil {
		return err
	}
	if !b.bootsBIOS() {
		return nil
	}
	return b.bootSector()
}

func (b *builder) bootsBIOS() bool { return b.Layout == LayoutBIOS || b.Layout == LayoutBoth }

func (b *builder) bootsUEFI() bool { return b.Layout == LayoutUEFI || b.Layout == LayoutBoth }
