package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/slipway-vm/slipway/cmd/internal/traffic"
)

// The benchmark of a Glance: an image of Debian is pushed, and then a second one, which has
// a layer more; a host boots the first, and then the second. Beside that stands what there
// was before: the second image as docker save writes it, in one piece. The bytes are those
// of images' data that pass between Slipway and Glance.

// step is one of the things that are measured.
type step struct {
	name string
	do   func(context.Context) (time.Duration, error)
	took []time.Duration
	up   int64
	down int64
}

// glanceBench does the steps, run by run, on states of its own.
type glanceBench struct {
	options
	dir   string
	cloud *openStack
	meter *traffic.Meter
	// pusher and host are made anew in each run.
	pusher, host *slipway
	archive      string // the second image, as docker saves it
}

func runGlance(ctx context.Context, o options) (err error) {
	b := &glanceBench{options: o}
	if b.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.cloud, err = openCloud(ctx, o, "core", "slipway"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cloud.close(context.WithoutCancel(ctx))) }()
	if b.meter, err = traffic.New(b.cloud.glance.Endpoint); err != nil {
		return err
	}
	defer b.meter.Close()
	steps := b.steps()
	for i := range o.runs {
		progress(fmt.Sprintf("Glance, run %d of %d", i+1, o.runs))
		if err := b.run(ctx, steps); err != nil {
			return err
		}
	}
	b.report(os.Stdout, steps)
	return nil
}

func (b *glanceBench) layout(name string) string {
	return "oci:" + filepath.Join(os.Getenv("SLIPWAY_TEST_IMAGES"), name)
}

func (b *glanceBench) steps() []*step {
	push := func(name string) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) {
			begin := time.Now()
			err := b.pusher.run(ctx, "image", "push", "-q", b.layout(name), "glance:bench-"+name)
			return time.Since(begin), err
		}
	}
	boot := func(name string) func(context.Context) (time.Duration, error) {
		return func(ctx context.Context) (time.Duration, error) {
			t, err := timed(b.host.command(ctx, "boot", "--rm", "--network", "none", "glance:bench-"+name, "echo", marker), marker)
			return t.first, err
		}
	}
	return []*step{
		{name: "push Debian", do: push("base")},
		{name: "push nginx on it", do: push("nginx")},
		{name: "push it again", do: push("nginx")},
		{name: "upload nginx whole, as docker save has it", do: b.upload},
		{name: "boot Debian", do: boot("base")},
		{name: "boot nginx on it", do: boot("nginx")},
		{name: "boot it again", do: boot("nginx")},
		{name: "boot nginx whole", do: boot("whole")},
	}
}

// upload stores the second image in one piece, as the openstack client does.
func (b *glanceBench) upload(ctx context.Context) (time.Duration, error) {
	f, err := os.Open(b.archive)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	begin := time.Now()
	made, err := images.Create(ctx, b.cloud.glance, images.CreateOpts{Name: "bench-whole", ContainerFormat: "docker", DiskFormat: "raw"}).Extract()
	if err != nil {
		return 0, err
	}
	through := *b.cloud.glance
	through.Endpoint, through.ResourceBase = b.meter.URL+"/", b.meter.URL+"/v2/"
	err = imagedata.Upload(ctx, &through, made.ID, f).ExtractErr()
	return time.Since(begin), err
}

// run takes two hosts that have nothing through all steps.
func (b *glanceBench) run(ctx context.Context, steps []*step) (err error) {
	b.pusher, b.host = b.slipway(), b.slipway()
	for _, s := range []*slipway{b.pusher, b.host} {
		if s.state, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.remove(context.WithoutCancel(ctx))) }()
		// What a first boot makes once is no matter of Glance's.
		if err := s.prepare(ctx); err != nil {
			return err
		}
	}
	if b.archive == "" {
		b.archive = filepath.Join(b.dir, "whole.tar")
		if err := b.pusher.run(ctx, "image", "save", "-o", b.archive, b.layout("nginx")); err != nil {
			return err
		}
	}
	for _, s := range steps {
		b.meter.Moved()
		took, err := s.do(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		s.took = append(s.took, took)
		s.up, s.down = b.meter.Moved()
	}
	return b.cloud.clear(ctx)
}

func (b *glanceBench) slipway() *slipway {
	return &slipway{options: b.options, env: []string{
		"SLIPWAY_CLOUD_NAME=" + b.cloud.user, "SLIPWAY_CLOUD_FILE=" + b.cloud.clouds, "SLIPWAY_IMAGE_URL=" + b.meter.URL,
	}}
}

func (b *glanceBench) report(w io.Writer, steps []*step) {
	fmt.Fprintf(w, "\nA Glance: %d runs, medians; boots are until the entrypoint's first byte\n\n", b.runs)
	t := newTable(w)
	fmt.Fprintln(t, "\ttime\tto Glance\tfrom Glance\t")
	for _, s := range steps {
		fmt.Fprintf(t, "%s\t%.2f s\t%.3f MB\t%.3f MB\t\n", s.name, median(slices.Sorted(slices.Values(s.took))).Seconds(), float64(s.up)/1e6, float64(s.down)/1e6)
	}
	t.Flush()
}
