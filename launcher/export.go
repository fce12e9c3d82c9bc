package launcher

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/slipway-vm/slipway/cloudinit"
	"github.com/slipway-vm/slipway/guest"
	"github.com/slipway-vm/slipway/images"
	"github.com/slipway-vm/slipway/rootfs"
	diskimage "github.com/slipway-vm/slipway/rootfs/disk"
)

// DiskSpec says what is exported, and what as.
type DiskSpec struct {
	// Spec is a server's, of which a disk has the image, the process and its
	// surroundings, the user-data and the kernel. With Server it is not looked at.
	Spec Spec `json:"spec"`
	// Server is a server that does not run, exported with what it has written.
	Server string           `json:"server,omitempty"`
	Layout diskimage.Layout `json:"layout,omitempty"`
	Format diskimage.Format `json:"format,omitempty"`
	// Size of the disk in bytes; 0: as small as possible.
	Size int64 `json:"size,omitempty"`
	// OnExit is what the guest does when its entrypoint has ended: poweroff, reboot or
	// stay.
	OnExit string `json:"on_exit,omitempty"`
	// KernelArgs are added to the kernel's command line.
	KernelArgs []string `json:"kernel_args,omitempty"`
}

// Export is a disk that can be made. The same digest means the same disk.
type Export struct {
	Digest      string `json:"digest"` // sha256:...
	CommandLine string `json:"command_line"`
	Kernel      string `json:"kernel"` // the guest kernel's digest

	// KernelFile and Initramfs are what the kernel starts from, for clouds that take
	// them beside a disk of the layout none.
	KernelFile string `json:"-"`
	Initramfs  []byte `json:"-"`

	m      *Manager
	format diskimage.Format
	spec   diskimage.Spec
	free   func()
}

// Close lets go of what the export holds.
func (e *Export) Close() { e.free() }

// Export prepares the export of an image, pulling it where it is missing, or of a
// server. The caller closes what it gets.
func (m *Manager) Export(ctx context.Context, s DiskSpec, auth *Credentials) (_ *Export, err error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	release, err := m.cfg.Roots.Hold(ctx)
	if err != nil {
		return nil, err
	}
	e := &Export{m: m, format: s.Format, free: release}
	defer func() {
		if err != nil {
			release()
		}
	}()
	k, err := m.bootableKernel(ctx, s.Spec.Kernel)
	if err != nil {
		return nil, err
	}
	var source *exportSource
	if s.Server != "" {
		source, err = m.serverSource(ctx, s.Server)
	} else {
		source, err = m.imageSource(ctx, &s.Spec, auth)
	}
	if err != nil {
		return nil, err
	}
	e.Kernel, e.KernelFile = k.Digest, k.BootImage
	if e.Initramfs, err = m.compressedInitramfs(ctx, k); err != nil {
		return nil, err
	}
	seed, err := m.exportSeed(&s, source)
	if err != nil {
		return nil, err
	}
	e.spec = diskimage.Spec{
		Layout: s.Layout, Seed: seed, Initramfs: e.Initramfs, Upper: source.upper, Size: s.Size,
		Base: func(w io.WriterAt) (int64, error) { return source.base.Flatten(ctx, w, e.spec.ID) },
	}
	e.identify(&s, source)
	e.CommandLine = guest.DiskCommandLine(diskimage.GUID(e.spec.ID), s.KernelArgs)
	e.spec.CommandLine = e.CommandLine
	return e, nil
}

// exportLayout changes when the disk of the same inputs does.
const exportLayout = 1

// identify derives the disk's identity from all that it is made of.
func (e *Export) identify(s *DiskSpec, source *exportSource) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d %s %s %d %q %s %s %s\n", exportLayout, s.Layout, s.Format, s.Size, s.KernelArgs, e.Kernel, source.base.ID, source.written)
	for _, part := range [][]byte{e.Initramfs, e.spec.Seed} {
		fmt.Fprintf(sum, "%d\n", len(part))
		sum.Write(part)
	}
	e.Digest = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	copy(e.spec.ID[:], sum.Sum(nil))
}

