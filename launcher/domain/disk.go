package domain

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// Disk is a virtio disk of a file on the host.
type Disk struct {
	Path     string // absolute
	Serial   string // by which the guest knows it, 20 characters at most
	Format   Format
	ReadOnly bool
}

// Format is how the file of a disk is read.
type Format string

// The formats.
const (
	FormatRaw  Format = "raw"
	FormatVMDK Format = "vmdk" // of Concatenate
	// FormatQCOW2 is a disk that may be a clone of another.
	FormatQCOW2 Format = "qcow2"
)

func (d Disk) validate() error {
	switch {
	case !filepath.IsAbs(d.Path):
		return fmt.Errorf("disk %q is not an absolute path", d.Path)
	case d.Serial == "" || len(d.Serial) > 20:
		return fmt.Errorf("disk %s: serial %q: 1 to 20 characters", d.Path, d.Serial)
	case d.Format != FormatRaw && d.Format != FormatVMDK && d.Format != FormatQCOW2:
		return fmt.Errorf("disk %s: unknown format %q", d.Path, d.Format)
	}
	return nil
}

func (s Spec) disks() []libvirtxml.DomainDisk {
	var disks []libvirtxml.DomainDisk
	for i, d := range s.Disks {
		disk := libvirtxml.DomainDisk{
			Device: "disk",
			Driver: &libvirtxml.DomainDiskDriver{
				Name: "qemu", Type: string(d.Format),
				// The host's page cache holds a layer image once for all servers;
				// a guest's flush reaches the host's disk.
				Cache: "writeback", Discard: "unmap",
			},
			Source:  &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: d.Path}},
			Target:  &libvirtxml.DomainDiskTarget{Dev: "vd" + string(rune('a'+i)), Bus: "virtio"},
			Serial:  d.Serial,
			Address: s.address(),
		}
		if d.ReadOnly {
			disk.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
			disk.Driver.Discard = ""
		}
		disks = append(disks, disk)
	}
	return disks
}

// Extent is a file that is a part of a disk.
type Extent struct {
	Path string // absolute
	Size int64  // bytes, a multiple of 512
}

// Concatenate describes a read-only disk that is one file after the other, as a
// VMDK descriptor: the one format of QEMU that has a disk of several plain files.
// Whatever their number, they cost the guest a single device.
func Concatenate(extents []Extent) ([]byte, error) {
	// No empty line comes before the extents: QEMU would take the first twice.
	b := bytes.NewBufferString("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"twoGbMaxExtentFlat\"\n")
	if len(extents) == 0 {
		return nil, errors.New("disk of several files: there are none")
	}
	for _, e := range extents {
		switch {
		case !filepath.IsAbs(e.Path) || strings.ContainsAny(e.Path, "\"\r\n") || len(e.Path) > 511:
			return nil, fmt.Errorf("disk of several files: QEMU takes no path such as %q", e.Path)
		case e.Size <= 0 || e.Size%512 != 0:
			return nil, fmt.Errorf("disk of several files: %s: %d bytes are no whole sectors", e.Path, e.Size)
		}
		fmt.Fprintf(b, "RW %d FLAT \"%s\" 0\n", e.Size/512, e.Path)
	}
	return b.Bytes(), nil
}
