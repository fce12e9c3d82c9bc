package rootfs

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// Phase is how far one layer is.
type Phase string

const (
	PhaseWaiting Phase = "waiting"
	PhaseFetch   Phase = "fetching" // and unpacking: the two are one pass
	PhaseDone    Phase = "done"
	PhaseExists  Phase = "exists"
)

// Progress is the state of one layer of an image being unpacked.
type Progress struct {
	Index    int // from the bottom
	Layers   int
	Digest   v1.Hash
	DiffID   v1.Hash
	Phase    Phase
	Complete int64 // compressed bytes read
	Total    int64
}

// UnpackOptions change how an image is unpacked.
type UnpackOptions struct {
	// Progress, if set, is called when a layer's phase changes and now and
	// then while it is fetched; calls do not overlap.
	Progress func(Progress)
}

// job is one layer to be unpacked.
type job struct {
	Progress
	layer  v1.Layer
	report func(Progress)
}

// Unpack makes the layer images an image lacks and gives its base. A layer is
// fetched and made at most once however many ask for it at a time. On error
// the layers that were finished stay; nothing else does.
func (s *Store) Unpack(ctx context.Context, img v1.Image, o UnpackOptions) (*Base, error) {
	jobs, diffIDs, err := s.jobs(img, o)
	if err != nil {
		return nil, fmt.Errorf("unpack image: %w", err)
	}
	defer s.sealer.begin()()
	b := &budget{limits: s.config.Limits}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(s.config.Parallel)
	for _, j := range jobs {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			return s.flights.do(groupCtx, j.DiffID, func() error { return s.ensure(groupCtx, j, b) })
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("unpack image: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("unpack image: %w", err)
	}
	return s.base(ctx, diffIDs)
}

// jobs pairs layers with diff IDs, the largest first: begun last, it would be
// what everybody waits for.
func (s *Store) jobs(img v1.Image, o UnpackOptions) ([]*job, []v1.Hash, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, nil, err
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, nil, err
	}
	diffIDs := config.RootFS.DiffIDs
	if len(layers) != len(diffIDs) {
		return nil, nil, fmt.Errorf("manifest has %d layers, config %d diff IDs: %w", len(layers), len(diffIDs), ErrCorrupt)
	}
	var mu sync.Mutex
	report := func(p Progress) {
		if o.Progress != nil {
			mu.Lock()
			defer mu.Unlock()
			o.Progress(p)
		}
	}
	jobs := make([]*job, 0, len(layers))
	seen := map[v1.Hash]bool{}
	for i, l := range layers {
		j := &job{layer: l, report: report, Progress: Progress{Index: i, Layers: len(layers), DiffID: diffIDs[i], Phase: PhaseWaiting}}
		if j.Digest, err = l.Digest(); err != nil {
			return nil, nil, err
		}
		if j.Total, err = l.Size(); err != nil {
			return nil, nil, err
		}
		if seen[j.DiffID] {
			continue
		}
		seen[j.DiffID] = true
		err := s.whole(j.DiffID)
		switch {
		case err == nil:
			j.Phase = PhaseExists
			report(j.Progress)
			continue
		case !errors.Is(err, ErrNotFound):
			return nil, nil, err
		}
		report(j.Progress)
		jobs = append(jobs, j)
	}
	slices.SortStableFunc(jobs, func(a, b *job) int { return cmp.Compare(b.Total, a.Total) })
	return jobs, diffIDs, nil
}

// ensure makes a layer image unless another process has made it meanwhile.
func (s *Store) ensure(ctx context.Context, j *job, b *budget) error {
	release, err := s.locks.Acquire(ctx, content.Byte(j.DiffID))
	if err != nil {
		return fmt.Errorf("layer %s: %w", j.Digest, err)
	}
	defer release()
	if err := s.whole(j.DiffID); err == nil {
		j.Phase = PhaseExists
		j.report(j.Progress)
		return nil
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := enter(ctx, s.slots); err != nil {
		return fmt.Errorf("layer %s: %w", j.Digest, err)
	}
	defer leave(s.slots)
	start := time.Now()
	if err := s.make(ctx, j, b); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("layer %s: %w", j.Digest, err)
	}
	j.Phase, j.Complete = PhaseDone, j.Total
	j.report(j.Progress)
	s.log.Info("layer unpacked", "digest", j.Digest, "diff_id", j.DiffID, "elapsed", time.Since(start))
	return nil
}