// Write makes the disk in a file without a name, at whose beginning it is left.
func (e *Export) Write(ctx context.Context) (_ *os.File, err error) {
	raw, err := diskimage.Temporary(e.m.cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(exportError(err), raw.Close())
		}
	}()
	if e.spec.Layout != diskimage.LayoutNone {
		if e.spec.Kernel, err = os.ReadFile(e.KernelFile); err != nil {
			return nil, err
		}
	}
	if err := diskimage.Write(ctx, raw, e.spec); err != nil {
		return nil, err
	}
	if e.format == diskimage.FormatRaw {
		_, err := raw.Seek(0, io.SeekStart)
		return raw, err
	}
	out, err := diskimage.Convert(ctx, raw, e.format, e.m.cfg.Dir)
	if err != nil {
		return nil, err
	}
	return out, raw.Close()
}

func exportError(err error) error {
	switch {
	case errors.Is(err, diskimage.ErrMissing):
		return errorf(ErrUnsupported, "%v", err)
	case errors.Is(err, diskimage.ErrSize):
		return errorf(ErrInvalid, "%v", err)
	}
	return err
}

func (s *DiskSpec) validate() error {
	if s.Layout == "" {
		s.Layout = diskimage.LayoutBoth
	}
	if s.Format == "" {
		s.Format = diskimage.FormatQCOW2
	}
	ends := []string{guest.EndPowerOff, guest.EndReboot, guest.EndStay}
	switch {
	case !slices.Contains(diskimage.Layouts, s.Layout):
		return errorf(ErrInvalid, "layout %q: use bios, uefi, both or none", s.Layout)
	case !slices.Contains(diskimage.Formats, s.Format):
		return errorf(ErrInvalid, "format %q: use qcow2, raw or vmdk", s.Format)
	case s.OnExit != "" && !slices.Contains(ends, s.OnExit):
		return errorf(ErrInvalid, "on exit %q: use %s", s.OnExit, strings.Join(ends, ", "))
	case s.Size < 0 || s.Size > maxDisk:
		return errorf(ErrInvalid, "%d bytes of disk: out of range", s.Size)
	case s.Server != "":
		return nil
	case len(s.Spec.Volumes) > 0:
		return errorf(ErrInvalid, "a disk has no volumes: they are directories of this host")
	}
	for _, a := range s.KernelArgs {
		if strings.ContainsAny(a, " \t\n\"'\\;{}$#") {
			return errorf(ErrInvalid, "kernel argument %q: use no spaces, quotes or other characters that boot loaders read", a)
		}
	}
	if s.Spec.Name == "" {
		s.Spec.Name = "disk" // which nobody sees
	}
	return s.Spec.validate()
}

// exportSource is where a disk's content comes from.
type exportSource struct {
	base    *rootfs.Base
	upper   string // a file system of what was written; empty: none
	written string // tells what was written from what was written at other times
	process *guest.Spec
	seed    *cloudinit.Seed
}

func (m *Manager) imageSource(ctx context.Context, s *Spec, auth *Credentials) (*exportSource, error) {
	when, err := pullPolicy(s.Pull)
	if err != nil {
		return nil, err
	}
	img, base, err := m.pull(auth.with(ctx), s.Image, images.ResolveOptions{Pull: when}, func(PullProgress) {})
	if err != nil {
		return nil, err
	}
	defer func() { _ = img.Close() }()
	cfg, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	process, err := s.process(&cfg.Config, s.Hostname)
	if err != nil {
		return nil, err
	}
	if err := exportable(base, process); err != nil {
		return nil, err
	}
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, err
	}
	if process.Healthcheck, err = s.healthcheck(raw); err != nil {
		return nil, err
	}
	return &exportSource{base: base, process: process, seed: &cloudinit.Seed{UserData: s.CloudInit}}, nil
}

// exportable finds what the machine would fail on, as preflight does, without a mount.
func exportable(base *rootfs.Base, spec *guest.Spec) (err error) {
	view, err := base.View()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	if _, err := find(view, spec); err != nil {
		return errorf(ErrInvalid, "%v", err)
	}
	return nil
}

