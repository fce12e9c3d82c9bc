// Package domain turns what a server needs into libvirt domain XML. It is pure:
// no cgo, no connection, no files read.
//
// A domain is lean on purpose: direct kernel boot, virtio only, no video, USB,
// sound or option ROMs. Two machine types are known. Microvm has no PCI bus:
// each device is a virtio-mmio transport and says so in its address. PC is for
// what microvm's eight transports cannot hold.
//
// See https://libvirt.org/formatdomain.html.
package domain

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/slipway-vm/slipway/guest"
)

// Spec is what a domain is made of. Paths are absolute.
type Spec struct {
	Name    string // unique on the connection
	UUID    string
	Title   string // for people
	Machine guest.Machine
	Accel   guest.Accel
	VCPUs   uint
	Memory  int64 // bytes, rounded up to whole KiB

	// MemoryDir is a directory on a file system in memory, for the memory of a guest with
	// virtiofs: QEMU makes a file in it that has no name. Where it is empty, a memfd does.
	MemoryDir string

	Kernel      string // ELF or bzImage
	Initramfs   string
	CommandLine string

	// Disks are attached in this order.
	Disks []Disk
	// ShareMode says how the guest gets the share, by virtiofs or 9p; where it is
	// empty the guest has disks alone.
	ShareMode guest.RootMode
	Share     string // the host directory that is shared, tagged guest.ShareTag
	Virtiofsd string // path of virtiofsd; libvirt's own choice where empty
	// OwnShare says that nobody but the guest changes the share, so that a guest
	// may cache it for good by virtiofs. (Measured under TCG: a program starts in
	// 20 ms instead of 200 ms, because a page cache that is thrown away at each
	// open makes QEMU translate the code anew.)
	OwnShare bool

	// NICs are attached in this order.
	NICs []NIC

	Emulator    string // path of qemu-system-x86_64; libvirt's own choice where empty
	ConsoleLog  string // file that the serial console is written to, appended
	AgentSocket string // unix socket that QEMU listens on for the host end of guest.AgentPort
}

// XML returns the domain's libvirt XML.
func (s Spec) XML() (string, error) {
	if err := s.validate(); err != nil {
		return "", err
	}
	d := libvirtxml.Domain{
		Type:  map[guest.Accel]string{guest.AccelKVM: "kvm", guest.AccelTCG: "qemu"}[s.Accel],
		Name:  s.Name,
		UUID:  s.UUID,
		Title: s.Title,
		Memory: &libvirtxml.DomainMemory{
			Value: uint((s.Memory + 1023) / 1024), Unit: "KiB",
		},
		VCPU: &libvirtxml.DomainVCPU{Value: s.VCPUs},
		OS:   s.os(),
		// ACPI is how the guest finds its devices on microvm and powers off on both.
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		CPU:        s.cpu(),
		OnPoweroff: "destroy",
		OnReboot:   "destroy",
		OnCrash:    "destroy",
		Devices:    s.devices(),
	}
	if s.ShareMode == guest.RootVirtioFS {
		// virtiofsd maps the guest's memory.
		d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
			MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
			MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
		}
	}
	if s.Accel == guest.AccelTCG {
		// libvirt asks for 400 features of the processor, one after the other, where QEMU
		// can tell which are unavailable; else it asks once.
		d.QEMUCapabilities = &libvirtxml.DomainQEMUCapabilities{
			Del: []libvirtxml.DomainQEMUCapabilitiesEntry{{Name: "cpu-unavailable-features"}},
		}
	}
	args, envs := slices.Concat(s.machineArgs(), s.memoryArgs(), s.streams()), s.envs()
	if len(args)+len(envs) > 0 {
		d.QEMUCommandline = &libvirtxml.DomainQEMUCommandline{Args: args, Envs: envs}
	}
	xml, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("domain %s: %w", s.Name, err)
	}
	return xml, nil
}

