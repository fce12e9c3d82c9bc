package domain

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/guest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func spec() Spec {
	return Spec{
		Name: "slipway-1", UUID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Title: "web",
		Machine: guest.MachineMicroVM, Accel: guest.AccelTCG, VCPUs: 2, Memory: 512<<20 + 1,
		Kernel: "/k/vmlinux", Initramfs: "/k/initramfs", CommandLine: "console=ttyS0 a=<b>",
		ShareMode: guest.RootVirtioFS, Share: "/s/share", Virtiofsd: "/usr/libexec/virtiofsd",
		Emulator: "/usr/bin/qemu-system-x86_64", ConsoleLog: "/s/console.log", AgentSocket: "/s/agent.sock",
	}
}

func disks() []Disk {
	return []Disk{
		{Path: "/s/base0.vmdk", Serial: "slipway-base0", Format: FormatVMDK, ReadOnly: true},
		{Path: "/s/upper.img", Serial: "slipway-upper", Format: FormatRaw},
	}
}

func nics() []NIC {
	return []NIC{
		{MAC: "fa:16:3e:00:00:01", Tap: "st0", MTU: 1400},
		{MAC: "fa:16:3e:00:00:02", Tap: "st1"},
	}
}

func TestXML(t *testing.T) {
	for name, change := range map[string]func(*Spec){
		"microvm-tcg-virtiofs": func(*Spec) {},
		"own-share":            func(s *Spec) { s.OwnShare = true },
		"memory-dir":           func(s *Spec) { s.MemoryDir = "/proc/1/fd/2" },
		"microvm-kvm-9p":       func(s *Spec) { s.Accel, s.ShareMode = guest.AccelKVM, guest.Root9P },
		"pc-tcg-virtiofs":      func(s *Spec) { s.Machine = guest.MachinePC },
		"pc-kvm-9p":            func(s *Spec) { s.Machine, s.Accel, s.ShareMode = guest.MachinePC, guest.AccelKVM, guest.Root9P },
		"pc-tcg-block": func(s *Spec) {
			s.Machine, s.ShareMode, s.Virtiofsd = guest.MachinePC, "", ""
			s.Disks = disks()
		},
		"microvm-kvm-nics": func(s *Spec) { s.Accel, s.NICs = guest.AccelKVM, nics() },
		"pc-tcg-nics":      func(s *Spec) { s.Machine, s.NICs = guest.MachinePC, nics() },
		"microvm-tcg-sock": func(s *Spec) { s.NICs = []NIC{{MAC: "fa:16:3e:00:00:01", Socket: "/s,1/passt.sock"}} },
		"pc-tcg-sock": func(s *Spec) {
			s.Machine, s.NICs = guest.MachinePC, []NIC{{MAC: "fa:16:3e:00:00:01", Socket: "/s/passt.sock"}}
		},
		"microvm-kvm-block": func(s *Spec) { s.Accel, s.Disks = guest.AccelKVM, disks() },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			change(&s)
			got, err := s.XML()
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(golden, []byte(got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got+"\n" != string(want) {
				t.Errorf("differs from %s (go test -update writes it anew):\n%s", golden, got)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	for want, change := range map[string]func(*Spec){
		"kernel":       func(s *Spec) { s.Kernel = "vmlinux" },
		"share":        func(s *Spec) { s.Share = "" },
		"machine type": func(s *Spec) { s.Machine = "q35" },
		"accelerator":  func(s *Spec) { s.Accel = "" },
		"share mode":   func(s *Spec) { s.ShareMode = "nfs" },
		"no memory":    func(s *Spec) { s.Memory = 0 },
	} {
		s := spec()
		change(&s)
		if _, err := s.XML(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
