package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/slipway-vm/slipway/guest/share"
)

// hostShare is where the share is mounted that brings the volumes of a guest
// whose root is on disks.
const hostShare = "/run/slipway/share"

// fileSystems are the modules that the root mode asks for beyond those of its
// devices.
func (c cmdline) fileSystems() []string {
	var modules []string
	for _, arg := range []string{c.root, c.share} {
		mode, _, _ := strings.Cut(arg, ":")
		switch share.RootMode(mode) {
		case share.Root9P:
			modules = append(modules, "9p", "ext4", "overlay")
		case share.RootBlock, share.RootDisk:
			modules = append(modules, "ext4", "erofs", "overlay")
		}
	}
	return modules
}

// mountShare makes the share: what the host shares, or what is on the disks.
func (g *guestState) mountShare() error {
	mode, seed, _ := strings.Cut(g.cmdline.root, ":")
	if g.cmdline.alone() {
		return g.mountOwnDisk(seed)
	}
	if share.RootMode(mode) != share.RootBlock {
		if err := mountTag(share.ArgRoot, g.cmdline.root, shareDir); err != nil {
			return err
		}
		if share.RootMode(mode) == share.Root9P {
			return mountOverShare()
		}
		return nil
	}
	size, err := strconv.ParseInt(seed, 10, 64)
	if err != nil || size <= 0 || size%share.SectorSize != 0 {
		return fmt.Errorf("%s=%q on the kernel command line is not block:BYTES", share.ArgRoot, g.cmdline.root)
	}
	if err := mountDisks(size); err != nil {
		return err
	}
	if g.cmdline.share == "" {
		return nil
	}
	if err := mountTag(share.ArgShare, g.cmdline.share, hostShare); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(hostShare, share.VolumeDir), filepath.Join(shareDir, share.VolumeDir))
}

// mountTag mounts what the argument MODE:TAG names.
func mountTag(arg, value, target string) error {
	mode, tag, ok := strings.Cut(value, ":")
	if !ok {
		return fmt.Errorf("%s=%q on the kernel command line is not MODE:TAG", arg, value)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	switch share.RootMode(mode) {
	case share.RootVirtioFS:
		return mount{source: tag, target: target, fstype: "virtiofs"}.do()
	case share.Root9P:
		// With cache=mmap programs can map files writably. Its caches that keep
		// more, loose among them, write back later, and a guest whose disk is
		// full then hangs where it should be told.
		return mount{source: tag, target: target, fstype: "9p",
			data: "trans=virtio,version=9p2000.L,msize=512000,access=client,posixacl,cache=mmap"}.do()
	}
	return fmt.Errorf("unknown root mode %q", mode)
}

// unmountable are the mount points that lose nothing only if they are unmounted,
// in the order in which that can be done.
var unmountable = []string{filepath.Join(shareDir, share.RootDir), upperDir, shareDir, hostShare}

// unmountRoot waits a moment for killed processes to leave the root.
func unmountRoot() {
	for _, dir := range unmountable {
		unmountSoon(dir)
	}
}
