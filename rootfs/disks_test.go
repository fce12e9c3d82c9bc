package rootfs_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/rootfs"
)

// What was written to an overlay mounted by the host is on its disks, and what is
// written to the disks is there when the host mounts it again.
func TestDisks(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	o := clone(t, s, unpack(t, s, Numbered(t, 3)))
	write(t, "by the host", mount(t, o), "kept")
	d, err := o.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := left(t, dir, o.Dir); n != 0 {
		t.Errorf("%d mounts left", n)
	}
	if len(d.Layers) != 3 || !strings.Contains(d.Options, "index=off") {
		t.Errorf("got %+v", d)
	}
	for i, l := range d.Layers {
		if st, err := os.Stat(l.Path); err != nil || st.Size() != l.Size || l.Path != o.Base.Images()[i] {
			t.Errorf("layer %d: %+v, %v", i, l, err)
		}
	}
	// As a guest mounts it.
	upper := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop,"+d.UpperOptions, d.Upper, upper).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := read(t, upper, "fs", "kept"); got != "by the host" {
		t.Errorf("on the disk: %q", got)
	}
	write(t, "by the guest", upper, "fs", "new")
	if err := unix.Unmount(upper, 0); err != nil {
		t.Fatal(err)
	}
	if got := read(t, mount(t, o), "new"); got != "by the guest" {
		t.Errorf("after the guest: %q", got)
	}
}

// Two that write to one upper.img would destroy it.
func TestDisksInUse(t *testing.T) {
	s := open(t, t.TempDir())
	o := clone(t, s, unpack(t, s, Numbered(t, 1)))
	d, err := o.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(d.Upper, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// As QEMU marks what it writes to.
	lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 101, Len: 1}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(o.Dir, "root")
	if err := o.Mount(t.Context(), target); !errors.Is(err, rootfs.ErrBusy) {
		t.Errorf("mounted while a guest has it: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mount(t, o)
}

// The base alone, of one layer or several, is read-only and knows nothing of what
// was written over it.
func TestMountBase(t *testing.T) {
	for _, n := range []int{1, 3} {
		dir := t.TempDir()
		s := open(t, dir)
		o := clone(t, s, unpack(t, s, Numbered(t, n)))
		write(t, "mine", mount(t, o), "kept")
		if _, err := o.Disks(t.Context()); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(o.Dir, "base")
		if err := o.MountBase(t.Context(), target); err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(target)
		if err != nil || len(names) != 2 {
			t.Errorf("%d layers: %v, %v", n, names, err)
		}
		if err := os.WriteFile(filepath.Join(target, "n"), nil, 0o644); !errors.Is(err, unix.EROFS) {
			t.Errorf("%d layers: written to: %v", n, err)
		}
		if err := o.Unmount(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := left(t, dir, o.Dir); n != 0 {
			t.Errorf("%d mounts left", n)
		}
	}
}

func TestModes(t *testing.T) {
	for _, m := range rootfs.Modes {
		for what, s := range map[string]string{
			"how": m.How, "capabilities": m.Capabilities, "attributes": m.Attributes, "devices": m.Devices, "times": m.Times,
			"volumes": m.Volumes, "privileges": m.Privileges, "snapshots": m.Snapshots,
		} {
			if s == "" {
				t.Errorf("%s says nothing of %s", m.Name, what)
			}
		}
	}
}
