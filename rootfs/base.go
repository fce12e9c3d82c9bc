package rootfs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/rootfs/erofs"
)

// Base is the read-only part of a server's root: an image's layer images.
type Base struct {
	// ID names the stack and the recipe it was made by.
	ID string
	// DiffIDs are the image's, bottom first.
	DiffIDs []v1.Hash
	// Layers are those that count, bottom first: not the ones a later layer
	// hides entirely, and none twice.
	Layers []*Layer
	// Root is what the merged root directory has for attributes.
	Root erofs.Attr

	store *Store
	stack []stacked // layers and, where one is needed, the mend
}

// Base gives the base of an image whose layers have been unpacked, or
// ErrNotFound naming one that has not.
func (s *Store) Base(diffIDs []v1.Hash) (*Base, error) {
	return s.base(context.Background(), diffIDs)
}

func (s *Store) base(ctx context.Context, diffIDs []v1.Hash) (*Base, error) {
	b := &Base{DiffIDs: slices.Clone(diffIDs), store: s, Root: erofs.Attr{Mode: erofs.ModeDir | 0o755}}
	root := false
	seen := map[v1.Hash]bool{}
	for _, d := range slices.Backward(diffIDs) {
		// A layer that comes again higher up says nothing new here.
		if seen[d] {
			continue
		}
		seen[d] = true
		l, err := s.lookup(d)
		if err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
		if !l.RootImplied && !root {
			b.Root, root = l.Root, true
		}
		s.touch(d)
		b.Layers = append(b.Layers, l)
		if l.RootOpaque {
			break
		}
	}
	slices.Reverse(b.Layers)
	sum := sha256.New()
	fmt.Fprintf(sum, "recipe %d\n", recipe)
	for _, l := range b.Layers {
		fmt.Fprintf(sum, "%s\n", l.DiffID)
	}
	b.ID = hex.EncodeToString(sum.Sum(nil))[:32]
	var err error
	if b.stack, err = b.mend(ctx); err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	return b, nil
}

// stacked is one file-system image of a base, and the name it is mounted by.
type stacked struct{ name, image string }

// Images are the paths of the base's file-system images, bottom first, for
// those who attach them as disks.
func (b *Base) Images() []string {
	paths := make([]string, 0, len(b.stack))
	for _, x := range b.stack {
		paths = append(paths, x.image)
	}
	return paths
}

// Capable are the paths, from the root, at which layers have files with
// capabilities; what is on top of them may be another matter.
func (b *Base) Capable() []string {
	var paths []string
	for _, l := range b.Layers {
		for _, p := range l.Capable {
			paths = append(paths, string(p))
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func randomID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
