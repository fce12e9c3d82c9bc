// Command bench measures what Slipway costs, as ratios to a floor measured in the
// same run, so that the machine's speed and load cancel out.
//
// The floor is a guest started by QEMU alone, as bare as it can be: the machine
// type, accelerator, processor, kernel and kernel arguments of Slipway's own
// guests (they are read off a running one), an initramfs that holds only
// slipway-init, no libvirt, no devices but a serial port; init prints one line and
// powers off.
//
// Slipway is used as a person uses it, through the command line, with a state
// directory of its own that is removed afterwards. Runs of the floor and of
// Slipway alternate. A time is a median, with the extremes beside it.
//
// Images are pulled from a registry on loopback, by Slipway and by others, in
// turns. The floor is decompressing the same layers to nothing on as many
// processors. Every pull begins with a new ext4 file system, on a loop device over
// a sparse file on TMPDIR's disk, the same for all: with nothing in it, or for the
// incremental pull with the image below.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line and the makefile say.
type options struct {
	runs      int
	image     string
	root      string
	flavor    string
	bin       string // holds slipway, slipwayd and slipway-init
	kernel    string // file of the kernel that is measured
	kernelDeb string // Debian's, to compare with
	state     string
	what      string // the names of parts
	parts     string // of images
	subjects  string // regular expression
	json      string

	containerd string // directory of containerd 2, its client and its mkfs.erofs
	openstack  string // directory of the OpenStack that `make openstack` starts
}

// parts are those of the benchmark, in their order.
var parts = []struct {
	name string
	run  func(context.Context, options) error
	// named parts are run where they are named alone: they need an OpenStack.
	named bool
}{
	{name: "boot", run: runBoot},
	{name: "filesystem", run: runFileSystems},
	{name: "guest", run: runGuest},
	{name: "network", run: runNetwork},
	{name: "api", run: func(ctx context.Context, _ options) error { return runAPI(ctx) }},
	{name: "images", run: runImages},
	{name: "disk", run: runDisk},
	{name: "glance", run: runGlance, named: true},
	{name: "cloud", run: runCloud, named: true},
}

func parseOptions() (options, error) {
	var o options
	var named, unnamed []string
	for _, p := range parts {
		if p.named {
			named = append(named, p.name)
		} else {
			unnamed = append(unnamed, p.name)
		}
	}
	flag.IntVar(&o.runs, "n", 5, "`number` of runs")
	flag.StringVar(&o.image, "image", "", "image `reference` (default the busybox test image)")
	flag.StringVar(&o.root, "root", "", "root `mode`: virtiofs, 9p or block (default Slipway's)")
	flag.StringVar(&o.flavor, "flavor", "", "`flavor` of the servers (default Slipway's)")
	flag.StringVar(&o.what, "run", strings.Join(unnamed, ","), "`parts` of the benchmark: these, and "+strings.Join(named, ", ")+", for which an OpenStack is started")
	flag.StringVar(&o.parts, "images", "", "`parts` of the image benchmark: of small,medium,large,incremental,clones (default all)")
	flag.StringVar(&o.subjects, "subjects", "", "measure only the pulls and floors whose names match a regular `expression`")
	flag.StringVar(&o.json, "json", "", "`file` to write the image benchmark's results to")
	flag.Parse()
	unknown := slices.DeleteFunc(strings.Split(o.what, ","), func(part string) bool { return slices.Contains(slices.Concat(named, unnamed), part) })
	if flag.NArg() > 0 || o.runs < 1 || len(unknown) > 0 {
		flag.Usage()
		return o, errors.New("wrong arguments")
	}
	for name, field := range map[string]*string{
		"SLIPWAY_TEST_BIN": &o.bin, "SLIPWAY_TEST_KERNEL": &o.kernel, "SLIPWAY_TEST_KERNEL_DEB": &o.kernelDeb,
		"SLIPWAY_TEST_CONTAINERD": &o.containerd, "SLIPWAY_TEST_OPENSTACK": &o.openstack,
	} {
		if *field = os.Getenv(name); *field == "" {
			return o, fmt.Errorf("%s is not set: run it by make bench", name)
		}
	}
	if o.image == "" {
		o.image = "oci:" + filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), "busybox")
	}
	return o, nil
}

// does tells whether a part of the benchmark was asked for.
func (o options) does(part string) bool { return slices.Contains(strings.Split(o.what, ","), part) }

func run(ctx context.Context) error {
	o, err := parseOptions()
	if err != nil {
		return err
	}
	for _, p := range parts {
		if !o.does(p.name) {
			continue
		}
		if err := p.run(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func runImages(ctx context.Context, o options) (err error) {
	dir, err := os.MkdirTemp("", "slipway-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeBelow(dir)) }()
	return newImageBench(o, dir).run(ctx)
}

func runBoot(ctx context.Context, o options) (err error) {
	if o.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	s := &slipway{options: o}
	defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx))) }()

	progress("importing the kernel and the image; the first boot")
	if err := s.prepare(ctx); err != nil {
		return err
	}
	progress("memory of one idle server")
	mem, fl, err := s.measureMemory(ctx)
	if err != nil {
		return err
	}
	stockFloor, err := s.stockFloor(ctx)
	if err != nil {
		return err
	}
	balloonFloor := fl.balloonFloor()

	var bare, balloon, stock, warm, standby, cold []times
	var ends endings
	for i := range o.runs {
		progress(fmt.Sprintf("run %d of %d: bare QEMU, with a balloon, on both kernels, boot, boot with the engine's start, boot of a guest that stands by", i+1, o.runs))
		// The first QEMU after a pause takes up to half as long again. What all else is
		// divided by is measured twice.
		var t times
		for _, f := range []struct {
			*floor
			to *[]times
		}{{fl, nil}, {stockFloor, &stock}, {fl, &bare}, {balloonFloor, &balloon}, {stockFloor, &stock}, {fl, &bare}} {
			if t, err = f.run(ctx); err != nil {
				return err
			}
			if f.to != nil {
				*f.to = append(*f.to, t)
			}
		}
		// Starts the engine if the run before has ended it.
		if err := s.run(ctx, "server", "list"); err != nil {
			return err
		}
		if t, err = s.boot(ctx); err != nil {
			return err
		}
		warm = append(warm, t)
		if err := s.measureEndings(ctx, &ends); err != nil {
			return err
		}
		if err := s.stopEngine(ctx); err != nil {
			return err
		}
		if t, err = s.boot(ctx); err != nil {
			return err
		}
		cold = append(cold, t)
		if err := s.stopEngine(ctx); err != nil {
			return err
		}
		if t, mem.standby, err = s.standsBy().bootStandby(ctx); err != nil {
			return err
		}
		standby = append(standby, t)
		if err := s.stopEngine(ctx); err != nil {
			return err
		}
	}
	report(os.Stdout, o, fl, mem, bare, balloon, warm, cold, standby)
	reportKernels(os.Stdout, fl, stockFloor, bare, stock)
	ends.report(os.Stdout)
	return nil
}

// times are those of one guest since its command was started.
type times struct {
	first time.Duration // until the first byte that it was started for
	end   time.Duration // until the command had ended
	// kernel is the bare guest's own word for how long it took to PID 1.
	kernel time.Duration
}

func progress(what string) { fmt.Fprintln(os.Stderr, "bench:", what) }
