package content

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

var (
	// ErrNotFound: no blob of that digest.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt: bytes are not what their digest says.
	ErrCorrupt = errors.New("corrupt")
)

// Store keeps blobs in a directory.
type Store struct{ dir string }

// Open opens the store at dir, which is made if missing, and removes what was
// left half written.
func Open(dir string) (*Store, error) {
	s := &Store{dir}
	for _, d := range []string{s.tmp(), filepath.Join(dir, "sha256")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("open content store: %w", err)
		}
	}
	if err := Sweep(s.tmp()); err != nil {
		return nil, fmt.Errorf("open content store: %w", err)
	}
	return s, nil
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

// path refuses digests that are no plain sha256: they come from foreign files.
func (s *Store) path(h v1.Hash) (string, error) {
	if err := Valid(h); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, h.Algorithm, h.Hex), nil
}

// Valid keeps what becomes a file name from being a path.
func Valid(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 || strings.Trim(h.Hex, "0123456789abcdef") != "" {
		return fmt.Errorf("digest %q: %w", h, ErrCorrupt)
	}
	return nil
}

// Put keeps b, which must have the digest h. What is there and whole stays. It does
// not wait for the disk: what a power failure takes, or leaves half, Bytes does not
// give.
func (s *Store) Put(h v1.Hash, b []byte) error {
	name, err := s.path(h)
	if err != nil {
		return err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(b)); err != nil || got != h {
		return fmt.Errorf("blob %s has digest %s: %w", h, got, ErrCorrupt)
	}
	if _, err := s.Bytes(h); err == nil {
		return nil
	}
	f, err := Temporary(s.tmp(), "blob-*")
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		if err = f.Chmod(0o400); err == nil {
			err = os.Rename(f.Name(), name)
		}
	}
	if err != nil {
		Discard(f)
		return fmt.Errorf("keep blob %s: %w", h, err)
	}
	return f.Close()
}

// Sync makes blobs durable that were put.
func (s *Store) Sync(hashes ...v1.Hash) error {
	for _, h := range hashes {
		f, err := s.Open(h)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("blob %s: %w", h, err)
		}
	}
	return SyncDir(filepath.Join(s.dir, "sha256"))
}

// Adopt keeps the file f, which was made by [Temporary] in the same file system and
// has the digest h, durably.
func (s *Store) Adopt(h v1.Hash, f *os.File) error {
	name, err := s.path(h)
	if err != nil {
		return err
	}
	if err := f.Chmod(0o400); err != nil {
		return fmt.Errorf("keep blob %s: %w", h, err)
	}
	if err := Commit(f, name); err != nil {
		return fmt.Errorf("keep blob %s: %w", h, err)
	}
	return nil
}

// Open opens a blob, unchecked.
func (s *Store) Open(h v1.Hash) (*os.File, error) {
	name, err := s.path(h)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", h, ErrNotFound)
	}
	return f, err
}

// Bytes reads a blob and checks it.
func (s *Store) Bytes(h v1.Hash) ([]byte, error) {
	name, err := s.path(h)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s: %w", h, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", h, err)
	}
	if got, _, err := v1.SHA256(bytes.NewReader(b)); err != nil || got != h {
		return nil, fmt.Errorf("blob %s has digest %s: %w", h, got, ErrCorrupt)
	}
	return b, nil
}

// Verify reads a blob and compares it with its digest.
func (s *Store) Verify(ctx context.Context, h v1.Hash) error {
	f, err := s.Open(h)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { _ = f.Close() })()
	got, _, err := v1.SHA256(f)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("blob %s: %w", h, err)
	case got != h:
		return fmt.Errorf("blob %s has digest %s: %w", h, got, ErrCorrupt)
	}
	return nil
}

// List names the blobs.
func (s *Store) List() ([]v1.Hash, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "sha256"))
	if err != nil {
		return nil, err
	}
	hashes := make([]v1.Hash, 0, len(entries))
	for _, e := range entries {
		hashes = append(hashes, v1.Hash{Algorithm: "sha256", Hex: e.Name()})
	}
	return hashes, nil
}

// Delete removes a blob; one that is not there is no error.
func (s *Store) Delete(h v1.Hash) error {
	name, err := s.path(h)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
