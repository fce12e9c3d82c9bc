package share

import (
	"encoding/json"
	"fmt"
)

// In the root modes 9p and block the guest has disks, which it knows by their
// serials. In the mode 9p there is but one, upper.img, and the share's RootDir is what
// it is laid over. In the mode block there is no share. The base disks hold one thing after the other: first, on
// base0, the seed, a tar archive of the directory SeedDir of as many bytes as the
// kernel argument slipway.root=block:BYTES says; then the layer images, the
// lowest first, LayersPerDisk of them on each disk. DiskUpper is upper.img.
const (
	DiskBase  = "slipway-base"  // with the disk's number behind it
	DiskUpper = "slipway-upper" // a virtio disk's serial has 20 characters at most
	DisksFile = "seed/disks.json"
	// DiskSeed is cloud-init's data on a disk, known by its label.
	DiskSeed = "slipway-seed"
	// DiskSystem is the system of a guest that is not slipway-init's.
	DiskSystem = "slipway-system"
	// DiskPreload is a disk of preloaded images, with its number behind it.
	DiskPreload = "slipway-preload"
)

// Where preloaded images are.
const (
	// PreloadDocker is the directory of such a disk that is a data root of dockerd's.
	PreloadDocker = "docker"
	// PreloadDir and DockerDir are below the share: the disks, by number, and the
	// server's own data root, which has what it needs of them.
	PreloadDir = "preload"
	DockerDir  = "data/docker"
	// PreloadTarget and DockerTarget are where they are inside the root.
	PreloadTarget = "/run/slipway/preload"
	DockerTarget  = "/var/lib/docker"
)

// Names of the partitions of a self-contained disk: the seed as on base0, one image
// of all layers, and what is upper.img elsewhere.
const (
	PartitionSeed  = "slipway-seed"
	PartitionBase  = "slipway-base"
	PartitionUpper = "slipway-upper"
)

// What a guest with a self-contained disk does when its entrypoint has ended.
const (
	EndPowerOff = "poweroff"
	EndReboot   = "reboot"
	EndStay     = "stay"
)

// LayersPerDisk is less than the 255 partitions that Linux takes on a disk: a
// layer image becomes a partition, though no table says so.
const LayersPerDisk = 250

// SectorSize is what the sizes of seed and layers are multiples of, in bytes.
const SectorSize = 512

// Disks says what is on the disks: the content of DisksFile.
type Disks struct {
	// Layers are the layer images' sizes in bytes; there are none in the mode 9p.
	Layers []int64 `json:"layers"`
	// Options are overlayfs' besides the directories, UpperOptions ext4's.
	Options      string `json:"options"`
	UpperOptions string `json:"upperOptions"`
	// OnExit is what follows the entrypoint's end, on a self-contained disk.
	OnExit string `json:"onExit,omitempty"`
	// Root is what the directory fs of a new upper.img becomes.
	Root Directory `json:"root"`
}

// Directory is the attributes of a directory.
type Directory struct {
	Mode   uint32            `json:"mode"` // permissions, as in stat(2)
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Sec    int64             `json:"sec"` // modification time
	Nsec   uint32            `json:"nsec"`
	Xattrs map[string][]byte `json:"xattrs,omitempty"`
}

// ParseDisks reads and validates what is on the disks.
func ParseDisks(data []byte) (*Disks, error) {
	var d Disks
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("list of disks: %w", err)
	}
	switch d.OnExit {
	case "", EndPowerOff, EndReboot, EndStay:
	default:
		return nil, fmt.Errorf("list of disks: unknown end %q", d.OnExit)
	}
	for i, n := range d.Layers {
		if n <= 0 || n%SectorSize != 0 {
			return nil, fmt.Errorf("list of disks: layer %d has %d bytes", i, n)
		}
	}
	return &d, nil
}
