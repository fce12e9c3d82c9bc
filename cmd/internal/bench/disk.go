package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-vm/slipway/guest"
)

// The benchmark of exported disks: an image as a disk that boots by itself, and as one
// beside its kernel, over virt-make-fs, which makes a file system of the image's tree
// that boots nowhere. What comes before is not measured: the image is pulled, its tree
// is unpacked, and libguestfs has its appliance.

// diskImages are exported.
var diskImages = []string{"busybox", "nginx", "medium"}

// madeDisk is what a maker made of an image.
type madeDisk struct {
	name string
	make func(ctx context.Context, file string) error
	took []time.Duration
	size int64 // on disk
}

type diskBench struct {
	*slipway
	dir string
	// guestfs runs a program of libguestfs.
	guestfs func(ctx context.Context, args ...string) *exec.Cmd
}

func runDisk(ctx context.Context, o options) (err error) {
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	b := &diskBench{slipway: &slipway{options: o}}
	defer func() { err = errors.Join(err, b.remove(context.WithoutCancel(ctx))) }()
	if b.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	progress("importing the kernel; the appliance of libguestfs")
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.prepareGuestFS(ctx); err != nil {
		return err
	}
	fmt.Printf("\nDisks: %d runs, medians\n\n", o.runs)
	t := newTable(os.Stdout)
	fmt.Fprintln(t, "\ttime\tratio\tsize\tof the unpacked size\t")
	for _, name := range diskImages {
		if err := b.measure(ctx, t, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return t.Flush()
}

// prepareGuestFS gives libguestfs Debian's kernel, which need not be installed, and the
// accelerator of Slipway's guests.
func (b *diskBench) prepareGuestFS(ctx context.Context) error {
	kernel := filepath.Join(b.dir, "kernel")
	if err := runCommand(ctx, "dpkg-deb", "-x", b.kernelDeb, kernel); err != nil {
		return err
	}
	modules, err := filepath.Glob(filepath.Join(kernel, "lib/modules/*"))
	if err != nil || len(modules) != 1 {
		return fmt.Errorf("%s has modules of %d kernels, not of one: %w", b.kernelDeb, len(modules), err)
	}
	version := filepath.Base(modules[0])
	if err := runCommand(ctx, "depmod", "-b", kernel, version); err != nil {
		return err
	}
	cache := filepath.Join(b.dir, "guestfs")
	empty := filepath.Join(b.dir, "empty")
	if err := errors.Join(os.Mkdir(cache, 0o700), os.Mkdir(empty, 0o700)); err != nil {
		return err
	}
	env := append(os.Environ(), "LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_CACHEDIR="+cache, "TMPDIR="+cache,
		"SUPERMIN_KERNEL="+filepath.Join(kernel, "boot/vmlinuz-"+version), "SUPERMIN_KERNEL_VERSION="+version, "SUPERMIN_MODULES=/lib/modules/"+version)
	accel, err := b.accelerator(ctx)
	if err != nil {
		return err
	}
	if accel == guest.AccelTCG { // KVM may be there and hang
		env = append(env, "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	}
	b.guestfs = func(ctx context.Context, args ...string) *exec.Cmd {
		// supermin finds modules below /lib alone.
		const script = `mount -t overlay -o "lowerdir=$1:/usr/lib" none /usr/lib; shift; exec "$@"`
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-ec", script, "sh", filepath.Join(kernel, "lib")}, args...)...)
		cmd.Env = env
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		return cmd
	}
	// The first disk makes the appliance.
	return finish(b.guestfs(ctx, "virt-make-fs", "--type=ext4", empty, filepath.Join(b.dir, "first")))
}

// accelerator is what Slipway's guests run under.
func (s *slipway) accelerator(ctx context.Context) (guest.Accel, error) {
	if err := s.run(ctx, "boot", "-d", "--name", "accelerator", s.image, "sleep", "60"); err != nil {
		return "", err
	}
	out, err := s.command(ctx, "server", "show", "-f", "value", "-c", "accelerator", "accelerator").Output()
	return guest.Accel(strings.TrimSpace(string(out))), errors.Join(err, s.run(ctx, "server", "delete", "accelerator"))
}

func (b *diskBench) measure(ctx context.Context, w io.Writer, name string) error {
	layout := filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), name)
	bundle := filepath.Join(b.dir, name)
	if err := runCommand(ctx, "umoci", "unpack", "--image", layout+":latest", bundle); err != nil {
		return err
	}
	tree := filepath.Join(bundle, "rootfs")
	unpacked, err := contentOf(tree)
	if err != nil {
		return err
	}
	export := func(flags ...string) func(context.Context, string) error {
		return func(ctx context.Context, file string) error {
			return b.run(ctx, slices.Concat([]string{"image", "disk", "-o", file}, flags, []string{"oci:" + layout})...)
		}
	}
	all := []*madeDisk{
		{name: "virt-make-fs, ext4", make: func(ctx context.Context, file string) error {
			// By itself it leaves too few inodes for what Debian has in files.
			return finish(b.guestfs(ctx, "virt-make-fs", "--type=ext4", "--format=qcow2", "--size=+256M", tree, file))
		}},
		{name: "slipway image disk", make: export()},
		{name: "slipway image disk, without its kernel", make: export("--layout", "none")},
	}
	if err := b.run(ctx, "image", "pull", "oci:"+layout); err != nil {
		return err
	}
	for i := range b.runs {
		progress(fmt.Sprintf("run %d of %d: disks of %s", i+1, b.runs, name))
		for _, d := range all {
			if err := d.once(ctx, filepath.Join(b.dir, "disk.qcow2")); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
	}
	floor := median(slices.Sorted(slices.Values(all[0].took)))
	for _, d := range all {
		took := median(slices.Sorted(slices.Values(d.took)))
		fmt.Fprintf(w, "%s: %s\t%.2f s\t%.2f\t%.1f MB\t%.2f\t\n", name, d.name, took.Seconds(), took.Seconds()/floor.Seconds(),
			float64(d.size)/1e6, float64(d.size)/float64(unpacked))
	}
	return os.RemoveAll(bundle)
}

// once makes the disk, and removes it with what was made beside it.
func (d *madeDisk) once(ctx context.Context, file string) error {
	begin := time.Now()
	if err := d.make(ctx, file); err != nil {
		return err
	}
	d.took = append(d.took, time.Since(begin))
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil {
		return err
	}
	d.size = st.Blocks * 512
	made, err := filepath.Glob(file + "*")
	for _, f := range made {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// contentOf is what the files of a tree hold, in bytes.
func contentOf(tree string) (size int64, err error) {
	err = filepath.WalkDir(tree, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
