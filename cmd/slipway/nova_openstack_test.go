//go:build guest && openstack

package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/slipway-vm/slipway/rootfs/rootfstest"
)

// An unchanged Nova boots images as disks. Its guests are emulated by a libvirt of its
// own, on a machine that does other things.
const novaPatience = 15 * time.Minute

func newNova(t *testing.T) (*realCloud, *state) {
	t.Helper()
	c := newCloud(t)
	s := newState(t, "OS_CLIENT_CONFIG_FILE="+c.clouds)
	s.patience = novaPatience
	t.Cleanup(func() {
		if left := c.openstack("demo", "server list -f value -c Name"); left != "" {
			t.Errorf("servers are left: %s", left)
		}
	})
	return c, s
}

// A program that is all there is in its image, and one of a user who is not root; the
// second boot uploads nothing.
func TestNovaBoot(t *testing.T) {
	c, s := newNova(t)
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	static := layoutOf(t, rootfstest.Simple(t, []rootfstest.Entry{{Header: tar.Header{Name: "echo", Mode: 0o755}, Body: string(program)}}))
	boot := func(flags ...string) *result {
		return s.run(append([]string{"boot", "--cloud", "demo", "--progress", "plain", "--rm", "--flavor", "m1.nano", "--network", "none"}, flags...)...)
	}
	first := boot("--name", "static", "--entrypoint", "/echo", static, "static").ok().says("static\n").complains("uploading", "create server")
	again := boot("--name", "again", "--entrypoint", "/echo", static, "static").ok().says("static\n").complains("up to date")
	if strings.Contains(again.stderr, "uploading") {
		t.Errorf("uploaded twice:\n%s\n%s", first.stderr, again.stderr)
	}

	user := ociLayout(t, configured(t, func(cfg *v1.Config) { cfg.User = "7:8" }))
	data := filepath.Join(t.TempDir(), "user-data")
	if err := os.WriteFile(data, []byte("#cloud-config\nwrite_files: [{path: /told, content: by Nova}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// On a network that gives addresses by the config drive alone.
	out := s.run("boot", "--cloud", "demo", "--rm", "--name", "who", "--flavor", "m1.nano", "--network", "private", "--user-data", data, user,
		"sh", "-c", "id -u; id -g; hostname; cat /told; echo; ip -4 -o address show dev eth0; exit 7").exits(7).stdout
	if err := lacks(out, "7\n8\nwho", "by Nova\n", "inet 10.9.0."); err != nil {
		t.Error(err)
	}

	// Mistakes are told before anything is uploaded, and nothing stays.
	uploaded := len(c.all("demo", false))
	for _, wrong := range []struct {
		want  string
		flags []string
	}{
		{"0 networks have the name or ID nowhere", []string{"--network", "nowhere", "--entrypoint", "/echo"}},
		{"--network none excludes other networks", []string{"--network", "private", "--network", "none", "--entrypoint", "/echo"}},
		{"no flavor with a name or ID of 'no' exists", []string{"--flavor", "no", "--entrypoint", "/echo"}},
		{"--volume is for this host's engine", []string{"-v", "/tmp:/tmp"}},
		{"/nothing: executable not found", []string{"--entrypoint", "/nothing"}},
	} {
		s.run(slices.Concat([]string{"boot", "--cloud", "demo"}, wrong.flags, []string{static})...).exits(125).complains(wrong.want)
	}
	if now := len(c.all("demo", false)); now != uploaded {
		t.Errorf("%d images before mistakes, %d after", uploaded, now)
	}
}

// Kernel and ramdisk are images of their own, and the root a disk without a boot loader.
func TestNovaKernel(t *testing.T) {
	c, s := newNova(t)
	hello := "oci:" + filepath.Join(imageDir, "hello")
	upload := []string{"image", "disk", "--layout", "none", "--upload", "glance:test-nova-hello", "--cloud", "demo", "--property", "hw_pmu=false", hello}
	id := strings.TrimSpace(s.run(upload...).ok().complains("slipway-kernel: uploading", "slipway-initramfs: uploading", "test-nova-hello: uploading").stdout)
	s.run(upload...).ok().says(id + "\n").complains("up to date")
	img, err := images.Get(t.Context(), c.images("demo"), id).Extract()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"hw_disk_bus": "virtio", "hw_video_model": "none", "hw_pmu": "false", "os_type": "linux"} {
		if got, _ := img.Properties[name].(string); got != want {
			t.Errorf("property %s is %q, want %q", name, got, want)
		}
	}
	out := c.openstack("demo", "server create --image test-nova-hello --flavor m1.nano --nic none --config-drive True --wait direct -f value -c status")
	if !strings.Contains(out, "ACTIVE") {
		t.Fatalf("the client says:\n%s", out)
	}
	t.Cleanup(func() { c.openstack("demo", "server delete --wait direct") })
	eventually(t, novaPatience, func() error {
		return lacks(c.openstack("demo", "console log show direct"), "Hello from a micro-VM.", "hello (1000:1000", "direct", "ended with status 0")
	})
}

// A Debian with its own init, which goes on until it is stopped.
func TestNovaSystem(t *testing.T) {
	c, s := newNova(t)
	id := strings.TrimSpace(s.run("boot", "-d", "--cloud", "demo", "--name", "debian", "--flavor", "m1.tiny", "--network", "none",
		"oci:"+filepath.Join(imageDir, "systemd")).ok().stdout)
	t.Cleanup(func() { c.openstack("demo", "server delete --wait "+id) })
	eventually(t, novaPatience, func() error {
		return lacks(c.openstack("demo", "console log show "+id), "debian login:")
	})
	c.openstack("demo", "server stop "+id)
	eventually(t, novaPatience, func() error {
		return lacks(c.openstack("demo", "server show -f value -c status "+id), "SHUTOFF")
	})
}
