package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-vm/slipway/images/content"
	"github.com/slipway-vm/slipway/images/glance"
)

// Config says where a store is and how it reaches registries.
type Config struct {
	Dir string
	Log *slog.Logger // nil: none
	// Keychain finds credentials; nil means ~/.docker/config.json and its
	// helpers.
	Keychain authn.Keychain
	// Insecure lists registries (HOST[:PORT]) that may be spoken to by plain
	// HTTP or with a certificate nobody vouches for. Loopback ones always may
	// by HTTP.
	Insecure []string
	// Mirrors lists, per registry, others (HOST[:PORT][/PREFIX]) asked first.
	Mirrors map[string][]string
	// CAFiles are PEM files of authorities trusted beside the system's.
	CAFiles []string
	// UserAgent names the program to registries.
	UserAgent string
	// Glance is where references with glance: point; nil: nowhere.
	Glance *glance.Client
}

// Store remembers images and resolves references. It is safe for concurrent
// use, by several processes too.
type Store struct {
	log    *slog.Logger
	dir    string
	blobs  *content.Store
	locks  content.Locks
	config Config
	base   *baseTransport

	mu      sync.Mutex
	clients map[string]*client
}

// Record is an image that is remembered.
type Record struct {
	// ID is the hex digest of the image's configuration.
	ID        string
	Reference string
	// Digest is the manifest's.
	Digest  v1.Hash
	Config  *v1.ConfigFile
	DiffIDs []v1.Hash
	// Size is that of the layers as a registry holds them.
	Size    int64
	Created time.Time
	Pulled  time.Time
	// Own says that some of its layers are nowhere but here.
	Own bool
}

// entry is a record as it is kept.
type entry struct {
	Reference string    `json:"reference"`
	Digest    v1.Hash   `json:"digest"`
	Config    v1.Hash   `json:"config"`
	Pulled    time.Time `json:"pulled"`
	Origin    *origin   `json:"origin,omitempty"`
	Made      *made     `json:"made,omitempty"` // nil: not here
}

// Open opens the store at a directory, which is made if missing.
func Open(c Config) (*Store, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("open image store %s: %w", c.Dir, err)
	}
	s := &Store{log: c.Log, dir: dir, config: c, locks: content.Locks{Path: filepath.Join(dir, "lock")}, clients: map[string]*client{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.config.Keychain == nil {
		s.config.Keychain = authn.DefaultKeychain
	}
	for _, d := range []string{"records", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("open image store %s: %w", dir, err)
		}
	}
	if err := content.Sweep(filepath.Join(dir, "tmp")); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	if s.blobs, err = content.Open(filepath.Join(dir, "blobs")); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	if s.base, err = newBaseTransport(s.config); err != nil {
		return nil, fmt.Errorf("open image store %s: %w", dir, err)
	}
	return s, nil
}

// lockRecords is held while records or the blobs they need change.
const lockRecords = content.Reserved

func (s *Store) entryPath(reference string) string {
	sum := sha256.Sum256([]byte(reference))
	return filepath.Join(s.dir, "records", hex.EncodeToString(sum[:16])+".json")
}

// Save remembers an image under its reference. It should have been unpacked
// by then: what is remembered is not asked of the registry again. It does not wait
// for the disk, as unpacking does not: a power failure soon after may take what was
// saved, whole, and the image is then pulled anew. For an image that was made here,
// and is nowhere else, it waits.
func (s *Store) Save(ctx context.Context, i *Image) (Record, error) {
	r, err := s.save(ctx, i)
	if err != nil {
		return Record{}, fmt.Errorf("save image %s: %w", i.Reference, err)
	}
	return r, nil
}

func (s *Store) save(ctx context.Context, i *Image) (Record, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return Record{}, err
	}
	defer release()
	return s.enter(i)
}

// enter keeps an image's entry; the lock of records is held.
func (s *Store) enter(i *Image) (Record, error) {
	raw, err := i.RawManifest()
	if err != nil {
		return Record{}, err
	}
	config, err := i.RawConfigFile()
	if err != nil {
		return Record{}, err
	}
	name, err := i.ConfigName()
	if err != nil {
		return Record{}, err
	}
	if err := errors.Join(s.blobs.Put(name, config), s.blobs.Put(i.Digest, raw)); err != nil {
		return Record{}, err
	}
	write := content.WriteUnsynced
	if i.made != nil {
		if err := s.blobs.Sync(name, i.Digest); err != nil {
			return Record{}, err
		}
		write = content.WriteRecord
	}
	e := entry{Reference: i.Reference, Digest: i.Digest, Config: name, Pulled: time.Now().UTC(), Origin: i.origin, Made: i.made}
	if err := write(filepath.Join(s.dir, "tmp"), s.entryPath(i.Reference), e); err != nil {
		return Record{}, err
	}
	if err := s.sweepBlobs(); err != nil {
		return Record{}, err
	}
	return s.record(e)
}

