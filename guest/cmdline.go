package guest

import (
	"fmt"
	"strings"
)

// Machine is QEMU's machine type.
type Machine string

// The machine types that guests are booted on.
const (
	MachineMicroVM Machine = "microvm"
	MachinePC      Machine = "pc"
)

// Accel is what executes the guest's instructions.
type Accel string

// The accelerators.
const (
	AccelKVM Accel = "kvm"
	AccelTCG Accel = "tcg"
)

// DefaultMachine is the machine type for guests of an accelerator.
//
// Under TCG a microvm's only timer is its local APIC, whose frequency the kernel
// measures for 100 ms with nothing to compare it with: where the host is busy just
// then, the guest's timers run 4 times too slow or 27,000 times too fast from then
// on, and it crawls or hangs. A pc has the ACPI timer to correct that by.
func DefaultMachine(a Accel) Machine {
	if a == AccelTCG {
		return MachinePC
	}
	return MachineMicroVM
}

// CommandLineOptions are the facts that a kernel command line depends on.
type CommandLineOptions struct {
	Machine Machine
	Accel   Accel
	Root    RootMode // empty with Probe
	Seed    int64    // bytes of the seed on the first disk, with RootBlock
	Share   RootMode // how volumes reach a guest with RootBlock; empty: none
	Probe   bool
	Debug   bool // kernel messages of every level, and init's steps
	// TSCKHz is the host's TSC frequency, required for microvm under TCG.
	TSCKHz int
	VCPUs  uint
	// Of the kernel, see Kernel: that it can do without ACPI's routing of interrupts, and
	// that it is one of etc/kernel, which needs none of ACPI's devices.
	MPTable, Minimal bool
	Extra            []string
}

// hpetAddress is where the HPET of QEMU's pc is.
const hpetAddress = 0xfed00000

// minimalHZ is CONFIG_HZ of the kernels of etc/kernel, Linux's default.
const minimalHZ = 250

// CommandLine returns the kernel command line of a guest.
//
// It belongs to these QEMU options, which were found to boot and to power off
// both the stock and the minimal kernel:
//
//	-machine microvm,acpi=on,pit=off,pic=off,rtc=on  or  -machine pc
//	-global virtio-mmio.force-legacy=false           (microvm: virtiofs needs virtio 1)
//	-bios qboot.rom                                  (pc, 0.1 s less than SeaBIOS)
//	-no-reboot -nodefaults -no-user-config -display none
//	-serial file:console.log
//	-device virtio-serial-{device,pci} -device virtserialport,name=org.slipway.agent.0
//
// A pc without ACPI ends by a reset under -no-reboot.
// With acpi=on a microvm powers off by ACPI's reduced-hardware sleep register
// and announces its virtio-mmio slots in the DSDT. With acpi=off the kernel
// can only halt ("System halted") and QEMU stays, so acpi=on is required.
func CommandLine(o CommandLineOptions) string {
	args := []string{
		"console=ttyS0",
		// A guest that has panicked ends at once: QEMU runs with -no-reboot.
		"panic=-1",
		// Nothing in a guest reads from an emulated keyboard controller, and
		// probing for one waits for a timeout.
		"i8042.noaux", "i8042.nokbd",
	}
	// The stock kernel else tests its ciphers for 160 ms of emulated time, and the
	// minimal one has a network interface that nobody asked for. A kernel without
	// an option ignores it.
	args = append(args, "cryptomgr.notests", "dummy.numdummies=0")
	if o.Debug {
		args = append(args, "loglevel=7", ArgDebug)
	} else {
		// Every byte on the serial console is a trap to QEMU.
		args = append(args, "quiet", "loglevel=4")
	}
	if o.Machine == MachineMicroVM {
		// There is no PCI bus to look for and the reset goes through ACPI or
		// a triple fault, both of which end QEMU under -no-reboot.
		args = append(args, "pci=off", "reboot=t")
	}
	// What an emulated pc's ACPI has to tell, PCI and the MP table do too.
	spareACPI := o.Machine == MachinePC && o.Accel == AccelTCG && o.MPTable && o.Minimal
	noACPI := spareACPI && o.VCPUs == 1
	if o.Machine == MachinePC {
		// Its IDE controller has no disks here, which the driver would wait for.
		skipped := "piix_init"
		if spareACPI && !noACPI {
			// Its tables of timers and processors are read, but its programs are not
			// interpreted. Nor is its timer tried as a clock, which the time-stamp
			// counter is.
			skipped += ",acpi_init,acpi_button_driver_init,init_acpi_pm_clocksource"
		}
		if o.Accel == AccelTCG && o.Minimal {
			// Root's keyrings, which are made for who asks, too: a hundredth of the boot.
			skipped += ",init_root_keyring"
		}
		args = append(args, "initcall_blacklist="+skipped)
	}
	if o.Accel == AccelTCG {
		// The emulated timers are too slow for the kernel to calibrate the
		// TSC against; without these a microvm hangs in calibration.
		if o.TSCKHz > 0 {
			args = append(args, fmt.Sprintf("tsc_early_khz=%d", o.TSCKHz))
			if o.Minimal && o.VCPUs > 1 {
				// Loops in a tick: each processor but the first would count them for
				// 100 ms, in vain.
				args = append(args, fmt.Sprintf("lpj=%d", o.TSCKHz*1000/minimalHZ))
			}
		}
		args = append(args, "tsc=reliable", "no_timer_check", "mitigations=off",
			// Each lock that is patched out of the kernel's code is translated anew;
			// and emulated by one thread it costs nothing.
			"noreplace-smp",
			// Without REP_GOOD memory is cleared and copied by plain instructions, which
			// emulation runs faster than repeated ones.
			"clearcpuid=112")
		if o.Machine == MachinePC && o.VCPUs == 1 {
			// The HPET, whose frequency is known, in place of the local APIC's timer,
			// whose is measured for 100 ms.
			args = append(args, "nolapic_timer")
		}
		switch {
		case noACPI:
			// With one processor only its table of the HPET says what is needed.
			args = append(args, "acpi=off", fmt.Sprintf("hpet=%#x", hpetAddress))
		case o.Machine == MachinePC && o.MPTable:
			// The table of interrupts that QEMU's ACPI has is a program, which the
			// kernel would interpret for 100 ms with each device.
			args = append(args, "acpi=noirq")
		}
	}
	switch {
	case o.Probe:
		args = append(args, ArgProbe)
	case o.Root == RootBlock:
		args = append(args, fmt.Sprintf("%s=%s:%d", ArgRoot, o.Root, o.Seed))
		if o.Share != "" {
			args = append(args, fmt.Sprintf("%s=%s:%s", ArgShare, o.Share, ShareTag))
		}
	case o.Root != "":
		args = append(args, fmt.Sprintf("%s=%s:%s", ArgRoot, o.Root, ShareTag))
	}
	args = append(args, o.Extra...)
	return strings.Join(args, " ")
}

// DiskCommandLine is the kernel command line of a self-contained disk, on whatever
// machine it is booted.
func DiskCommandLine(guid string, extra []string) string {
	args := append([]string{
		"console=ttyS0", "cryptomgr.notests", "quiet", "loglevel=4",
		// Others may look at the message; a guest that cannot boot must not do so forever.
		"panic=30",
		fmt.Sprintf("%s=%s:%s", ArgRoot, RootDisk, guid),
	}, extra...)
	return strings.Join(args, " ")
}
