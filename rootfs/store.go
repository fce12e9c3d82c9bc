package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/rootfs/erofs"
	"github.com/slipway-vm/slipway/rootfs/layer"
)

// Kinds of error, to be tested with errors.Is.
var (
	// ErrNotFound: a layer image or an overlay is not there.
	ErrNotFound = errors.New("not found")
	// ErrCorrupt: bytes are not what their digest says. The message names it.
	ErrCorrupt = content.ErrCorrupt
	// ErrMalformed: a layer cannot be unpacked, though its digest is right.
	ErrMalformed = layer.ErrMalformed
	// ErrTooLarge: an image passes the limits.
	ErrTooLarge = layer.ErrTooLarge
	// ErrUnsupported: the host's kernel cannot do what is asked.
	ErrUnsupported = errors.New("not supported by this host")
	// ErrBusy: something is still in use.
	ErrBusy = errors.New("in use")
)

// Locks that are no layer's.
const (
	lockMounts = content.Reserved + iota
	lockTemplates
	lockMends
	lockPrune
)

// Limits bound what one image may unpack to, and what that takes.
type Limits struct {
	Bytes  int64 // 0 means 64 GiB
	Inodes int64 // 0 means two million
	// Memory is what unpacking may take with the number of files and zstd's
	// windows, all layers together; one layer may take three quarters of it.
	// 0 means 96 MiB.
	Memory int64
}

// Config says where a store is and what it may do.
type Config struct {
	Dir    string
	Log    *slog.Logger // nil: none
	Limits Limits
	// Processors is the number of those that unpacking may use; 0 means GOMAXPROCS.
	Processors int
	// Parallel is the number of layers unpacked at once, of all images
	// together; 0 means one more than there are processors, from three to eight.
	Parallel int
	// LoopLayers mounts layer images by loop device even where the kernel
	// could do without.
	LoopLayers bool
}

// Store keeps layer images, and mounts them. Its methods are safe for
// concurrent use, by several processes too.
type Store struct {
	config  Config
	log     *slog.Logger
	dir     string
	id      string // tells this store's mounts from those of others
	locks   content.Locks
	flights flights
	sealer  *sealer
	slots   chan struct{} // one for each layer that may be unpacked at once
	memory  *memory
}

// Open opens the store at a directory, which is made if missing, and removes
// what was left half made.
func Open(ctx context.Context, c Config) (*Store, error) {
	dir, err := realDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open root store %s: %w", c.Dir, err)
	}
	if c.Limits.Bytes == 0 {
		c.Limits.Bytes = 64 << 30
	}
	if c.Limits.Inodes == 0 {
		c.Limits.Inodes = 2_000_000
	}
	if c.Limits.Memory == 0 {
		c.Limits.Memory = 96 << 20
	}
	if c.Processors <= 0 {
		c.Processors = runtime.GOMAXPROCS(0)
	}
	if c.Parallel <= 0 {
		c.Parallel = min(max(3, c.Processors+1), 8)
	}
	// A file mounted without a loop device counts as a stacked file system, of
	// which Linux allows two: our overlay, and one below it.
	var on unix.Statfs_t
	if err := unix.Statfs(dir, &on); err == nil && on.Type == unix.OVERLAYFS_SUPER_MAGIC {
		c.LoopLayers = true
	}
	s := &Store{slots: make(chan struct{}, c.Parallel), memory: newMemory(c.Limits.Memory), config: c, log: c.Log, dir: dir, locks: content.Locks{Path: filepath.Join(dir, "lock")}, sealer: newSealer()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("open root store %s: %w", dir, err)
	}
	return s, nil
}

// realDir makes a directory and gives its name as the kernel shows it in its
// list of mounts.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

func (s *Store) prepare(ctx context.Context) error {
	for _, d := range []string{"layers", "mends", "mounts", "stacks", "templates", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.dir, d), 0o700); err != nil {
			return err
		}
	}
	release, err := s.locks.Acquire(ctx, lockMounts)
	if err != nil {
		return err
	}
	defer release()
	if err := s.identify(); err != nil {
		return err
	}
	if err := s.sweepLayers(); err != nil {
		return err
	}
	if err := content.Sweep(s.path("tmp")); err != nil {
		return err
	}
	return s.releaseLayers()
}

