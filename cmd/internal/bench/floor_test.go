package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The floor keeps what a guest's speed depends on and drops what is Slipway's.
func TestNewFloor(t *testing.T) {
	dir := t.TempDir()
	initBinary := filepath.Join(dir, "slipway-init")
	if err := os.WriteFile(initBinary, []byte("init"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := newFloor(t.Context(), []string{
		"/usr/bin/qemu-system-x86_64", "-name", "guest=1", "-S",
		"-machine", "microvm,usb=off,dump-guest-core=off,memory-backend=microvm.ram,acpi=on",
		"-accel", "tcg", "-cpu", "qemu64", "-m", "512",
		"-object", `{"qom-type":"memory-backend-memfd","id":"microvm.ram","share":true}`,
		"-smp", "1,sockets=1", "-kernel", "/state/kernels/0123456789abcdef/vmlinux", "-initrd", "/state/initramfs.cpio",
		"-append", "console=ttyS0 quiet slipway.root=virtiofs:slipway tsc=reliable",
		"-device", "vhost-user-fs-device,chardev=fs0,tag=slipway",
	}, initBinary, filepath.Join(dir, "kernels"))
	if err != nil {
		t.Fatal(err)
	}
	for option, want := range map[string]string{
		"-machine": "microvm,usb=off,dump-guest-core=off,acpi=on",
		"-accel":   "tcg", "-cpu": "qemu64", "-m": "512", "-smp": "1,sockets=1",
		"-kernel": "/state/kernels/0123456789abcdef/vmlinux",
		"-append": "console=ttyS0 quiet tsc=reliable slipway.probe",
		"-serial": "stdio",
	} {
		if i := slices.Index(f.args, option); i < 0 || f.args[i+1] != want {
			t.Errorf("%s is not %q in %q", option, want, f.args)
		}
	}
	for _, gone := range []string{"-object", "-device", "-S", "-name"} {
		if slices.Contains(f.args, gone) {
			t.Errorf("%s is left in %q", gone, f.args)
		}
	}
	if got := f.String(); !strings.HasPrefix(got, "qemu-system-x86_64 tcg, machine microvm, kernel ") {
		t.Errorf("the floor is called %q", got)
	}

	if _, err := newFloor(t.Context(), []string{"qemu", "-machine", "pc"}, initBinary, dir); err == nil {
		t.Error("a QEMU without a kernel makes a floor")
	}
}

func TestMedian(t *testing.T) {
	of := func(seconds ...int) time.Duration {
		var runs []times
		for _, s := range seconds {
			runs = append(runs, times{first: time.Duration(s) * time.Second})
		}
		return median(sorted(runs, func(t times) time.Duration { return t.first }))
	}
	if got := of(3, 1, 9); got != 3*time.Second {
		t.Errorf("median of 3, 1, 9 is %s", got)
	}
	if got := of(4, 1, 2, 9); got != 3*time.Second {
		t.Errorf("median of 4, 1, 2, 9 is %s", got)
	}
	if got := of(7); got != 7*time.Second {
		t.Errorf("median of 7 is %s", got)
	}
}
