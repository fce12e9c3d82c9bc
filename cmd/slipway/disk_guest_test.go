//go:build guest

package main

import (
	"archive/tar"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-vm/slipway/rootfs/rootfstest"
)

// machine boots disks without Slipway and gives what the serial console said.
func machine(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append([]string{
		"-m", "256", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"}, args...)...)
	out, err := cmd.CombinedOutput()
	console := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, console)
	}
	return console
}

func shows(t *testing.T, console string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(console, w) {
			t.Errorf("the console does not show %q:\n%s", w, console)
		}
	}
}

// hasGrown wants a root of some 2 GiB, by df -m.
func hasGrown(t *testing.T, console string) {
	t.Helper()
	var size string
	for line := range strings.Lines(console) {
		if fields := strings.Fields(line); len(fields) == 6 && fields[0] == "slipway" {
			size = fields[1]
		}
	}
	if len(size) != 4 {
		t.Errorf("the root has %q MiB:\n%s", size, console)
	}
}

// uefi is what boots a disk by UEFI, with variables of its own.
func uefi(t *testing.T) []string {
	t.Helper()
	vars, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "vars")
	if err := os.WriteFile(file, vars, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,unit=1,file=" + file}
}

func tool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// openStack is what makes a machine's network one of OpenStack's: QEMU's DHCP server,
// and a metadata service that only what has a lease reaches.
func openStack(t *testing.T) []string {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/openstack/latest/meta_data.json" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"uuid": "9a3e1f0c-6f0e-4b7e-8a55-0c1d2e3f4a5b", "hostname": "by-the-service"}`)
	}))
	t.Cleanup(service.Close)
	_, port, err := net.SplitHostPort(service.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	forward := filepath.Join(t.TempDir(), "forward")
	if err := os.WriteFile(forward, []byte("exec 3<>/dev/tcp/127.0.0.1/"+port+"\ncat <&3 &\nexec cat >&3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"-smbios", "type=1,product=OpenStack Nova", "-device", "virtio-net-pci,netdev=n",
		"-netdev", "user,id=n,net=169.254.0.0/16,guestfwd=tcp:169.254.169.254:80-cmd:bash " + forward,
	}
}

// An exported disk boots in a machine with a BIOS, with all the room and the network
// that it finds, and keeps what is written to it.
func TestDiskBIOS(t *testing.T) {
	t.Parallel()
	s := newState(t)
	disk := filepath.Join(t.TempDir(), "disk.qcow2")
	export := func(file string) {
		s.run("image", "disk", "--layout", "bios", "-o", file, "-u", "7:8", "--workdir", "/tmp", busybox,
			"sh", "-c", `id -u; id -g; cat /tmp/kept; echo kept >>/tmp/kept; df -m / | tail -n 1
			ip -4 -o address; ip -4 route; cat /etc/resolv.conf; hostname; exit 3`).ok()
	}
	export(disk)
	again := disk + ".again.qcow2"
	export(again)
	tool(t, "cmp", disk, again)
	tool(t, "qemu-img", "check", disk)
	tool(t, "qemu-img", "resize", disk, "2G")
	// Nothing here gives random numbers, for which the lease cannot wait.
	first := machine(t, append(openStack(t), "-machine", "pc", "-vga", "std", "-drive", "if=virtio,file="+disk)...)
	shows(t, first, "7\n8\n", "No such file", "the entrypoint has ended with status 3", "Power down",
		"inet 169.254.2.15/16", "default via 169.254.2.2", "nameserver 169.254.2.3", "\nby-the-service\n")
	hasGrown(t, first)
	// On other hardware, and now with what the first boot has left.
	shows(t, machine(t, "-machine", "q35", "-vga", "std", "-drive", "if=none,id=d,file="+disk, "-device", "ide-hd,drive=d"), "\nkept\n")
	vmdk, raw := disk+".vmdk", disk+".raw"
	export(vmdk)
	tool(t, "qemu-img", "convert", "-f", "vmdk", "-O", "raw", vmdk, raw)
	tool(t, "sgdisk", "--verify", raw)
}

// The same by UEFI, and with a kernel that comes from elsewhere.
func TestDiskUEFI(t *testing.T) {
	t.Parallel()
	s := newState(t)
	dir := t.TempDir()
	raw := filepath.Join(dir, "disk.raw")
	s.run("image", "disk", "-o", raw, "oci:"+filepath.Join(imageDir, "hello")).ok()
	want := s.run("boot", "--rm", "oci:"+filepath.Join(imageDir, "hello")).ok().stdout
	first, _, _ := strings.Cut(want, "\n")
	shows(t, machine(t, append(uefi(t), "-machine", "q35", "-drive", "if=virtio,format=raw,file="+raw)...), first, "ended with status 0")

	// In this image one static program, no shell and no users, is all there is.
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	scratch := layoutOf(t, rootfstest.Simple(t, []rootfstest.Entry{{Header: tar.Header{Name: "echo", Mode: 0o755}, Body: string(program)}}))
	direct := filepath.Join(dir, "direct.raw")
	s.run("image", "disk", "--layout", "none", "--on-exit", "reboot", "-o", direct, "--entrypoint", "/echo", scratch, "booted directly").ok()
	line, err := os.ReadFile(direct + ".cmdline")
	if err != nil {
		t.Fatal(err)
	}
	// A cloud may have another command line than the one that it is told.
	for _, cmdline := range []string{strings.TrimSpace(string(line)), "root=/dev/vda console=ttyS0 quiet"} {
		shows(t, machine(t, "-machine", "pc", "-drive", "if=virtio,format=raw,snapshot=on,file="+direct, "-kernel", direct+".vmlinuz", "-initrd", direct+".initrd",
			"-append", cmdline), "booted directly")
	}
}

// A server's disk has what the server wrote, and grows as others do.
func TestServerExport(t *testing.T) {
	t.Parallel()
	s := newState(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	s.run("boot", "-d", "--name", "one", "--root", "block", "--disk", "64M", "--stop-timeout", "1s", busybox,
		"sh", "-c", "cat /written && df -m / | tail -n 1 && exit 5; echo by the server >/written; echo ready; sleep 1000").ok()
	s.start("server", "logs", "--follow", "one").expect("ready\n")
	s.run("server", "export", "-o", disk, "one").exits(1).complains("export", "one", "active")
	s.run("server", "stop", "one").ok()
	s.run("server", "export", "--layout", "none", "-o", disk, "one").ok()
	tool(t, "qemu-img", "resize", "-f", "raw", disk, "2G")
	console := machine(t, "-machine", "pc", "-drive", "if=virtio,format=raw,file="+disk, "-kernel", disk+".vmlinuz", "-initrd", disk+".initrd",
		"-append", "console=ttyS0 quiet")
	shows(t, console, "by the server", "ended with status 5")
	hasGrown(t, console)
	s.run("server", "delete", "one").ok()
}

func TestDiskRefuses(t *testing.T) {
	t.Parallel()
	s := newState(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "disk.qcow2")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{busybox}, "-o FILE"},
		{[]string{"-o", out, "--layout", "floppy", busybox}, "bios, uefi, both or none"},
		{[]string{"-o", out, "--format", "iso", busybox}, "qcow2, raw or vmdk"},
		{[]string{"-o", out, "--on-exit", "dance", busybox}, "poweroff"},
		{[]string{"-o", out, "--size", "20M", busybox}, "disk too small"},
		{[]string{"-o", out, "--kernel-arg", "a b", busybox}, "no spaces"},
		{[]string{"-o", out, "oci:" + dir}, dir},
		{[]string{"-o", out, busybox, "nothing"}, "nothing: executable not found in $PATH"},
		{[]string{"-o", out, busybox, "/etc"}, "not executable: is a directory"},
		{[]string{"-o", out, "-u", "who", busybox, "id"}, "unknown user: who is not in the image's /etc/passwd"},
		{[]string{"-o", out, "--workdir", "/bin/sh", busybox, "id"}, "working directory /bin/sh is not a directory"},
		{[]string{"-o", filepath.Join(dir, "no", "such"), busybox}, "no such file"},
	} {
		s.run(append([]string{"image", "disk"}, test.args...)...).exits(1).complains(test.want)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
