package guest

import "testing"

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		o    CommandLineOptions
		want string
	}{
		{
			CommandLineOptions{Machine: MachineMicroVM, Accel: AccelTCG, Root: RootVirtioFS, TSCKHz: 2600000},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 pci=off reboot=t " +
				"tsc_early_khz=2600000 tsc=reliable no_timer_check mitigations=off noreplace-smp clearcpuid=112 slipway.root=virtiofs:slipway",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelTCG, VCPUs: 1, MPTable: true, Probe: true},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init " +
				"tsc=reliable no_timer_check mitigations=off noreplace-smp clearcpuid=112 nolapic_timer acpi=noirq slipway.probe",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelTCG, VCPUs: 2, MPTable: true, Minimal: true, Probe: true, TSCKHz: 2600000},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init,acpi_init,acpi_button_driver_init,init_acpi_pm_clocksource,init_root_keyring " +
				"tsc_early_khz=2600000 lpj=10400000 tsc=reliable no_timer_check mitigations=off noreplace-smp clearcpuid=112 acpi=noirq slipway.probe",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelTCG, VCPUs: 1, MPTable: true, Minimal: true, Probe: true, TSCKHz: 2600000},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init,init_root_keyring " +
				"tsc_early_khz=2600000 tsc=reliable no_timer_check mitigations=off noreplace-smp clearcpuid=112 nolapic_timer acpi=off hpet=0xfed00000 slipway.probe",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelKVM, MPTable: true, Minimal: true, Probe: true},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init slipway.probe",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelKVM, Root: Root9P, Debug: true, Extra: []string{"a=b"}},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 loglevel=7 slipway.debug initcall_blacklist=piix_init slipway.root=9p:slipway a=b",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelKVM, Probe: true},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init slipway.probe",
		},
		{
			CommandLineOptions{Machine: MachinePC, Accel: AccelKVM, Root: RootBlock, Seed: 8192, Share: Root9P},
			"console=ttyS0 panic=-1 i8042.noaux i8042.nokbd cryptomgr.notests dummy.numdummies=0 quiet loglevel=4 initcall_blacklist=piix_init slipway.root=block:8192 slipway.share=9p:slipway",
		},
	} {
		if got := CommandLine(test.o); got != test.want {
			t.Errorf("%+v:\n%s\nwant\n%s", test.o, got, test.want)
		}
	}
}