func (m *Manager) serverSource(ctx context.Context, ref string) (*exportSource, error) {
	i, err := m.find(ref)
	if err != nil {
		return nil, err
	}
	srv, _ := i.snapshot()
	if srv.VMState != VMStopped || srv.TaskState != TaskNone {
		return nil, &StateError{ID: srv.ID, Server: srv.Name, Action: "export", VM: srv.VMState, Task: srv.TaskState}
	}
	if len(srv.Spec.Volumes) > 0 {
		return nil, errorf(ErrInvalid, "server %s has volumes, directories of this host, which a disk cannot have", srv.Name)
	}
	overlay, err := m.cfg.Roots.Overlay(i.dir)
	if err != nil {
		return nil, err
	}
	disks, err := overlay.Disks(ctx)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(disks.Upper)
	if err != nil {
		return nil, err
	}
	process, err := m.recordedProcess(i.dir)
	if err != nil {
		return nil, err
	}
	process.Hostname, process.Entropy, process.Restart.Count = "", nil, 0
	// What this host's networks gave it, it has to ask for where it will be.
	process.Interfaces = nil
	process.Nameservers, process.Search, process.Hosts = srv.Spec.Nameservers, srv.Spec.DNSSearch, srv.Spec.Hosts
	seed, err := srv.seed("")
	if err != nil {
		return nil, err
	}
	seed.MetaData = cloudinit.MetaData{PublicKeys: seed.MetaData.PublicKeys, Meta: seed.MetaData.Meta}
	return &exportSource{base: overlay.Base, upper: disks.Upper, process: process, seed: seed,
		written: fmt.Sprint(srv.ID, info.ModTime().UnixNano())}, nil
}

// bootableKernel finds a kernel that a boot loader can start.
func (m *Manager) bootableKernel(ctx context.Context, ref string) (guest.Kernel, error) {
	k, err := m.cfg.Kernels.Lookup(ctx, ref)
	if errors.Is(err, guest.ErrKernelNotFound) {
		return k, errorf(ErrInvalid, "%v: build one with `slipway kernel build`, or give one to `slipway kernel import`", err)
	}
	if err == nil && k.BootImage == "" {
		err = errorf(ErrInvalid, "the guest kernel %s was imported as an ELF file, which no boot loader starts: import its bzImage, or build one with `slipway kernel build`", k.Name)
	}
	return k, err
}

// compressedInitramfs is what the guests of this host start with, made small.
func (m *Manager) compressedInitramfs(ctx context.Context, k guest.Kernel) ([]byte, error) {
	name, err := m.cfg.Kernels.Initramfs(ctx, k, m.cfg.Init)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	// With one worker the same archive is always compressed to the same bytes.
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression))
	if err != nil {
		return nil, err
	}
	defer func() { _ = w.Close() }()
	return w.EncodeAll(data, nil), nil
}

// exportSeed packs what slipway-init reads first.
func (m *Manager) exportSeed(s *DiskSpec, source *exportSource) ([]byte, error) {
	process, err := source.process.Marshal()
	if err != nil {
		return nil, err
	}
	root := source.base.FlatDisks()
	list := diskList(&root)
	list.OnExit = first(s.OnExit, guest.EndPowerOff)
	disks, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	configure, err := os.ReadFile(m.cfg.Configure)
	if err != nil {
		return nil, err
	}
	// An instance that no cloud names is that of its image.
	sum := sha256.Sum256(slices.Concat(process, source.seed.UserData, []byte(source.base.ID)))
	source.seed.MetaData.InstanceID = "slipway-" + hex.EncodeToString(sum[:8])
	files, err := source.seed.Files()
	if err != nil {
		return nil, err
	}
	files[path.Base(guest.DisksFile)], files[path.Base(guest.SpecFile)], files[path.Base(guest.ConfigureFile)] = disks, process, configure
	return pack(files)
}

// pack makes a tar archive of files by name, a multiple of the block size long.
func pack(files map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(files[name]))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if rest := b.Len() % seedBlock; rest != 0 {
		b.Write(make([]byte, seedBlock-rest))
	}
	return b.Bytes(), nil
}