// record completes an entry from the blobs.
func (s *Store) record(e entry) (Record, error) {
	raw, config, err := s.read(e)
	if err != nil {
		return Record{}, err
	}
	m, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return Record{}, fmt.Errorf("manifest %s: %w", e.Digest, err)
	}
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return Record{}, fmt.Errorf("config %s: %w", e.Config, err)
	}
	r := Record{ID: e.Config.Hex, Reference: e.Reference, Digest: e.Digest, Config: c,
		DiffIDs: c.RootFS.DiffIDs, Created: c.Created.Time, Pulled: e.Pulled, Own: e.Made != nil}
	for _, l := range m.Layers {
		r.Size += l.Size
	}
	return r, nil
}

func (s *Store) read(e entry) (manifest, config []byte, err error) {
	if manifest, err = s.blobs.Bytes(e.Digest); err != nil {
		return nil, nil, err
	}
	config, err = s.blobs.Bytes(e.Config)
	return manifest, config, err
}

// entries reads all entries, by reference.
func (s *Store) entries() ([]entry, error) {
	files, err := os.ReadDir(filepath.Join(s.dir, "records"))
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, f := range files {
		var e entry
		err := content.ReadRecord(filepath.Join(s.dir, "records", f.Name()), &e)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, content.ErrCorrupt) {
			// The power failed on it.
			s.log.Warn("unreadable image record ignored", "record", f.Name(), "err", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", f.Name(), err)
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.Reference, b.Reference) })
	return all, nil
}

// List gives the remembered images, by reference, but for those whose manifest or
// configuration is no longer whole: they are pulled anew when asked for.
func (s *Store) List(ctx context.Context) ([]Record, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	defer release()
	all, err := s.entries()
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	records := make([]Record, 0, len(all))
	for _, e := range all {
		r, err := s.record(e)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
			s.log.Warn("image record incomplete", "image", e.Reference, "err", err)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list images: %s: %w", e.Reference, err)
		}
		records = append(records, r)
	}
	return records, nil
}

// Lookup finds a remembered image by reference, manifest digest, ID, or a
// prefix of the ID. An ID several references share gives the first.
func (s *Store) Lookup(ctx context.Context, what string) (Record, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return Record{}, fmt.Errorf("image %s: %w", what, err)
	}
	defer release()
	found, err := s.find(what)
	if err != nil {
		return Record{}, fmt.Errorf("image %s: %w", what, err)
	}
	return s.record(found[0])
}

// Delete forgets an image, as Lookup finds it: by its ID or digest, under all
// its references; by a reference, under that one. It gives the record that
// Lookup would have.
func (s *Store) Delete(ctx context.Context, what string) (Record, error) {
	r, err := s.remove(ctx, what)
	if err != nil {
		return Record{}, fmt.Errorf("delete image %s: %w", what, err)
	}
	return r, nil
}

func (s *Store) remove(ctx context.Context, what string) (Record, error) {
	release, err := s.locks.Acquire(ctx, lockRecords)
	if err != nil {
		return Record{}, err
	}
	defer release()
	found, err := s.find(what)
	if err != nil {
		return Record{}, err
	}
	r, err := s.record(found[0])
	if err != nil {
		// What cannot be read can still be deleted.
		s.log.Warn("image record incomplete", "image", found[0].Reference, "err", err)
		r = Record{ID: found[0].Config.Hex, Reference: found[0].Reference, Digest: found[0].Digest, Pulled: found[0].Pulled}
	}
	for _, e := range found {
		if err := os.Remove(s.entryPath(e.Reference)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Record{}, err
		}
	}
	if err := content.SyncDir(filepath.Join(s.dir, "records")); err != nil {
		return Record{}, err
	}
	return r, s.sweepBlobs()
}

// find gives the entries meant by a reference (one), a digest or an ID (all of
// one image).
func (s *Store) find(what string) ([]entry, error) {
	all, err := s.entries()
	if err != nil {
		return nil, err
	}
	if ref, err := ParseReference(what); err == nil {
		for _, e := range all {
			if e.Reference == ref.String() {
				return []entry{e}, nil
			}
		}
	}
	prefix := strings.TrimPrefix(what, "sha256:")
	if len(prefix) < 4 || strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil, ErrNotFound
	}
	var found []entry
	for _, e := range all {
		if strings.HasPrefix(e.Config.Hex, prefix) || strings.HasPrefix(e.Digest.Hex, prefix) {
			if len(found) > 0 && found[0].Config != e.Config {
				return nil, fmt.Errorf("%w: both %s and %s", ErrAmbiguous, found[0].Reference, e.Reference)
			}
			found = append(found, e)
		}
	}
	if found == nil {
		return nil, ErrNotFound
	}
	return found, nil
}

// sweepBlobs removes the blobs no record needs; the lock of records is held.
func (s *Store) sweepBlobs() error {
	all, err := s.entries()
	if err != nil {
		return err
	}
	keep := map[v1.Hash]bool{}
	for _, e := range all {
		keep[e.Digest], keep[e.Config] = true, true
		if e.Made != nil {
			for _, h := range e.Made.Layers {
				keep[h] = true
			}
		}
	}
	hashes, err := s.blobs.List()
	if err != nil {
		return err
	}
	for _, h := range hashes {
		if !keep[h] {
			if err := s.blobs.Delete(h); err != nil {
				return err
			}
		}
	}
	return nil
}
