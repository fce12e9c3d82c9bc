package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/cloudinit/seed"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/launcher/domain"
)

// In the classic profile a server's guest is a cloud image, the base VM image, with a
// kernel, a system and a cloud-init of its own. The server has a clone of its disk.
// What it is told by cloud-init mounts the share and has slipway-init, which the
// share brings, run the entrypoint in the root there.

// NoBaseVMImage asks for the default profile where the configuration names a base VM
// image.
const NoBaseVMImage = "none"

// The files of a server's directory that the classic profile adds.
const (
	baseFile     = "base.qcow2"
	baseSeedFile = "seed.iso"
)

// classicBootTime is how long a cloud image may take at least until it starts the
// entrypoint: emulated, some minutes.
const classicBootTime = 10 * time.Minute

// classicPowerOffTime is how long its system may take to power off once the entrypoint
// has ended: systemd's limit for each service.
const classicPowerOffTime = 90 * time.Second

// classicShare is where a guest of the classic profile has its share.
const classicShare = "/run/slipway/share"

// classic reports whether the server's guest is a base VM image's.
func (s *Server) classic() bool {
	return s.Spec.BaseVMImage != "" && s.Spec.BaseVMImage != NoBaseVMImage
}

// validateBase refuses a base VM image that cannot be booted.
func (s *Server) validateBase() error {
	switch {
	case !s.classic():
		return nil
	case len(s.Spec.Preload) > 0:
		return errorf(ErrInvalid, "preloaded images do not go with the base VM image %s, which has a kernel and an init of its own: use --base-vm-image %s", s.Spec.BaseVMImage, NoBaseVMImage)
	case !filepath.IsAbs(s.Spec.BaseVMImage):
		return errorf(ErrInvalid, "base VM image %q: not an absolute path", s.Spec.BaseVMImage)
	case s.RootMode == string(guest.RootBlock):
		return errorf(ErrInvalid, "a base VM image gets the root by virtiofs or 9p: give --root virtiofs or 9p")
	case s.Spec.SeedDisk != "":
		return errorf(ErrInvalid, "a base VM image has a seed disk already: give user data by --user-data")
	}
	if _, err := os.Stat(s.Spec.BaseVMImage); err != nil {
		return errorf(ErrInvalid, "base VM image: %v", err)
	}
	return nil
}

// furnishClassic is furnish for the classic profile.
func (r *run) furnishClassic(ctx context.Context, srv *Server, spec *guest.Spec, networks *cloudinit.NetworkConfig) (*disks, error) {
	overlay, err := r.m.cfg.Roots.Overlay(r.i.dir)
	if err != nil {
		return nil, err
	}
	share, err := makeShare(r.i.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = share.Close() }()
	if err := r.writeSeed(srv, spec, networks, share); err != nil {
		return nil, err
	}
	if err := mountShare(r.i.dir); err != nil {
		return nil, err
	}
	if err := mountVolumes(share, r.i.dir, srv.Spec.Volumes); err != nil {
		return nil, err
	}
	root := filepath.Join(r.i.dir, shareDir, guest.RootDir)
	if err := overlay.Mount(ctx, root); err != nil {
		return nil, fmt.Errorf("mount the root: %w", err)
	}
	base := filepath.Join(r.i.dir, baseFile)
	if err := cloneBase(ctx, srv.Spec.BaseVMImage, base); err != nil {
		return nil, err
	}
	d := &disks{attached: []domain.Disk{
		{Path: base, Serial: guest.DiskSystem, Format: domain.FormatQCOW2},
		{Path: filepath.Join(r.i.dir, baseSeedFile), Serial: guest.DiskSeed, Format: domain.FormatRaw, ReadOnly: true},
	}}
	if len(srv.Spec.Volumes) > 0 {
		return d, nil
	}
	return d, preflight(root, spec)
}

// cloneBase makes a disk that holds what differs from the base VM image, unless the
// server has it from a run before. The image must not change meanwhile.
func cloneBase(ctx context.Context, base, clone string) error {
	if _, err := os.Stat(clone); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := qemuImg(ctx, "info", "--output=json", base)
	if err != nil {
		return errorf(ErrInvalid, "base VM image %s: %v", base, err)
	}
	var info struct{ Format string }
	if err := json.Unmarshal(out, &info); err != nil {
		return fmt.Errorf("base VM image %s: %w", base, err)
	}
	if info.Format != "qcow2" && info.Format != "raw" {
		return errorf(ErrInvalid, "base VM image %s: its format is %s: use qcow2 or raw", base, info.Format)
	}
	tmp := clone + ".new"
	if _, err := qemuImg(ctx, "create", "-q", "-f", "qcow2", "-F", info.Format, "-b", base, tmp); err != nil {
		return fmt.Errorf("clone the base VM image: %w", errors.Join(err, os.RemoveAll(tmp)))
	}
	return os.Rename(tmp, clone)
}

func qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errorf(ErrUnavailable, "there is no qemu-img: install qemu-utils")
	case errors.As(err, &exit):
		return nil, errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// writeClassic writes what a base VM image's cloud-init is told, as a disk, and gives
// the share the program that this runs.
func (r *run) writeClassic(srv *Server, data *cloudinit.Seed, share string) error {
	program, err := os.ReadFile(r.m.cfg.Init)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(share, guest.ClassicFile), program, 0o700); err != nil {
		return err
	}
	told := *data
	told.UserData, err = cloudinit.WithScript(data.UserData, cloudinit.TypeScriptPerBoot,
		cloudinit.Script{Name: "slipway", Body: []byte(classicScript(guest.RootMode(srv.RootMode)))})
	if err != nil {
		return err
	}
	label := cloudinit.NoCloudLabel
	if srv.ConfigDrive {
		label = cloudinit.ConfigDriveLabel
	}
	return seed.WriteDisk(filepath.Join(r.i.dir, baseSeedFile), seed.ISO9660, label, &told)
}

// classicScript mounts the share and starts the entrypoint. The guest's boot does not
// wait for its end.
func classicScript(mode guest.RootMode) string {
	mount := "mount -t virtiofs " + guest.ShareTag
	if mode == guest.Root9P {
		mount = "mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,access=client,posixacl,cache=mmap " + guest.ShareTag
	}
	return strings.NewReplacer("MOUNT", mount, "SHARE", classicShare, "INIT", guest.ClassicFile).Replace(`#!/bin/sh
# Mounts the server's root and starts its entrypoint there.
set -eu
mkdir -p SHARE
grep -q ' SHARE ' /proc/mounts || MOUNT SHARE
if [ -d /run/systemd/system ]; then
	exec systemd-run --quiet --unit=slipway-entrypoint --collect SHARE/INIT classic SHARE
fi
exec setsid SHARE/INIT classic SHARE </dev/null &
`)
}
