package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/slipway-vm/slipway/rootfs"
)

// cloneSize is the disk of a Nova m1.small.
const cloneSize = 20 << 30

// cloneSteps are the numbers of servers at which clones are looked at.
var cloneSteps = []int{1, 100, 1000}

// cloneResults are those of the first so many clones of a base.
type cloneResults struct {
	Servers int             `json:"servers"`
	Times   []time.Duration `json:"times_ns"` // of every clone, of all runs
	Disk    []int64         `json:"disk"`     // per server, of each run
}

// measureClones clones a base for many servers, as often as there are runs.
func (b *imageBench) measureClones(ctx context.Context) ([]*cloneResults, error) {
	var results []*cloneResults
	for _, n := range cloneSteps {
		results = append(results, &cloneResults{Servers: n})
	}
	for run := range b.runs {
		progress(fmt.Sprintf("clones, run %d of %d: %d", run+1, b.runs, slices.Max(cloneSteps)))
		if err := b.cloneOnce(ctx, results); err != nil {
			return nil, fmt.Errorf("clones: %w", err)
		}
	}
	return results, nil
}

// cloneOnce makes clones on a new file system and adds to the results.
func (b *imageBench) cloneOnce(ctx context.Context, results []*cloneResults) (err error) {
	fs, err := newFileSystem(ctx, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.remove()) }()
	img, err := openLayout(filepath.Join(b.layouts, "busybox"))
	if err != nil {
		return err
	}
	store, err := rootfs.Open(ctx, rootfs.Config{Dir: filepath.Join(fs.dir, "rootfs")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	base, err := store.Unpack(ctx, img, rootfs.UnpackOptions{})
	if err != nil {
		return err
	}
	clone := func(server int) error {
		dir := filepath.Join(fs.dir, fmt.Sprint(server))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		_, err := store.Create(ctx, dir, base, cloneSize)
		return err
	}
	// The first of a size makes the template.
	if err := clone(0); err != nil {
		return err
	}
	before, err := fs.used()
	if err != nil {
		return err
	}
	var times []time.Duration
	for _, r := range results {
		for len(times) < r.Servers {
			start := time.Now()
			if err := clone(len(times) + 1); err != nil {
				return err
			}
			times = append(times, time.Since(start))
		}
		used, err := fs.used()
		if err != nil {
			return err
		}
		r.Times = append(r.Times, times...)
		r.Disk = append(r.Disk, (used-before)/int64(r.Servers))
	}
	return nil
}
