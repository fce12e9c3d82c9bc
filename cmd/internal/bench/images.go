package main

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/slipway-vm/slipway/rootfs/inflate"
)

// pullImages are the images that are pulled, by the names of their OCI layouts.
var pullImages = []struct{ label, layout, below string }{
	{"small", "busybox", ""},
	{"medium", "medium", ""},
	{"large", "large", ""},
	{"incremental", "nginx", "base"},
}

// clones is the part that pulls nothing.
const clones = "clones"

// pullImage is an image that is pulled.
type pullImage struct {
	Label  string `json:"label"`
	Layers int    `json:"layers"`
	// Of the layers that have to be pulled.
	Missing    int   `json:"missing"`
	Compressed int64 `json:"compressed"`
	Unpacked   int64 `json:"unpacked"`
	Entries    int   `json:"entries"`

	ref    string
	below  string // reference of an image that has been pulled before, if any
	layers []v1.Layer
}

// imageBench measures pulls. Everything that it makes lies in a directory.
type imageBench struct {
	options
	dir     string
	layouts string
	images  []*pullImage
}

func newImageBench(o options, dir string) *imageBench {
	return &imageBench{options: o, dir: dir, layouts: os.Getenv("SLIPWAY_TEST_IMAGES")}
}

// run measures everything, and prints it.
func (b *imageBench) run(ctx context.Context) (err error) {
	if err := b.check(); err != nil {
		return err
	}
	progress("starting a registry, filling it with images")
	r, err := startRegistry(ctx, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := b.fill(ctx, r); err != nil {
		return err
	}

	results := &imageResults{Machine: thisMachine(), Runs: b.runs}
	results.printHead(os.Stdout)
	which := regexp.MustCompile(b.subjects)
	subjects := slices.DeleteFunc(allSubjects(ctx, b.options), func(s subject) bool { return !which.MatchString(s.name) })
	for _, img := range b.images {
		pulls, err := b.measurePulls(ctx, img, subjects)
		if err != nil {
			return err
		}
		results.Pulls = append(results.Pulls, pulls)
		pulls.print(os.Stdout)
	}
	if b.wants(clones) {
		if results.Clones, err = b.measureClones(ctx); err != nil {
			return err
		}
		printClones(os.Stdout, results.Clones)
	}
	results.printSummary(os.Stdout)
	results.Machine.LoadAfter = loadAverage()
	fmt.Fprintf(os.Stdout, "\nLoad average afterwards: %s\n", results.Machine.LoadAfter)
	if b.json != "" {
		return results.write(b.json)
	}
	return nil
}

// check finds mistakes before anything is measured.
func (b *imageBench) check() error {
	if _, err := regexp.Compile(b.subjects); err != nil {
		return fmt.Errorf("-subjects: %w", err)
	}
	if b.parts == "" {
		return nil
	}
	for _, part := range strings.Split(b.parts, ",") {
		known := part == clones
		for _, p := range pullImages {
			known = known || part == p.label
		}
		if !known {
			return fmt.Errorf("-images %q: there is no such part", part)
		}
	}
	return nil
}

// wants tells whether a part of the image benchmark was asked for.
func (b *imageBench) wants(part string) bool {
	return b.parts == "" || slices.Contains(strings.Split(b.parts, ","), part)
}

// fill opens the images that are wanted, and pushes them.
func (b *imageBench) fill(ctx context.Context, r *registry) error {
	for _, p := range pullImages {
		if !b.wants(p.label) {
			continue
		}
		img, err := b.open(p.label, p.layout)
		if err != nil {
			return err
		}
		if img.ref, err = r.push(ctx, b.layouts, p.layout); err != nil {
			return err
		}
		if p.below != "" {
			if img.below, err = r.push(ctx, b.layouts, p.below); err != nil {
				return err
			}
			below, err := b.open(p.below, p.below)
			if err != nil {
				return err
			}
			// What is there already is not pulled; it is at the bottom.
			img.layers = img.layers[below.Layers:]
		}
		if err := img.measure(); err != nil {
			return fmt.Errorf("image %s: %w", p.layout, err)
		}
		b.images = append(b.images, img)
	}
	return nil
}

func (b *imageBench) open(label, name string) (*pullImage, error) {
	img, err := openLayout(filepath.Join(b.layouts, name))
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", name, err)
	}
	return &pullImage{Label: label, Layers: len(layers), layers: layers}, nil
}