// identify reads or makes the name that marks this store's mounts.
func (s *Store) identify() error {
	name := s.path("id")
	b, err := os.ReadFile(name)
	if err == nil && len(strings.TrimSpace(string(b))) == 16 {
		s.id = strings.TrimSpace(string(b))
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.id = randomID()
	f, err := content.Temporary(s.path("tmp"), "id-*")
	if err != nil {
		return err
	}
	if _, err = f.WriteString(s.id + "\n"); err == nil {
		err = content.Commit(f, name)
	}
	if err != nil {
		content.Discard(f)
		return err
	}
	return f.Close()
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func layerName(diffID v1.Hash) string { return diffID.Algorithm + "-" + diffID.Hex }

func (s *Store) imagePath(diffID v1.Hash) string {
	return s.path("layers", layerName(diffID)+".erofs")
}

func (s *Store) recordPath(diffID v1.Hash) string {
	return s.path("layers", layerName(diffID)+".json")
}

// Layer is one layer image.
type Layer struct {
	DiffID v1.Hash   `json:"diff_id"`
	Made   time.Time `json:"made"`
	// Size is the file's length, Bytes what the layer's files hold.
	Size   int64 `json:"size"`
	Bytes  int64 `json:"bytes"`
	Inodes int64 `json:"inodes"`

	// Digest is the layer image's own, once it is sealed; until then Boot says
	// in which run of the kernel it was made.
	Digest v1.Hash `json:"digest,omitzero"`
	Boot   string  `json:"boot,omitempty"`
	// Damaged: Verify found another digest. It is used as long as there is no other,
	// and made anew by the next Unpack.
	Damaged bool `json:"damaged,omitempty"`

	Recipe      int        `json:"recipe"`
	Root        erofs.Attr `json:"root"`
	RootImplied bool       `json:"root_implied,omitempty"`
	RootOpaque  bool       `json:"root_opaque,omitempty"`
	// Implied is how many directories the layer has no entry for but files in.
	Implied int64 `json:"implied_dirs,omitempty"`
	// Links are hard links to files that only layers below can have. Names are
	// bytes, which a JSON string would not keep.
	Links []link `json:"links,omitempty"`
	// Capable are the files with capabilities.
	Capable [][]byte `json:"capable,omitempty"`
}

// link is a hard link, by paths from the root.
type link struct {
	Name   []byte `json:"name"`
	Target []byte `json:"target"`
}

// recipe is the version of what a layer is turned into. Layer images of
// another are made anew.
const recipe = 2

// lookup reads a layer image's record.
func (s *Store) lookup(diffID v1.Hash) (*Layer, error) {
	if err := validHash(diffID); err != nil {
		return nil, err
	}
	var l Layer
	err := content.ReadRecord(s.recordPath(diffID), &l)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, content.ErrCorrupt), err == nil && (l.DiffID != diffID || !l.present()):
		// A record that power failed on may be anything: the layer is made
		// anew over it.
		return nil, fmt.Errorf("layer image %s: %w", diffID, ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("layer image %s: %w", diffID, err)
	}
	st, err := os.Stat(s.imagePath(diffID))
	if errors.Is(err, fs.ErrNotExist) || err == nil && st.Size() != l.Size {
		return nil, fmt.Errorf("layer image %s: %w", diffID, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("layer image %s: %w", diffID, err)
	}
	return &l, nil
}

// whole is lookup for who could make the layer image anew.
func (s *Store) whole(diffID v1.Hash) error {
	l, err := s.lookup(diffID)
	if err == nil && l.Damaged {
		return fmt.Errorf("layer image %s is damaged: %w", diffID, ErrNotFound)
	}
	return err
}

// validHash keeps what becomes a file name from being a path.
func validHash(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 64 || strings.Trim(h.Hex, "0123456789abcdef") != "" {
		return fmt.Errorf("diff ID %q: %w", h, ErrCorrupt)
	}
	return nil
}

// sweepLayers removes what has no valid record: its maker died between the two
// renames, or its remover between the two removals, or the power failed before
// it was sealed. What is valid and unsealed is sealed.
func (s *Store) sweepLayers() error {
	entries, err := os.ReadDir(s.path("layers"))
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, e := range entries {
		stem := strings.TrimSuffix(strings.TrimSuffix(e.Name(), ".erofs"), ".json")
		if seen[stem] {
			continue
		}
		seen[stem] = true
		if err := s.sweepLayer(stem); err != nil {
			return err
		}
	}
	return nil
}

// sweepLayer leaves alone what is being made this moment.
func (s *Store) sweepLayer(stem string) error {
	algorithm, hex, _ := strings.Cut(stem, "-")
	h := v1.Hash{Algorithm: algorithm, Hex: hex}
	release, ok, err := s.locks.Try(content.Byte(h))
	if err != nil || !ok {
		return err
	}
	defer release()
	l, err := s.lookup(h)
	switch {
	case err == nil && !l.Sealed():
		s.seal(l)
		return nil
	case err == nil:
		return nil
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt):
		return err
	}
	s.log.Warn("incomplete layer image removed", "diff_id", h)
	return s.removeLayer(stem)
}

// removeLayer unlinks a layer image, its record first; its lock is held.
func (s *Store) removeLayer(stem string) error {
	for _, suffix := range []string{".json", ".erofs"} {
		if err := os.Remove(s.path("layers", stem+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
