package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/guest"
)

// Status is how a thing on this host is.
type Status string

// What a finding can say.
const (
	OK      Status = "ok"
	Limited Status = "limited" // Slipway works without it, less well
	Missing Status = "missing" // Slipway does not work without it
)

// Finding is what was found of one thing, and what to do about it.
type Finding struct {
	Item   string
	Status Status
	Detail string
	Advice string // empty where nothing is to be done
}

// libvirtDrivers is where libvirt loads its QEMU driver from.
var libvirtDrivers = []string{
	"/usr/lib/*/libvirt/connection-driver/libvirt_driver_qemu.so",
	"/usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
}

// Examine looks at everything that Slipway needs of this host. It tries KVM where
// that has not been done, which takes some seconds where KVM does not work.
func (h *Host) Examine(ctx context.Context) []Finding {
	return []Finding{
		h.root(), h.libvirt(), h.qemu(ctx), h.virtiofs(), overlay(ctx), layers(ctx), h.kernel(ctx), h.kvm(ctx), h.space(),
	}
}

func (h *Host) root() Finding {
	if os.Geteuid() != 0 {
		hint := "run slipway with sudo for more"
		if _, err := exec.LookPath("passt"); err != nil {
			hint = "install passt for a network of theirs; " + hint
		}
		return Finding{"privileges", Limited, "not root: servers have the root mode block, no volumes, and no network but host-user", hint}
	}
	return Finding{"privileges", OK, "root", ""}
}

func (h *Host) libvirt() Finding {
	for _, pattern := range libvirtDrivers {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return Finding{"libvirt", OK, "QEMU driver " + found[0], ""}
		}
	}
	return Finding{"libvirt", Missing, "no QEMU driver", "install libvirt-daemon-driver-qemu"}
}

func (h *Host) qemu(ctx context.Context) Finding {
	path, err := h.Emulator()
	if err != nil {
		return Finding{"qemu", Missing, err.Error(), "install qemu-system-x86"}
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Finding{"qemu", Missing, fmt.Sprintf("%s does not run: %v", path, err), "install qemu-system-x86 anew"}
	}
	version, _, _ := strings.Cut(string(out), "\n")
	return Finding{"qemu", OK, strings.TrimPrefix(version, "QEMU emulator ") + ", " + path, ""}
}

func (h *Host) virtiofs() Finding {
	path, err := h.Virtiofsd()
	if err != nil {
		return Finding{"virtiofsd", Limited, "not there: the root mode virtiofs does not work, 9p and block do", "install qemu-system-common or virtiofsd"}
	}
	return Finding{"virtiofsd", OK, path, ""}
}

func overlay(ctx context.Context) Finding {
	if hasFilesystem(ctx, "overlay") {
		return Finding{"overlayfs", OK, "in the kernel", ""}
	}
	return Finding{"overlayfs", Missing, "the kernel does not know it", "modprobe overlay"}
}

// layers says how layer images, which are EROFS, can be mounted.
func layers(ctx context.Context) Finding {
	switch {
	case !hasFilesystem(ctx, "erofs"):
		return Finding{"erofs", Missing, "the kernel does not know it: layer images cannot be mounted", "modprobe erofs"}
	case kernelAtLeast(6, 12):
		return Finding{"erofs", OK, "mounted from files, without loop devices", ""}
	}
	return Finding{"erofs", OK, "mounted by loop devices; from files with Linux 6.12 and later", ""}
}

// hasFilesystem reports whether the kernel knows a file system, or would if asked.
func hasFilesystem(ctx context.Context, name string) bool {
	b, err := os.ReadFile("/proc/filesystems")
	if err == nil && regexp.MustCompile(`(?m)\t`+name+`$`).Match(b) {
		return true
	}
	return exec.CommandContext(ctx, "modprobe", "-n", "-q", name).Run() == nil
}

func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	var a, b int
	if unix.Uname(&u) != nil {
		return false
	}
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

func (h *Host) kernel(ctx context.Context) Finding {
	k, err := h.cfg.Kernels.Default(ctx)
	if err != nil {
		return Finding{"guest kernel", Missing, err.Error(), "build one: slipway kernel build; or import Debian's linux-image package: slipway kernel import FILE.deb"}
	}
	return Finding{"guest kernel", OK, fmt.Sprintf("%s, %s", k.Name, k.Version), ""}
}

func (h *Host) kvm(ctx context.Context) Finding {
	const advice = "none is needed: guests are emulated (TCG), which is slower"
	if h.cfg.Accel == string(guest.AccelTCG) {
		return Finding{"kvm", Limited, "not tried: libvirt.accel is tcg", advice}
	}
	k, err := h.cfg.Kernels.Default(ctx)
	if err != nil {
		return Finding{"kvm", Limited, "not tried: there is no guest kernel", "build or import a guest kernel"}
	}
	fault, known := h.KnownKVM(k)
	if !known {
		fault, err = h.KVM(ctx, k)
	}
	if err == nil && fault != "" {
		err = errors.New(fault)
	}
	if err != nil {
		return Finding{"kvm", Limited, "guests do not run under it: " + err.Error(), advice}
	}
	return Finding{"kvm", OK, "a guest has run under it", ""}
}

func (h *Host) space() Finding {
	dir := filepath.Dir(h.cfg.Memo)
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Finding{"state directory", Missing, fmt.Sprintf("%s: %v", dir, err), "choose another with --state-dir"}
	}
	free := int64(st.Bavail) * st.Bsize
	f := Finding{"state directory", OK, fmt.Sprintf("%s, %.1f GB free", dir, float64(free)/1e9), ""}
	if free < 1<<30 {
		f.Status, f.Advice = Limited, "free some space, or choose another with --state-dir"
	}
	return f
}

// Choice is what Slipway will use on this host.
type Choice struct{ Accelerator, RootMode, Kernel, Machine string }

// Choose says what Slipway will use, empty where nothing there serves.
func (h *Host) Choose(ctx context.Context) Choice {
	c := Choice{RootMode: string(guest.RootVirtioFS)}
	if _, err := h.Virtiofsd(); err != nil {
		c.RootMode = string(guest.Root9P)
	}
	if os.Geteuid() != 0 {
		c.RootMode = string(guest.RootBlock)
	}
	k, err := h.cfg.Kernels.Default(ctx)
	if err != nil {
		return c
	}
	c.Kernel = k.Name + " " + k.Version
	if accel, err := h.Accelerator(ctx, k); err == nil {
		c.Accelerator, c.Machine = string(accel), string(guest.DefaultMachine(accel))
	}
	return c
}