// openLayout opens the one image of an OCI layout.
func openLayout(dir string) (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	return index.Image(m.Manifests[0].Digest)
}

// measure counts what the layers hold, and puts the largest first, as who wants to
// be done early begins with it.
func (i *pullImage) measure() error {
	i.Missing = len(i.layers)
	sizes := map[v1.Layer]int64{}
	for _, l := range i.layers {
		size, err := l.Size()
		if err != nil {
			return err
		}
		sizes[l] = size
		i.Compressed += size
		if err := i.count(l); err != nil {
			return err
		}
	}
	slices.SortFunc(i.layers, func(a, b v1.Layer) int { return cmp.Compare(sizes[b], sizes[a]) })
	return nil
}

func (i *pullImage) count(l v1.Layer) error {
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	z, err := inflate.NewReader(rc)
	if err != nil {
		return err
	}
	defer z.Close()
	for tr := tar.NewReader(z); ; i.Entries++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		i.Unpacked += h.Size
	}
}

// measurePulls lets the subjects take turns, so that what disturbs the machine for
// a while disturbs all of them.
func (b *imageBench) measurePulls(ctx context.Context, img *pullImage, subjects []subject) (pullResults, error) {
	results := pullResults{Image: img}
	for _, s := range subjects {
		if why := s.unfit(); why != "" {
			results.Absent = append(results.Absent, s.name+": "+why)
			continue
		}
		results.Subjects = append(results.Subjects, &subjectResults{Name: s.name, Floor: s.floor})
	}
	for run := range b.runs {
		n := 0
		for _, s := range subjects {
			if s.unfit() != "" {
				continue
			}
			to := results.Subjects[n]
			n++
			progress(fmt.Sprintf("%s image, run %d of %d: %s", img.Label, run+1, b.runs, s.name))
			got, err := s.run(ctx, b, img)
			if err != nil {
				return results, fmt.Errorf("%s image, %s: %w", img.Label, s.name, err)
			}
			to.Runs = append(to.Runs, got)
		}
	}
	return results, nil
}

// sample is one pull.
type sample struct {
	// Elapsed is until the command had ended, Synced until all was on disk too.
	Elapsed time.Duration `json:"elapsed_ns"`
	Synced  time.Duration `json:"synced_ns,omitempty"`
	// Peak is the most memory that was resident meanwhile, Before what was when
	// it began; 0 where that is not measured.
	Peak   int64 `json:"peak,omitempty"`
	Before int64 `json:"before,omitempty"`
}

// pullFresh measures one pull by p, on a file system made for it.
func (b *imageBench) pullFresh(ctx context.Context, p puller, img *pullImage) (_ sample, err error) {
	fs, err := newFileSystem(ctx, b.dir)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, fs.remove()) }()
	if err := p.open(ctx, b.options, fs.dir); err != nil {
		return sample{}, errors.Join(err, p.close(context.WithoutCancel(ctx)))
	}
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	if img.below != "" {
		if err := p.pull(ctx, img.below); err != nil {
			return sample{}, err
		}
	}
	if err := errors.Join(p.rest(ctx), fs.sync()); err != nil {
		return sample{}, err
	}

	var s sample
	m, remembers := p.(rememberer)
	if remembers {
		if s.Before, err = m.forget(ctx); err != nil {
			return s, err
		}
	}
	start := time.Now()
	if err := p.pull(ctx, img.ref); err != nil {
		return s, err
	}
	s.Elapsed = time.Since(start)
	if err := fs.sync(); err != nil {
		return s, err
	}
	s.Synced = time.Since(start)
	if remembers {
		s.Peak, err = m.peak(ctx)
	}
	return s, err
}