// os says what boots: a kernel, or without one the first disk, by its boot loader.
func (s Spec) os() *libvirtxml.DomainOS {
	os := &libvirtxml.DomainOS{
		Type:    &libvirtxml.DomainOSType{Arch: "x86_64", Machine: string(s.Machine), Type: "hvm"},
		Kernel:  s.Kernel,
		Initrd:  s.Initramfs,
		Cmdline: s.CommandLine,
	}
	if s.Kernel == "" {
		os.BootDevices = []libvirtxml.DomainBootDevice{{Dev: "hd"}}
	}
	return os
}

func (s Spec) validate() error {
	type named struct{ what, path string }
	paths := []named{{"share", s.Share}, {"console log", s.ConsoleLog}, {"agent socket", s.AgentSocket}}
	if s.Kernel != "" || len(s.Disks) == 0 {
		paths = append(paths, named{"kernel", s.Kernel}, named{"initramfs", s.Initramfs})
	}
	for _, p := range paths {
		if !filepath.IsAbs(p.path) {
			return fmt.Errorf("domain %s: %s %q is not an absolute path", s.Name, p.what, p.path)
		}
	}
	for _, d := range s.Disks {
		if err := d.validate(); err != nil {
			return fmt.Errorf("domain %s: %w", s.Name, err)
		}
	}
	for _, n := range s.NICs {
		if err := n.validate(); err != nil {
			return fmt.Errorf("domain %s: %w", s.Name, err)
		}
	}
	switch {
	case s.Machine != guest.MachineMicroVM && s.Machine != guest.MachinePC:
		return fmt.Errorf("domain %s: unknown machine type %q", s.Name, s.Machine)
	case s.Accel != guest.AccelKVM && s.Accel != guest.AccelTCG:
		return fmt.Errorf("domain %s: unknown accelerator %q", s.Name, s.Accel)
	case s.ShareMode != "" && s.ShareMode != guest.RootVirtioFS && s.ShareMode != guest.Root9P:
		return fmt.Errorf("domain %s: unknown share mode %q", s.Name, s.ShareMode)
	case s.ShareMode == "" && len(s.Disks) == 0:
		return fmt.Errorf("domain %s: neither a share nor disks", s.Name)
	case s.VCPUs == 0 || s.Memory <= 0:
		return errors.New("domain " + s.Name + ": no processors or no memory")
	}
	return nil
}

func (s Spec) cpu() *libvirtxml.DomainCPU {
	if s.Accel == guest.AccelKVM {
		return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"}
	}
	return &libvirtxml.DomainCPU{
		Mode: "maximum", Check: "none",
		// Programs would copy by byte where that is said to be fast, and emulated it is
		// eight times slower than by word.
		Features: []libvirtxml.DomainCPUFeature{{Policy: "disable", Name: "erms"}},
	}
}

// machineArgs are the arguments of QEMU for what libvirt has no words for.
func (s Spec) machineArgs() []libvirtxml.DomainQEMUCommandlineArg {
	var args []libvirtxml.DomainQEMUCommandlineArg
	global := func(property string) {
		args = append(args, libvirtxml.DomainQEMUCommandlineArg{Value: "-global"}, libvirtxml.DomainQEMUCommandlineArg{Value: property})
	}
	switch {
	case s.Machine == guest.MachineMicroVM:
		// virtiofsd refuses the legacy transport that QEMU still defaults to.
		global("virtio-mmio.force-legacy=false")
	case s.Kernel != "":
		// The firmware that does no more than a kernel needs.
		args = append(args, libvirtxml.DomainQEMUCommandlineArg{Value: "-bios"}, libvirtxml.DomainQEMUCommandlineArg{Value: "qboot.rom"})
		// Nothing is plugged into a running guest, and what ACPI says of each slot's
		// way to do so is half of what the kernel has to interpret.
		global("PIIX4_PM.acpi-root-pci-hotplug=off")
		global("PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off")
	}
	return args
}

