package configure

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Device is a block device, and what mount(8) knows it by.
type Device struct {
	Name      string // the kernel's, such as vda1
	Path      string // of its node in the root
	FSType    string
	Label     string
	UUID      string
	PartLabel string
	PartUUID  string
}

// device finds what fstab(5) names so; anything else, such as tmpfs, is passed on.
func (s *System) device(name string) (Device, error) {
	tag, value, tagged := strings.Cut(name, "=")
	of := tags[tag]
	tagged = tagged && of != nil
	value = strings.Trim(value, `"`)
	kernel := strings.TrimPrefix(path.Clean(name), "/dev/")
	devices, err := s.Devices()
	if err != nil {
		return Device{}, err
	}
	i := slices.IndexFunc(devices, func(d Device) bool {
		if tagged {
			return value != "" && strings.EqualFold(of(d), value)
		}
		return d.Name == kernel
	})
	switch {
	case i >= 0:
		return devices[i], nil
	case tagged:
		return Device{}, errors.New("the server has no such device")
	}
	return Device{Path: name}, nil
}

var tags = map[string]func(Device) string{
	"LABEL":     func(d Device) string { return d.Label },
	"UUID":      func(d Device) string { return d.UUID },
	"PARTLABEL": func(d Device) string { return d.PartLabel },
	"PARTUUID":  func(d Device) string { return d.PartUUID },
}

// signature is by what a file system is known, and where it keeps its names.
type signature struct {
	fsType string
	at     int
	magic  string
	label  [2]int // offset and size
	uuid   func(head []byte) string
}

// signatures are those of https://github.com/util-linux/util-linux/tree/master/libblkid
// for what the guest's kernel can mount, and for swap.
var signatures = []signature{
	{"ext4", 0x438, "\x53\xef", [2]int{0x478, 16}, longUUID(0x468)},
	{"iso9660", 0x8001, "CD001", [2]int{0x8028, 32}, isoUUID},
	{"erofs", 0x400, "\xe2\xe1\xf5\xe0", [2]int{0x440, 16}, longUUID(0x430)},
	{"swap", 4086, "SWAPSPACE2", [2]int{0x41c, 16}, longUUID(0x40c)},
	{"xfs", 0, "XFSB", [2]int{0x6c, 12}, longUUID(0x20)},
	{"btrfs", 0x10040, "_BHRfS_M", [2]int{0x1012b, 256}, longUUID(0x10020)},
	{"vfat", 0x52, "FAT32", [2]int{0x47, 11}, shortUUID(0x43)},
	{"vfat", 0x36, "FAT", [2]int{0x2b, 11}, shortUUID(0x27)},
}

// headSize is how much of a device tells all that is looked for.
const headSize = 0x10300

// Identify fills in what the device's content says.
func (d *Device) Identify(content io.ReaderAt) error {
	head := make([]byte, headSize)
	if _, err := content.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, s := range signatures {
		if string(head[s.at:s.at+len(s.magic)]) == s.magic {
			label, _, _ := bytes.Cut(head[s.label[0]:s.label[0]+s.label[1]], []byte{0})
			d.FSType, d.Label, d.UUID = s.fsType, strings.TrimRight(string(label), " "), s.uuid(head)
			return nil
		}
	}
	return nil
}

func longUUID(at int) func([]byte) string {
	return func(head []byte) string {
		h := hex.EncodeToString(head[at : at+16])
		return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
	}
}

// shortUUID is FAT's, a number of 32 bits.
func shortUUID(at int) func([]byte) string {
	return func(head []byte) string {
		return fmt.Sprintf("%02X%02X-%02X%02X", head[at+3], head[at+2], head[at+1], head[at])
	}
}

// isoUUID is the time of creation, or else of the last change.
func isoUUID(head []byte) string {
	const created, modified = 0x832d, 0x833e
	t := string(head[modified : modified+16])
	if strings.Trim(t, "0\x00") == "" {
		t = string(head[created : created+16])
	}
	return strings.Join([]string{t[:4], t[4:6], t[6:8], t[8:10], t[10:12], t[12:14], t[14:16]}, "-")
}
