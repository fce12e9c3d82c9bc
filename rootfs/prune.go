package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images/content"
)

// Prune removes the layer images that are neither in keep nor mounted, and gives
// the bytes that were freed. Whoever calls it sees to it that nobody is about to
// use one of those meanwhile.
func (s *Store) Prune(ctx context.Context, keep []v1.Hash) (freed int64, err error) {
	used := map[string]bool{}
	for _, d := range keep {
		used[layerName(d)] = true
	}
	release, err := s.locks.Acquire(ctx, lockMounts)
	if err != nil {
		return 0, err
	}
	defer release()
	points, err := mountPoints()
	if err != nil {
		return 0, err
	}
	for _, p := range points {
		if name, ok := strings.CutPrefix(p.target, s.path("mounts")+"/"); ok {
			used[name] = true
		}
	}
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range entries {
		name, isRecord := strings.CutSuffix(e.Name(), ".json")
		if !isRecord || used[name] {
			continue
		}
		n, err := s.pruneLayer(ctx, name)
		freed += n
		errs = append(errs, err)
	}
	return freed, errors.Join(errs...)
}

// pruneLayer removes a layer image and gives its size.
func (s *Store) pruneLayer(ctx context.Context, name string) (int64, error) {
	algorithm, hex, _ := strings.Cut(name, "-")
	release, err := s.locks.Acquire(ctx, content.Byte(v1.Hash{Algorithm: algorithm, Hex: hex}))
	if err != nil {
		return 0, err
	}
	defer release()
	info, err := os.Lstat(s.path("layers", name+".erofs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("remove layer image: %w", err)
	}
	if err := s.removeLayer(name); err != nil {
		return 0, fmt.Errorf("remove layer image: %w", err)
	}
	if info == nil {
		return 0, nil
	}
	return info.Size(), nil
}
