package rootfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
)

// LayerUsage is a layer image and what it takes.
type LayerUsage struct {
	Layer
	// Disk is what the file occupies: less than Size where there are holes.
	Disk int64
	// Used is when a base with the layer was last asked for.
	Used time.Time
	// Mounted: some server's root stands on it.
	Mounted bool
}

// Layers lists the layer images, by diff ID.
func (s *Store) Layers() ([]LayerUsage, error) {
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return nil, fmt.Errorf("list layer images: %w", err)
	}
	points, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list layer images: %w", err)
	}
	mounted := map[string]bool{}
	for _, p := range points {
		mounted[p.Mountpoint] = true
	}
	var all []LayerUsage
	for _, e := range entries {
		stem, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		algorithm, hex, _ := strings.Cut(stem, "-")
		u, err := s.usage(v1.Hash{Algorithm: algorithm, Hex: hex})
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
			continue // removed meanwhile, or to be swept
		}
		if err != nil {
			return nil, fmt.Errorf("list layer images: %w", err)
		}
		u.Mounted = mounted[s.path("mounts", stem)]
		all = append(all, u)
	}
	return all, nil
}

func (s *Store) usage(diffID v1.Hash) (LayerUsage, error) {
	l, err := s.lookup(diffID)
	if err != nil {
		return LayerUsage{}, err
	}
	u := LayerUsage{Layer: *l}
	var st unix.Stat_t
	if err := unix.Stat(s.imagePath(diffID), &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrNotFound
		}
		return u, err
	}
	u.Disk = st.Blocks * 512
	u.Used = time.Unix(st.Mtim.Unix())
	return u, nil
}

// touch notes that a layer is used; the note is the image's modification time.
func (s *Store) touch(diffID v1.Hash) {
	if err := os.Chtimes(s.imagePath(diffID), time.Time{}, time.Now()); err != nil {
		s.log.Debug("use of layer not noted", "diff_id", diffID, "err", err)
	}
}

// ImageUsage is what one image's layers take on disk.
type ImageUsage struct {
	// Alone would be freed with the image, Shared would not.
	Alone, Shared int64
}

// Usage tells, for images given by their diff IDs, what each holds alone and
// what it shares with others of them, and what all layer images take.
func (s *Store) Usage(images ...[]v1.Hash) (each []ImageUsage, total int64, err error) {
	layers, err := s.Layers()
	if err != nil {
		return nil, 0, err
	}
	disk := map[v1.Hash]int64{}
	for _, l := range layers {
		disk[l.DiffID] = l.Disk
		total += l.Disk
	}
	users := map[v1.Hash]int{}
	distinct := make([][]v1.Hash, len(images))
	for i, ids := range images {
		for _, id := range ids {
			if !slices.Contains(distinct[i], id) {
				distinct[i] = append(distinct[i], id)
				users[id]++
			}
		}
	}
	each = make([]ImageUsage, len(images))
	for i, ids := range distinct {
		for _, id := range ids {
			if users[id] == 1 {
				each[i].Alone += disk[id]
			} else {
				each[i].Shared += disk[id]
			}
		}
	}
	return each, total, nil
}

// Hold keeps Collect and Prune off until release is called. Whoever unpacks an image holds
// from before that until something that they are told to keep refers to it: a
// saved image, a server. Nor is anything sealed meanwhile.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	unlock, err := s.locks.Share(ctx, lockPrune)
	if err != nil {
		return nil, fmt.Errorf("hold layer images: %w", err)
	}
	// What is saved next need not wait for the disk to take what was unpacked.
	unseal := s.sealer.begin()
	return sync.OnceFunc(func() { unlock(); unseal() }), nil
}

// CollectOptions say what Collect may remove.
type CollectOptions struct {
	// Keep, if set, gives the diff IDs of layers that images and servers need. It
	// is asked when no layer image is held any more.
	Keep func() ([]v1.Hash, error)
	// MaxBytes, if set, is what may remain on disk: the least recently used
	// of the others are removed until no more than that is. Otherwise all are.
	MaxBytes int64
}

// Collected is what Collect removed.
type Collected struct {
	Layers []v1.Hash
	Bytes  int64
}

// Collect removes layer images that are neither kept nor mounted. While any are held
// it does nothing and gives ErrBusy.
func (s *Store) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	p, err := s.collect(ctx, o)
	if err != nil {
		return p, fmt.Errorf("collect layer images: %w", err)
	}
	return p, nil
}

// Prune is Collect of all that is not kept; it gives the bytes that were freed.
func (s *Store) Prune(ctx context.Context, keep []v1.Hash) (freed int64, err error) {
	c, err := s.Collect(ctx, CollectOptions{Keep: func() ([]v1.Hash, error) { return keep, nil }})
	return c.Bytes, err
}

func (s *Store) collect(ctx context.Context, o CollectOptions) (Collected, error) {
	var p Collected
	releaseHolds, ok, err := s.locks.Try(lockPrune)
	if err != nil {
		return p, err
	}
	if !ok {
		return p, fmt.Errorf("%w: an image is being pulled or read", ErrBusy)
	}
	defer releaseHolds()
	// Nothing is mounted meanwhile.
	releaseMounts, err := s.locks.Acquire(ctx, lockMounts)
	if err != nil {
		return p, err
	}
	defer releaseMounts()
	var keep []v1.Hash
	if o.Keep != nil {
		if keep, err = o.Keep(); err != nil {
			return p, err
		}
	}
	layers, err := s.Layers()
	if err != nil {
		return p, err
	}
	total := int64(0)
	for _, l := range layers {
		total += l.Disk
	}
	slices.SortFunc(layers, func(a, b LayerUsage) int {
		return cmp.Or(a.Used.Compare(b.Used), strings.Compare(a.DiffID.Hex, b.DiffID.Hex))
	})
	for _, l := range layers {
		if o.MaxBytes > 0 && total <= o.MaxBytes {
			break
		}
		if l.Mounted || slices.Contains(keep, l.DiffID) {
			continue
		}
		if err := s.collectLayer(ctx, l.DiffID); err != nil {
			return p, err
		}
		p.Layers = append(p.Layers, l.DiffID)
		p.Bytes += l.Disk
		total -= l.Disk
	}
	return p, s.collectStacks()
}

func (s *Store) collectLayer(ctx context.Context, diffID v1.Hash) error {
	release, err := s.locks.Acquire(ctx, content.Byte(diffID))
	if err != nil {
		return err
	}
	defer release()
	return s.removeLayer(layerName(diffID))
}

// collectStacks removes the stacks, and the mends, of bases that are not mounted:
// they are made again in no time.
func (s *Store) collectStacks() error {
	points, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	used := s.usedStacks(points)
	// Records first: without them there is nothing to be missed.
	for _, pattern := range []string{"stacks/*", "mends/*.json", "mends/*"} {
		names, err := filepath.Glob(filepath.Join(escapeGlob(s.dir), pattern))
		if err != nil {
			return err
		}
		for _, name := range names {
			id, _, _ := strings.Cut(filepath.Base(name), ".")
			if used[id] {
				continue
			}
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// escapeGlob makes a pattern that matches nothing but the name.
func escapeGlob(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