// envs are variables of QEMU's environment.
func (s Spec) envs() []libvirtxml.DomainQEMUCommandlineEnv {
	if s.Accel != guest.AccelTCG {
		return nil
	}
	// Translating takes and gives back much memory while a guest boots. It is taken in
	// large steps and huge pages, and kept: a boot is sooner by a twentieth on a host
	// whose page faults are dear, for 7 to 16 MiB.
	const mib = 1 << 20
	tunables := fmt.Sprintf("glibc.malloc.hugetlb=1:glibc.malloc.top_pad=%d:glibc.malloc.mmap_threshold=%d:glibc.malloc.trim_threshold=%d",
		32*mib, 32*mib, 128*mib)
	return []libvirtxml.DomainQEMUCommandlineEnv{{Name: "GLIBC_TUNABLES", Value: tunables}}
}

// memoryArgs put the guest's memory into MemoryDir, aligned so that it can be in huge
// pages. libvirt, which has no word for that, makes a memfd besides, which stays empty.
func (s Spec) memoryArgs() []libvirtxml.DomainQEMUCommandlineArg {
	if s.MemoryDir == "" || s.ShareMode != guest.RootVirtioFS {
		return nil
	}
	const mib, id = 1 << 20, "slipway.ram"
	object := fmt.Sprintf(`{"qom-type":"memory-backend-file","id":%q,"mem-path":%q,"share":true,"align":%d,"size":%d}`,
		id, s.MemoryDir, 2*mib, (s.Memory+mib-1)/mib*mib)
	return []libvirtxml.DomainQEMUCommandlineArg{{Value: "-object"}, {Value: object}, {Value: "-machine"}, {Value: "memory-backend=" + id}}
}

// address is where a device sits: on microvm it must be said, on pc libvirt assigns.
func (s Spec) address() *libvirtxml.DomainAddress {
	if s.Machine == guest.MachineMicroVM {
		return &libvirtxml.DomainAddress{VirtioMMIO: &libvirtxml.DomainAddressVirtioMMIO{}}
	}
	return nil
}

func (s Spec) devices() *libvirtxml.DomainDeviceList {
	port, controller := uint(0), uint(0)
	return &libvirtxml.DomainDeviceList{
		Emulator: s.Emulator,
		Controllers: []libvirtxml.DomainController{
			{Type: "usb", Model: "none"},
			{Type: "virtio-serial", Index: &controller, Address: s.address()},
		},
		Disks:       s.disks(),
		Interfaces:  s.interfaces(),
		Filesystems: s.filesystems(),
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{
				File: &libvirtxml.DomainChardevSourceFile{Path: s.ConsoleLog, Append: "on"},
			},
			Target: &libvirtxml.DomainSerialTarget{Type: "isa-serial", Port: &port},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{
				UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind", Path: s.AgentSocket},
			},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: guest.AgentPort},
			},
		}},
		// What the guest frees goes back to the host.
		MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio", FreePageReporting: "on", Address: s.address()},
	}
}

func (s Spec) filesystems() []libvirtxml.DomainFilesystem {
	if s.ShareMode == "" {
		return nil
	}
	return []libvirtxml.DomainFilesystem{s.filesystem()}
}

func (s Spec) filesystem() libvirtxml.DomainFilesystem {
	fs := libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: s.Share}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: guest.ShareTag},
		Address:    s.address(),
	}
	if s.ShareMode == guest.RootVirtioFS {
		fs.Driver = &libvirtxml.DomainFilesystemDriver{Type: "virtiofs", Queue: 1024}
		fs.Binary = &libvirtxml.DomainFilesystemBinary{Path: s.Virtiofsd, XAttr: "on"}
		if s.OwnShare {
			fs.Binary.Cache = &libvirtxml.DomainFilesystemBinaryCache{Mode: "always"}
		}
		return fs
	}
	// The root, the seed and the volumes are different file systems below one
	// share: without remapping their inode numbers collide.
	fs.MultiDevs = "remap"
	return fs
}