// enter waits for a place in a room.
func enter(ctx context.Context, room chan struct{}) error {
	select {
	case room <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func leave(room chan struct{}) { <-room }

// make fetches, checks and converts one layer, whose lock is held.
func (s *Store) make(ctx context.Context, j *job, b *budget) (err error) {
	f, err := content.Temporary(s.path("tmp"), "layer-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			content.Discard(f)
		}
	}()
	info, err := s.convert(ctx, j, f, b)
	if err != nil {
		return err
	}
	if err := f.Truncate(info.Size); err != nil {
		return err
	}
	if err := f.Chmod(0o400); err != nil {
		return err
	}
	// Synced later: see seal.
	if err := os.Rename(f.Name(), s.imagePath(j.DiffID)); err != nil {
		return err
	}
	l := Layer{DiffID: j.DiffID, Made: time.Now().UTC(), Size: info.Size, Bytes: info.Bytes, Inodes: info.Inodes, Boot: bootID(),
		Recipe: recipe, Root: info.Root, Implied: info.Implied, RootImplied: info.RootImplied, RootOpaque: info.RootOpaque}
	for _, x := range info.Links {
		l.Links = append(l.Links, link{[]byte(x.Name), []byte(x.Target)})
	}
	for _, p := range info.Capable {
		l.Capable = append(l.Capable, []byte(p))
	}
	if err := content.WriteUnsynced(s.path("tmp"), s.recordPath(j.DiffID), &l); err != nil {
		return err
	}
	s.seal(&l)
	return f.Close()
}

// convert runs a layer through the whole pass: download, decompression, both
// digests, and the image.
func (s *Store) convert(ctx context.Context, j *job, f *os.File, b *budget) (layer.Info, error) {
	rc, err := openLayer(ctx, j.layer)
	if err != nil {
		return layer.Info{}, err
	}
	closeSource := sync.OnceFunc(func() { rc.Close() })
	defer closeSource()
	defer context.AfterFunc(ctx, closeSource)()

	memory := s.memory.draft(ctx)
	defer memory.close()
	source := &counted{r: rc, f: j.progress()}
	z, err := decompress(source, memory)
	if err != nil {
		return layer.Info{}, s.blame(ctx, source, err)
	}
	defer z.Close()
	// Headers and padding come on top of the files' bytes.
	pipe := newAhead(z, b.limits.Bytes+b.limits.Bytes/4+1<<20, s.spare)
	defer pipe.Close()
	info, err := layer.Convert(pipe, f, uuid(j.DiffID), struct {
		*budget
		*draft
	}{b, memory})
	pipe.Close()
	if err == nil {
		// Decompressors may stop short of the source's end, where its digest
		// is checked.
		_, err = io.Copy(io.Discard, source)
	}
	if err != nil {
		return layer.Info{}, s.blame(ctx, source, err)
	}
	if got := pipe.Hash(); got != j.DiffID {
		return layer.Info{}, fmt.Errorf("unpacks to %s, config says %s: %w", got, j.DiffID, ErrCorrupt)
	}
	return info, nil
}

// spare says whether there are more processors than layers being unpacked.
func (s *Store) spare() bool { return len(s.slots) < s.config.Processors }

// blame prefers the reason the source stopped for to what was then made of
// the bytes that were missing.
func (s *Store) blame(ctx context.Context, source *counted, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// Nor is it the layer's fault that the disk is full.
	var disk *fs.PathError
	if errors.Is(err, ErrTooLarge) || errors.As(err, &disk) {
		return err
	}
	if source.err != nil && !errors.Is(source.err, io.EOF) {
		return source.err
	}
	// What was read may be wrong because it is not what the digest promised:
	// reading on tells.
	if _, copyErr := io.CopyN(io.Discard, source, 1<<30); copyErr != nil && !errors.Is(copyErr, io.EOF) {
		return copyErr
	}
	if errors.Is(err, ErrMalformed) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

// progress reports every few hundred kilobytes.
func (j *job) progress() func(n int) {
	j.Phase = PhaseFetch
	j.report(j.Progress)
	last := int64(0)
	return func(n int) {
		j.Complete += int64(n)
		if j.Complete-last >= 512<<10 {
			last = j.Complete
			j.report(j.Progress)
		}
	}
}

// uuid names a layer's file system after the layer: overlayfs wants those of
// a stack to differ.
func uuid(h v1.Hash) (id [16]byte) {
	b, _ := hex.DecodeString(h.Hex)
	copy(id[:], b)
	return id
}

// budget is what the layers of one image may use together.
type budget struct {
	limits        Limits
	bytes, inodes atomic.Int64
}

func (b *budget) Bytes(n int64) error {
	if n < 0 || n > b.limits.Bytes || b.bytes.Add(n) > b.limits.Bytes {
		return fmt.Errorf("%w of %d bytes", ErrTooLarge, b.limits.Bytes)
	}
	return nil
}

func (b *budget) Inodes(n int64) error {
	if b.inodes.Add(n) > b.limits.Inodes {
		return fmt.Errorf("%w of %d files", ErrTooLarge, b.limits.Inodes)
	}
	return nil
}

// flights lets one caller at a time make a layer; those who come meanwhile
// share its result, unless that was the first one's own cancellation.
type flights struct {
	mu sync.Mutex
	m  map[v1.Hash]*flight
}

type flight struct {
	done chan struct{}
	err  error
}

func (f *flights) do(ctx context.Context, h v1.Hash, fn func() error) error {
	for {
		f.mu.Lock()
		running := f.m[h]
		if running == nil {
			mine := &flight{done: make(chan struct{})}
			if f.m == nil {
				f.m = map[v1.Hash]*flight{}
			}
			f.m[h] = mine
			f.mu.Unlock()
			mine.err = fn()
			f.mu.Lock()
			delete(f.m, h)
			f.mu.Unlock()
			close(mine.done)
			return mine.err
		}
		f.mu.Unlock()
		select {
		case <-running.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(running.err, context.Canceled) && !errors.Is(running.err, context.DeadlineExceeded) {
			return running.err
		}
	}
}
